/**
 * Which rows must be here before a statement runs, table by table (design.md §7 "Pull planner"). It may ask for too much, never for too little.
 *
 * | label | the statement's use of a table | needed before it runs |
 * |-------|--------------------------------|------------------------|
 * | narrowed | in FROM, or UPDATE's and DELETE's target, with conditions on its key that hold for every row that matters (key-conditions.ts) | the keys' ranges |
 * | by index | the same on an index's leading columns | the index's ranges, and with them the rows (held-indexes.ts) |
 * | whole | the same, without such conditions; `x IN table` | all |
 * | view | a view | all of what the view reads |
 * | insert | INSERT's target without unique indexes | the keys that VALUES name; others are looked for when the statement has run (touched-rows.ts) |
 * | unique | INSERT's target with unique indexes; UPDATE's, where it may change an indexed value | all: an equal value may be in any row |
 * | triggered | a user's trigger or a foreign-key action opens it | all |
 * | unnamed | the program opens it, and no row above says why | all |
 * | parent | what is written refers to it, by its key | none: the parents of the written rows, when the statement has run |
 * | parent, unique | likewise, by a unique index | all |
 * | child | rows of it may refer to a value that goes: its parent's rows are deleted or replaced, or referenced columns set | all |
 *
 * What several uses need is united.
 */
import type { Database } from "better-sqlite3";
import type { SqlValue } from "../../base/values.js";
import type { LocalForeignKey, LocalSchema, LocalTable, UniqueIndex } from "../local-schema.js";
import { foldName, isRowidName, quoteName, sameName } from "../parse/names.js";
import { parameterNumbers } from "../parse/normalise-parameters.js";
import {
  type Expr,
  type InsertStmt,
  isFault,
  type ParsedStatement,
  parseStatement,
  type QualifiedName,
  type SelectTable,
  type SetAssignment,
  type Stmt,
  type Upsert,
  walk,
} from "../parse/sqlite-grammar.js";
import { keyPlace, type Reference, type Scope, scopeOf, selectorOf } from "./key-conditions.js";
import { type KeySelector, rangesMax, type ValueSource } from "./key-selector.js";
import { type Uses, usesOf } from "./program-uses.js";
import { isSearch } from "./typed-values.js";

export interface TablePull {
  readonly table: LocalTable;
  /** Parts that are needed; null: the whole table. */
  readonly selectors: readonly KeySelector[] | null;
  /** For people: why, of each use that had a say. */
  readonly reasons: readonly string[];
}

export interface PlannedStatement {
  /** With its parameters normalised, as the client wrote it otherwise. */
  readonly sql: string;
  readonly uses: Uses;
  readonly schema: LocalSchema;
  readonly foreignKeys: boolean;
  readonly main: Database;
}

export function pullsOf(statement: PlannedStatement): readonly TablePull[] {
  const parsed = parseStatement(statement.sql);
  if (isFault(parsed)) return [...allOf(statement.uses)].map((table) => ({ table, selectors: null, reasons: ["its text could not be read again"] }));
  const planner = new Planner(statement, parsed);
  planner.planText();
  planner.planProgram();
  if (statement.foreignKeys) planner.planForeignKeys();
  return planner.pulls();
}

function allOf({ read, written }: Uses): Set<LocalTable> {
  return new Set([...read, ...written]);
}

interface Need {
  selectors: KeySelector[] | null;
  readonly reasons: Set<string>;
}

class Planner {
  readonly #statement: PlannedStatement;
  readonly #parsed: ParsedStatement;
  readonly #needs = new Map<LocalTable, Need>();
  readonly #withNames = new Set<string>();
  readonly #seen = new Set<SelectTable>();
  readonly #numbers: ReadonlyMap<number, number>;

  constructor(statement: PlannedStatement, parsed: ParsedStatement) {
    this.#statement = statement;
    this.#parsed = parsed;
    this.#numbers = parameterNumbers(parsed.tokens);
    walk(parsed.root, (node) => {
      if (node.type === "CommonTableExpr") this.#withNames.add(foldName(node.tblName.text));
    });
  }

  pulls(): TablePull[] {
    return [...this.#needs].map(([table, { selectors, reasons }]) => ({ table, selectors, reasons: [...reasons] }));
  }

  #add(table: LocalTable, selectors: readonly KeySelector[] | null, reason: string): void {
    let need = this.#needs.get(table);
    if (need === undefined) {
      need = { selectors: [], reasons: new Set() };
      this.#needs.set(table, need);
    }
    if (selectors === null) {
      if (need.selectors !== null) need.reasons.clear();
      need.selectors = null;
    } else need.selectors?.push(...selectors);
    if (selectors === null || need.selectors !== null) need.reasons.add(reason);
  }

  // What the text names.

  planText(): void {
    walk(this.#parsed.root, (node) => {
      switch (node.type) {
        case "SelectFrom":
          this.#planScope(node.from, node.whereClause, null);
          break;
        case "UpdateStmt":
          this.#planScope(node.from, node.whereClause, this.#target(node.tblName));
          this.#planUpdate(node);
          break;
        case "DeleteStmt":
          this.#planScope(undefined, node.whereClause, this.#target(node.tblName));
          break;
        case "InsertStmt":
          this.#planInsert(node);
          break;
        case "InTableExpr":
          this.#planName(node.rhs, "all of its rows are compared with");
          break;
        default:
      }
    });
    // Wherever else a table may stand.
    walk(this.#parsed.root, (node) => {
      if (node.type === "TableSelectTable" && !this.#seen.has(node)) this.#planName(node.tblName, "it stands in a join in parentheses");
    });
  }

  #table(name: QualifiedName): LocalTable | null {
    const schema = name.dbName === undefined ? null : foldName(name.dbName.text);
    if (schema !== null && schema !== "main") return null;
    const folded = foldName(name.objName.text);
    return schema === null && this.#withNames.has(folded) ? null : (this.#statement.schema.tablesByName.get(folded) ?? null);
  }

  #target(name: QualifiedName): Reference {
    const folded = foldName(name.objName.text);
    // A WITH's name cannot be written to.
    const table = this.#statement.schema.tablesByName.get(folded) ?? null;
    return { node: null, table, name: foldName((name.alias ?? name.objName).text), own: [] };
  }

  #planScope(from: Parameters<typeof scopeOf>[0], where: Expr | undefined, target: Reference | null): void {
    const scope = scopeOf(from, where, target, (node) => this.#reference(node));
    if (scope === null) return;
    for (const reference of scope.references) {
      const { node, table } = reference;
      if (node !== null) this.#seen.add(node);
      if (table !== null) this.#planReference(table, scope, reference);
      else if (node?.type === "TableSelectTable") this.#planName(node.tblName, "");
    }
  }

  #reference(node: SelectTable): Reference {
    const table = node.type === "TableSelectTable" ? this.#table(node.tblName) : null;
    const alias = "alias" in node ? node.alias?.name.text : undefined;
    const name = alias ?? (node.type === "TableSelectTable" ? node.tblName.objName.text : null);
    return { node, table, name: name === null ? null : foldName(name), own: [] };
  }

  #planReference(table: LocalTable, scope: Scope, reference: Reference): void {
    let best: KeySelector | null = null;
    for (const index of [null, ...table.indexes]) {
      const selector = selectorOf(scope, reference, index, (expr) => this.#valueOf(expr));
      if (selector === null || (best !== null && selectivity(table, selector) <= selectivity(table, best))) continue;
      if (isSearch(this.#statement.main, table, index, selector.equal.length, selector.low !== null, selector.high !== null)) best = selector;
    }
    if (best === null) this.#add(table, null, "no condition narrows its primary key, or an index");
    else this.#add(table, [best], best.index === null ? "narrowed by its primary key" : `narrowed by the index ${best.index.name}`);
  }

  /** A table, a view, or a WITH's name, whose own SELECT says what it needs. A table of that name is then taken whole: it may be meant elsewhere. */
  #planName(name: QualifiedName, reason: string): void {
    const { schema, main } = this.#statement;
    const schemaName = name.dbName === undefined ? null : foldName(name.dbName.text);
    if (schemaName !== null && schemaName !== "main") return;
    const folded = foldName(name.objName.text);
    const table = schema.tablesByName.get(folded);
    if (table !== undefined) this.#add(table, null, reason === "" ? "WITH has a name like it" : reason);
    else if (schema.objects.get(folded)?.object.type === "view")
      for (const used of allOf(usesOf(main, `SELECT * FROM main.${quoteName(folded)}`, [], schema, null)))
        this.#add(used, null, `the view ${name.objName.text} reads it`);
  }

  #valueOf(expr: Expr): ValueSource | null {
    switch (expr.type) {
      case "VariableExpr": {
        const number = this.#numbers.get(expr.span.offset);
        return number === undefined ? null : { kind: "parameter", number };
      }
      case "NumericLiteral":
      case "StringLiteral":
      case "BlobLiteral":
        return this.#literal(expr, "");
      case "NullLiteral":
        return { kind: "literal", value: null };
      case "UnaryExpr":
        return expr.expr.type === "NumericLiteral" && (expr.op === "Negative" || expr.op === "Positive")
          ? this.#literal(expr.expr, expr.op === "Negative" ? "-" : "+")
          : null;
      default:
        return null;
    }
  }

  /** What SQLite takes the text for. */
  #literal({ span }: Expr, sign: string): ValueSource {
    const text = this.#parsed.sql.slice(span.offset, span.offset + span.length);
    const value = this.#statement.main.prepare<[], SqlValue>(`SELECT ${sign}${text}`).pluck().get() ?? null;
    return { kind: "literal", value };
  }

  #planInsert(insert: InsertStmt): void {
    const table = this.#target(insert.tblName).table;
    if (table === null) return;
    if (table.uniques.length > 0) this.#add(table, null, "a unique index may have an equal value in any row");
    else this.#add(table, this.#insertedKeys(table, insert), "the keys of the new rows");
  }

  /** Of the rows of VALUES whose keys are written out. */
  #insertedKeys(table: LocalTable, { columns, body }: InsertStmt): KeySelector[] {
    if (body.type !== "SelectInsertBody" || body.select.select.type !== "SelectValues" || table.identity === "rowid") return [];
    const names = columns?.map((name) => name.text) ?? table.columns.map((column) => column.name);
    const places = table.keyNames.map((_, column) => names.findIndex((name) => keyPlace(table, name) === column));
    if (places.includes(-1) || body.select.select.values.length > rangesMax) return [];
    if (!isSearch(this.#statement.main, table, null, places.length, false, false)) return [];
    return body.select.select.values.flatMap(({ values }) => {
      const equal = places.map((place) => (values[place] === undefined ? null : this.#valueOf(values[place])));
      const known = equal.filter((source) => source !== null);
      return known.length === places.length ? [{ index: null, equal: known.map((source) => [source]), low: null, high: null }] : [];
    });
  }

  #planUpdate(update: Extract<Stmt, { type: "UpdateStmt" }>): void {
    const table = this.#target(update.tblName).table;
    if (table?.uniques.some((index) => maySetIndex(table, index, update.sets)) === true)
      this.#add(table, null, "a unique index that it may change can have an equal value in any row");
  }

  // What the program opens beside.

  planProgram(): void {
    const { uses, foreignKeys } = this.#statement;
    for (const table of uses.triggered) this.#add(table, null, "a trigger or a foreign key's action uses it");
    const linked = foreignKeys ? [...uses.written].flatMap((table) => [...table.foreignKeys, ...table.referencedBy]) : [];
    const others = new Set(linked.flatMap(({ parent, child }) => [parent, child]));
    for (const table of uses.named) if (!this.#needs.has(table) && !others.has(table)) this.#add(table, null, "the statement's program opens it");
  }

  planForeignKeys(): void {
    const { uses, main } = this.#statement;
    for (const table of uses.written) {
      const direct = uses.triggered.has(table) ? null : this.#parsed.root;
      for (const foreignKey of table.foreignKeys) {
        const { parent, parentKey } = foreignKey;
        if (parentKey?.kind === "row" && isSearch(main, parent, null, parent.keyNames.length, false, false))
          this.#add(parent, [], "the rows that written ones refer to");
        else this.#add(parent, null, `${table.name} refers to it, not by its primary key`);
      }
      for (const foreignKey of table.referencedBy)
        if (direct === null || mayRelease(this.#statement.schema, direct, foreignKey))
          this.#add(foreignKey.child, null, `its rows may refer to rows of ${table.name} that go`);
    }
  }
}

/** The greater, the fewer rows are likely: one by its key, then by equal columns, then by bounds. */
function selectivity(table: LocalTable, { index, equal, low, high }: KeySelector): number {
  const bounds = (low === null ? 0 : 1) + (high === null ? 0 : 1);
  return index === null && equal.length === table.keyNames.length ? Number.POSITIVE_INFINITY : equal.length * 3 + bounds;
}

/** A column of that name, or one computed from others, or the rowid under one of its names. */
function maySet(table: LocalTable, names: readonly string[], sets: readonly SetAssignment[]): boolean {
  const set = sets.flatMap(({ colNames }) => colNames.map((name) => name.text));
  if (set.some(isRowidName) || names.some((name) => !table.columns.some((column) => sameName(column.name, name)))) return true;
  return set.some((name) => names.some((one) => sameName(one, name)));
}

function maySetIndex(table: LocalTable, index: UniqueIndex, sets: readonly SetAssignment[]): boolean {
  return index.columnNames === null || index.where !== null || maySet(table, index.columnNames, sets);
}

/** The statement may take away a value of the parent that children can refer to. */
function mayRelease(schema: LocalSchema, root: Stmt, { parent, parentNames }: LocalForeignKey): boolean {
  const sets = (list: readonly SetAssignment[]): boolean => maySet(parent, parentNames, list);
  // ON CONFLICT REPLACE may stand behind any constraint of the table.
  const replaces = /\breplace\b/i.test(schema.objects.get(foldName(parent.name))?.object.sql ?? "replace");
  switch (root.type) {
    case "UpdateStmt":
      return replaces || root.orConflict === "Replace" || sets(root.sets);
    case "InsertStmt": {
      if (replaces || root.orConflict === "Replace") return true;
      const upserts = root.body.type === "SelectInsertBody" ? upsertsOf(root.body.upsert) : [];
      return upserts.some(({ doClause }) => doClause.type === "SetUpsertDo" && sets(doClause.sets));
    }
    default:
      return true;
  }
}

function upsertsOf(first: Upsert | undefined): Upsert[] {
  const list: Upsert[] = [];
  for (let one = first; one !== undefined; one = one.next) list.push(one);
  return list;
}
