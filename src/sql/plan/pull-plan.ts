/**
 * Which rows must be here before a statement runs, table by table (design.md §7 "Pull planner"). It may ask for too much, never for too little.
 *
 * | label | the statement's use of a table | needed before it runs |
 * |-------|--------------------------------|------------------------|
 * | narrowed | in FROM, or UPDATE's and DELETE's target, with conditions on its key that hold for every row that matters (key-conditions.ts) | the keys' ranges |
 * | by index | the same on an index's leading columns | the index's ranges, and with them the rows (held-indexes.ts) |
 * | joined | the same, equal to a column of another table of the FROM clause, of a clause around it, or to one that IN (SELECT …) names | the ranges of the values that that table's needed rows have, when these are here (joined-values.ts) |
 * | changed | joined, in a subquery, and the statement itself may write that other table (but for the row that it sets, in SET, where no trigger or action may have changed that before) | all: what that table's rows are then, nobody knows before |
 * | whole | the same, without such conditions; `x IN table` | all |
 * | view | a view | all of what the view reads |
 * | insert | INSERT's target | the keys that VALUES name; others are looked for when the statement has run (missing-rows.ts) |
 * | unique | the unique indexes of INSERT's target, and those that SET may change | the rows with an equal entry, by the leading columns whose values are written out |
 * | unique, any | likewise, where the first one's is not: it is computed, or comes from a SELECT | all: an equal value may be in any row |
 * | triggered | a user's trigger uses it | what its statements narrow it to (trigger-needs.ts), else all |
 * | acted | a foreign-key action changes its rows | as child, below; all, where it may change values of a unique index |
 * | unnamed | the program opens it, and no row above says why | all |
 * | parent | what is written refers to it, by its key or a unique index | none: the parents of the written rows, when the statement has run |
 * | child | rows of it may refer to a value that goes: its parent's rows are deleted or replaced, or referenced columns set | those that refer to what went, by an index that begins with the referring columns, when the statement has run; without one all |
 *
 * What several uses need is united.
 */
import type { Database } from "better-sqlite3";
import type { SqlValue } from "../../base/values.js";
import type { LocalIndex, LocalSchema, LocalTable, UniqueIndex } from "../local-schema.js";
import { foldName, quoteName, sameName } from "../parse/names.js";
import { parameterNumbers } from "../parse/normalise-parameters.js";
import {
  type Expr,
  type InsertStmt,
  isFault,
  kinds,
  type ParsedStatement,
  parseStatement,
  type QualifiedName,
  type Select,
  type SelectFrom,
  type SelectTable,
  type SetAssignment,
  type Stmt,
  type Token,
  walk,
} from "../parse/sqlite-grammar.js";
import { faultOf } from "../statement-faults.js";
import { enclosingScopes, scopesIn } from "./enclosing-scopes.js";
import { isJoinSearch } from "./joined-values.js";
import {
  columnIn,
  keyPlace,
  mayName,
  type NamedColumn,
  noOtherTables,
  type OtherTables,
  type Reference,
  type Scope,
  scopeOf,
  selectorOf,
} from "./key-conditions.js";
import { type ConstantSource, type JoinedSource, type KeySelector, type RowSource, rangesMax, type ValueSource } from "./key-selector.js";
import { type PlannedStatement, planForeignKeys, planProgram } from "./program-pulls.js";
import { type Uses, usesOf } from "./program-uses.js";
import { maySet, maySetIndex, upsertsOf } from "./set-columns.js";
import { type TablePull, TablePulls } from "./table-pulls.js";
import { isSearch } from "./typed-values.js";

export function pullsOf(statement: PlannedStatement): readonly TablePull[] {
  const parsed = parseStatement(statement.sql);
  if (isFault(parsed))
    return [...allOf(statement.uses)].map((table) => ({
      table,
      selectors: null,
      byRow: [],
      isTold: true,
      reasons: ["its text could not be read again"],
    }));
  const planner = new Planner(statement, parsed, null);
  const pulls = planner.planText();
  planProgram(statement, pulls);
  if (statement.foreignKeys) planForeignKeys(statement, parsed.root, pulls);
  return pulls.list();
}

function allOf({ read, written }: Uses): Set<LocalTable> {
  return new Set([...read, ...written]);
}

/** Of one statement in a trigger's body, with the row's values as they are called out. null: it cannot be told what NEW and OLD are there. */
export function pullsInTrigger(sql: string, rowsOf: LocalTable, schema: LocalSchema, main: Database): readonly TablePull[] | null {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return null;
  const isOther = ({ text }: Token, place: number): boolean => rowName.test(text) && parsed.tokens[place + 1]?.type !== kinds.dot;
  if (parsed.tokens.some(isOther)) return null;
  const planner = new Planner({ sql, uses: noUses, schema, foreignKeys: false, main, triggerPulls: () => null }, parsed, rowsOf);
  return planner.planText().list();
}

/** Also in quotes. */
const rowName = /^["'`[]?(new|old)["'`\]]?$/i;

const none: ReadonlySet<LocalTable> = new Set();
const noUses: Uses = {
  read: none,
  written: none,
  named: none,
  triggered: none,
  byTrigger: new Map(),
  acted: none,
  callsNextId: false,
  loops: false,
  elsewhere: "nothing",
};

interface PlannedScope {
  readonly scope: Scope;
  /** null: the whole table. */
  readonly selectors: ReadonlyMap<Reference, KeySelector | null>;
}

class Planner {
  readonly #statement: PlannedStatement;
  readonly #parsed: ParsedStatement;
  readonly #pulls = new TablePulls();
  readonly #withNames = new Set<string>();
  readonly #seen = new Set<SelectTable>();
  readonly #numbers: ReadonlyMap<number, number>;
  /** By their node in the tree. null: its names are not known. */
  readonly #scopes = new Map<object, PlannedScope | null>();
  readonly #enclosing: ReadonlyMap<object, object | null>;
  /** Scopes in the WHERE clause of an UPDATE or DELETE: SQLite finds all its rows before it changes any. */
  readonly #inRootWhere: ReadonlySet<object>;
  /** Those in what its SET computes. */
  readonly #inRootSets: ReadonlySet<object>;
  /** In a trigger's body any row may have changed since the statement began, and NEW and OLD are rows of this table. */
  readonly #firedBy: LocalTable | null;

  constructor(statement: PlannedStatement, parsed: ParsedStatement, firedBy: LocalTable | null) {
    this.#statement = statement;
    this.#parsed = parsed;
    this.#firedBy = firedBy;
    this.#numbers = parameterNumbers(parsed.tokens);
    const { root } = parsed;
    this.#enclosing = enclosingScopes(root);
    this.#inRootWhere = scopesIn(firedBy === null && (root.type === "UpdateStmt" || root.type === "DeleteStmt") ? [root.whereClause] : []);
    this.#inRootSets = scopesIn(firedBy === null && root.type === "UpdateStmt" ? root.sets.map(({ expr }) => expr) : []);
    walk(parsed.root, (node) => {
      if (node.type === "CommonTableExpr") this.#withNames.add(foldName(node.tblName.text));
    });
  }

  // What the text names.

  planText(): TablePulls {
    walk(this.#parsed.root, (node) => {
      switch (node.type) {
        case "SelectFrom":
          this.#planScope(node, node.from, node.whereClause, null);
          break;
        case "UpdateStmt":
          this.#planTarget(node.tblName, this.#planScope(node, node.from, node.whereClause, this.#target(node.tblName)));
          this.#planUpdate(node);
          break;
        case "DeleteStmt":
          this.#planTarget(node.tblName, this.#planScope(node, undefined, node.whereClause, this.#target(node.tblName)));
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
    return this.#pulls;
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

  /** A view; or a table of whose conditions nothing is known. */
  #planTarget(name: QualifiedName, planned: PlannedScope | null): void {
    if (planned === null || this.#target(name).table === null) this.#planName(name, "a join in parentheses stands beside it");
  }

  /** Once: what stands in IN (SELECT …) is planned before the clause around it. */
  #planScope(node: object, from: Parameters<typeof scopeOf>[0], where: Expr | undefined, target: Reference | null): PlannedScope | null {
    const known = this.#scopes.get(node);
    if (known !== undefined) return known;
    const scope = scopeOf(from, where, target, (one) => this.#reference(one));
    const planned = scope === null ? null : { scope, selectors: this.#planReferences(scope, node) };
    this.#scopes.set(node, planned);
    for (const { node, table } of scope?.references ?? []) {
      if (node !== null) this.#seen.add(node);
      if (table === null && node?.type === "TableSelectTable") this.#planName(node.tblName, "");
    }
    return planned;
  }

  /** Before the statement changes any row: SQLite finds all rows first where a condition has a subquery, or rows of other tables have a say. */
  #isReadFirst(node: object): boolean {
    const { root } = this.#parsed;
    if (this.#firedBy !== null) return false;
    if (node === root) return true;
    if (root.type !== "InsertStmt" || root.body.type !== "SelectInsertBody") return false;
    const { select, compounds = [] } = root.body.select;
    return select === node || compounds.some((one) => one.select === node);
  }

  #isChanged(table: LocalTable): boolean {
    const { written, triggered, acted } = this.#statement.uses;
    return this.#firedBy !== null || written.has(table) || triggered.has(table) || acted.has(table);
  }

  /** The column whose values IN is asked of; null: not a column's, or not that simply. */
  #subquery({ with: names, select, compounds }: Select): JoinedSource | null {
    const [result, another] = select.type === "SelectFrom" ? select.columns : [];
    if (select.type !== "SelectFrom" || names !== undefined || compounds !== undefined || another !== undefined) return null;
    const planned = this.#planScope(select, select.from, select.whereClause, null);
    const found = planned === null || result?.type !== "ExprResultColumn" ? null : columnIn(planned.scope, result.expr);
    const table = found?.reference.table ?? null;
    const selector = found === null ? undefined : planned?.selectors.get(found.reference);
    if (found === null || table === null || selector === undefined || this.#isChanged(table)) return null;
    return table.columnNames.some((name) => sameName(name, found.name))
      ? { kind: "joined", table, selector, column: found.name, isLeft: false }
      : null;
  }

  /**
   * What values narrow comes first, the narrowest before others; then what is joined to it, and to that. Where nothing is left that is, the next one is
   * taken whole, and may narrow others in its turn.
   */
  #planReferences(scope: Scope, node: object): PlannedScope["selectors"] {
    const planned = new Map<Reference, KeySelector | null>();
    const open = new Set(scope.references.filter(({ table }) => table !== null));
    while (open.size > 0) {
      let best: { readonly reference: Reference; readonly selector: KeySelector } | null = null;
      for (const reference of open) {
        const selector = this.#bestSelector(scope, reference, planned, node);
        if (selector === null || reference.table === null) continue;
        if (best?.reference.table != null && selectivity(reference.table, selector) <= selectivity(best.reference.table, best.selector)) continue;
        best = { reference, selector };
      }
      const [first] = open;
      const reference = best?.reference ?? first;
      if (reference === undefined) break;
      open.delete(reference);
      planned.set(reference, best?.selector ?? null);
      if (reference.table !== null) this.#addReference(reference.table, best?.selector ?? null);
    }
    return planned;
  }

  #addReference(table: LocalTable, selector: KeySelector | null): void {
    if (selector === null) {
      this.#pulls.add(table, null, "no condition narrows its primary key, or an index");
      return;
    }
    const by = selector.index === null ? "its primary key" : `the index ${selector.index.name}`;
    const outers = selector.equal.flatMap((sources) => sources.flatMap((one) => (one.kind === "joined" ? [one.table.name] : [])));
    this.#pulls.add(table, [selector], `narrowed by ${by}${outers.length === 0 ? "" : `, with values of ${outers.join(", ")}`}`);
  }

  #reference(node: SelectTable): Reference {
    const table = node.type === "TableSelectTable" ? this.#table(node.tblName) : null;
    const alias = "alias" in node ? node.alias?.name.text : undefined;
    const name = alias ?? (node.type === "TableSelectTable" ? node.tblName.objName.text : null);
    return { node, table, name: name === null ? null : foldName(name), own: [] };
  }

  #bestSelector(scope: Scope, reference: Reference, planned: PlannedScope["selectors"], node: object): KeySelector | null {
    const { table } = reference;
    if (table === null) return null;
    const isReadFirst = this.#isReadFirst(node);
    let best: KeySelector | null = null;
    const others: OtherTables = {
      column: (outer, column, isLeft) => {
        const selector = planned.get(outer);
        if (outer.table === null || selector === undefined || !outer.table.columnNames.some((name) => sameName(name, column))) return null;
        return !isReadFirst && this.#isChanged(outer.table) ? null : { kind: "joined", table: outer.table, selector, column, isLeft };
      },
      subquery: (select) => this.#subquery(select),
      enclosing: (column, isLeft) => this.#enclosingColumn(node, column, isLeft),
    };
    for (const index of [null, ...table.indexes]) {
      for (const told of [others, noOtherTables]) {
        const selector = selectorOf(scope, reference, index, (expr) => this.#valueOf(expr), told);
        if (selector === null || (best !== null && selectivity(table, selector) <= selectivity(table, best))) continue;
        if (this.#isSearch(table, index, selector)) best = selector;
      }
    }
    return best;
  }

  /** Of the innermost clause around the node that can mean it: what its rows have that matter is all that the subquery is asked for. */
  #enclosingColumn(node: object, column: NamedColumn, isLeft: boolean): JoinedSource | RowSource | null {
    const ofRow = this.#ofRow(column, isLeft);
    if (ofRow !== null) return ofRow;
    if (isAliasIn(node, column)) return null;
    for (let outer = this.#enclosing.get(node) ?? null; outer !== null; outer = this.#enclosing.get(outer) ?? null) {
      const planned = this.#scopes.get(outer) ?? null;
      if (planned === null) return null;
      if (!mayName(planned.scope, column)) {
        if (isAliasIn(outer, column)) return null;
        continue;
      }
      const found = columnIn(planned.scope, column);
      const table = found?.reference.table ?? null;
      const selector = found === null ? undefined : planned.selectors.get(found.reference);
      if (found === null || table === null || selector === undefined || !table.columnNames.some((name) => sameName(name, found.name))) return null;
      const isAsBefore = !this.#isChanged(table) || this.#inRootWhere.has(node) || this.#isOfRowBefore(outer, node, table);
      return isAsBefore ? { kind: "joined", table, selector, column: found.name, isLeft } : null;
    }
    return null;
  }

  /**
   * In SET: a row's columns are what they were before the statement, which changes each row once, where no trigger and no action changes it as well. A row that
   * takes the key of a later one, by REPLACE, is changed again in its place.
   */
  #isOfRowBefore(outer: object, node: object, table: LocalTable): boolean {
    const { root } = this.#parsed;
    const { triggered, acted } = this.#statement.uses;
    if (root.type !== "UpdateStmt" || outer !== root || !this.#inRootSets.has(node)) return false;
    return !triggered.has(table) && !acted.has(table) && !maySet(table, table.keyNames, root.sets);
  }

  #isSearch(table: LocalTable, index: LocalIndex | null, selector: KeySelector): boolean {
    const { main } = this.#statement;
    const { equal, low, high } = selector;
    const isJoined = equal.some((sources) => sources.some(({ kind }) => kind === "joined" || kind === "row"));
    if (!isJoined) return isSearch(main, table, index, equal.length, low !== null, high !== null);
    return (
      isJoinSearch(main, table, index, selector) &&
      ((low === null && high === null) || isSearch(main, table, index, equal.length, low !== null, high !== null))
    );
  }

  /** A table, a view, or a WITH's name, whose own SELECT says what it needs. A table of that name is then taken whole: it may be meant elsewhere. */
  #planName(name: QualifiedName, reason: string): void {
    const { schema } = this.#statement;
    const schemaName = name.dbName === undefined ? null : foldName(name.dbName.text);
    if (schemaName !== null && schemaName !== "main") return;
    const folded = foldName(name.objName.text);
    const table = schema.tablesByName.get(folded);
    if (table !== undefined) this.#pulls.add(table, null, reason === "" ? "WITH has a name like it" : reason);
    else if (schema.objects.get(folded)?.object.type === "view")
      for (const used of this.#readByView(folded)) this.#pulls.add(used, null, `the view ${name.objName.text} reads it`);
  }

  #readByView(folded: string): ReadonlySet<LocalTable> {
    const { schema, main } = this.#statement;
    try {
      return allOf(usesOf(main, `SELECT * FROM main.${quoteName(folded)}`, [], schema, null));
    } catch (error) {
      // One that does not compile is not what is meant where the statement does.
      if (!this.#withNames.has(folded)) throw error;
      faultOf(error);
      return none;
    }
  }

  /** What a column of NEW or OLD is; null: it is none. */
  #ofRow(expr: Expr, isLeft: boolean): RowSource | null {
    if (this.#firedBy === null || expr.type !== "QualifiedExpr" || expr.schema !== undefined) return null;
    const row = foldName(expr.table.text);
    return row === "new" || row === "old" ? { kind: "row", table: this.#firedBy, row, column: expr.column.text, isLeft } : null;
  }

  /** A value that is stored as it is. */
  #storedValueOf(expr: Expr): ConstantSource | null {
    return this.#ofRow(expr, false) ?? this.#valueOf(expr);
  }

  /** Where it is compared, a column of NEW or OLD counts by its own affinity and collation: it is none of these. */
  #valueOf(expr: Expr): ConstantSource | null {
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
  #literal({ span }: Expr, sign: string): ConstantSource {
    const text = this.#parsed.sql.slice(span.offset, span.offset + span.length);
    if (/^\d{1,18}$/.test(text)) return { kind: "literal", value: BigInt(`${sign}${text}`) };
    if (/^'[^'\0]*'$/.test(text)) return { kind: "literal", value: text.slice(1, -1) };
    const value = this.#statement.main.prepare<[], SqlValue>(`SELECT ${sign}${text}`).pluck().get() ?? null;
    return { kind: "literal", value };
  }

  #planInsert(insert: InsertStmt): void {
    const table = this.#target(insert.tblName).table;
    if (table === null) return;
    const keys = this.#insertedKeys(table, insert);
    this.#pulls.add(table, keys.selectors, "the keys of the new rows");
    if (!keys.isAll) this.#pulls.noteTold(table);
    // Of a row that stands against two others, SQLite tells the one with its key.
    if (!keys.isAll && table.uniques.length > 0) this.#pulls.add(table, null, "a key that it inserts is computed, and may stand against any row");
    const rows = this.#insertedRows(table, insert);
    for (const index of table.uniques) {
      const selectors = rows === null ? null : uniqueSelectors(table, index, rows);
      if (selectors === null) this.#pulls.add(table, null, `any row may have a value of the unique index ${index.name} that it inserts`);
      else this.#pulls.add(table, selectors, `rows with equal values in the unique index ${index.name}`);
    }
    const upserts = insert.body.type === "SelectInsertBody" ? upsertsOf(insert.body.upsert) : [];
    for (const { doClause } of upserts) if (doClause.type === "SetUpsertDo") this.#planSets(table, doClause.sets, true);
  }

  /** Of each row, what its columns may get. null: it cannot be told. */
  #insertedRows(table: LocalTable, { columns, body }: InsertStmt): RowValues[] | null {
    if (body.type !== "SelectInsertBody") return [(name) => this.#defaultOf(table, name)];
    const rows = writtenRows(body.select);
    if (rows === null) return null;
    const names = columns?.map((name) => name.text) ?? table.columns.map((column) => column.name);
    return rows.map(({ values }) => (name) => {
      // The tree has a name once that is twice in the list: which value is whose cannot be told.
      if (values.length !== names.length) return null;
      const place = names.findIndex((one) => sameName(one, name));
      if (place < 0) return this.#defaultOf(table, name);
      if (names.findLastIndex((one) => sameName(one, name)) > place) return null;
      const expr = values[place];
      return expr === undefined ? null : this.#givenTo(table, name, expr);
    });
  }

  /** What a column gets where it is given the expression: REPLACE puts its default in the place of a NULL that it may not have. null: it cannot be told. */
  #givenTo(table: LocalTable, name: string, expr: Expr): ValueSource[] | null {
    const source = this.#storedValueOf(expr);
    const column = table.columns.find((one) => sameName(one.name, name));
    if (source === null || column === undefined) return null;
    if (column.replacesNull === null) return [source];
    const instead = this.#defaultOf(table, name);
    return instead === null ? null : [source, ...instead];
  }

  /** null: none that is written out. */
  #defaultOf(table: LocalTable, name: string): ValueSource[] | null {
    const column = table.columns.find((one) => sameName(one.name, name));
    // An integer key gets the next id.
    if (column === undefined || (table.identity === "integer" && sameName(table.keyNames[0] ?? "", name))) return null;
    if (column.defaultText === null) return [{ kind: "literal", value: null }];
    return /^([+-]?\d+(\.\d+)?|'[^']*'|null|x'[0-9a-f]*')$/i.test(column.defaultText) ? [{ kind: "literal", value: column.missing }] : null;
  }

  /** Of the rows of VALUES whose keys are written out. `isAll`: there is no other, but for those that get the next id. */
  #insertedKeys(table: LocalTable, { columns, body }: InsertStmt): { readonly selectors: KeySelector[]; readonly isAll: boolean } {
    if (body.type !== "SelectInsertBody") return { selectors: [], isAll: table.identity !== "key" };
    const rows = writtenRows(body.select);
    if (rows === null) return { selectors: [], isAll: false };
    const names = columns?.map((name) => name.text) ?? table.columns.map((column) => column.name);
    const keyColumns = names.map((name) => keyPlace(table, name));
    const places = table.keyNames.map((_, column) => keyColumns.indexOf(column));
    // A rowid under several of its names: the last one counts.
    const isTwice = places.some((place, column) => keyColumns.lastIndexOf(column) > place);
    if (isTwice || rows.some(({ values }) => values.length !== names.length)) return { selectors: [], isAll: false };
    if (places.includes(-1)) return { selectors: [], isAll: table.identity !== "key" };
    if (!isSearch(this.#statement.main, table, null, places.length, false, false)) return { selectors: [], isAll: false };
    let isAll = true;
    const selectors = rows.flatMap(({ values }): KeySelector[] => {
      const equal = places.map((place) => (values[place] === undefined ? null : this.#storedValueOf(values[place])));
      const known = equal.filter((source) => source !== null);
      if (known.length < places.length) isAll = false;
      return known.length === places.length ? [{ index: null, equal: known.map((source) => [source]), low: null, high: null }] : [];
    });
    return { selectors, isAll };
  }

  #planUpdate(update: Extract<Stmt, { type: "UpdateStmt" }>): void {
    const table = this.#target(update.tblName).table;
    if (table !== null) this.#planSets(table, update.sets, false);
  }

  /** Values of unique indexes that SET may change. `excluded.x` for x itself is what was inserted: that has been looked for. */
  #planSets(table: LocalTable, sets: readonly SetAssignment[], isUpsert: boolean): void {
    const values: RowValues = (name) => {
      // Of several, the last one counts.
      const set = sets.findLast(({ colNames }) => colNames.some((one) => sameName(one.text, name)));
      const value = set?.colNames.length === 1 ? set.expr : null;
      if (value === null) return null;
      const isExcluded = isUpsert && value.type === "QualifiedExpr" && sameName(value.table.text, "excluded");
      if (isExcluded && sameName(value.column.text, name)) return "inserted";
      return this.#givenTo(table, name, value);
    };
    const uniques = table.uniques.filter((one) => maySetIndex(table, one, sets));
    const setsKey = maySet(table, table.keyNames, sets);
    if (setsKey) this.#pulls.noteTold(table);
    if (setsKey && uniques.length > 0) this.#planSetKey(table, values);
    for (const index of uniques) {
      if (index.columnNames?.every((name) => values(name) === "inserted") === true) continue;
      const selectors = uniqueSelectors(table, index, [values]);
      if (selectors === null) this.#pulls.add(table, null, `any row may have a value of the unique index ${index.name} that it sets`);
      else this.#pulls.add(table, selectors, `rows with equal values in the unique index ${index.name}`);
    }
  }

  /** Of a row that stands against two others, SQLite tells the one with its key, which then must be here. */
  #planSetKey(table: LocalTable, valuesOf: RowValues): void {
    const [name, another] = table.keyNames;
    const values = name === undefined || another !== undefined ? null : valuesOf(name);
    if (values === "inserted") return;
    if (values === null || !isSearch(this.#statement.main, table, null, 1, false, false))
      this.#pulls.add(table, null, "a key that it sets may stand against any row");
    else this.#pulls.add(table, [{ index: null, equal: [values], low: null, high: null }], "the key that it sets");
  }
}

/** What a column of one row may get; null: it cannot be told. "inserted": what an INSERT's row has there. */
type RowValues = (name: string) => readonly ValueSource[] | "inserted" | null;

/** The rows of VALUES. null: others come with them, or they are too many. */
function writtenRows({ select, compounds }: Select): Extract<Select["select"], { type: "SelectValues" }>["values"] | null {
  return select.type === "SelectValues" && compounds === undefined && select.values.length <= rangesMax ? select.values : null;
}

/** Where rows with an equal entry can be: by as many leading columns as are known. null: anywhere. */
function uniqueSelectors(table: LocalTable, { space }: UniqueIndex, rows: readonly RowValues[]): KeySelector[] | null {
  const index = table.indexes.find((one) => one.space === space);
  if (index === undefined) return null;
  const selectors: KeySelector[] = [];
  for (const valuesOf of rows) {
    const equal: (readonly ValueSource[])[] = [];
    for (const name of index.names) {
      const values = valuesOf(name);
      if (values === null || values === "inserted") break;
      equal.push(values);
    }
    if (equal.length === 0) return null;
    selectors.push({ index, equal, low: null, high: null });
  }
  return selectors;
}

/** The greater, the fewer rows are likely: one by its key, then by equal columns, then by bounds. */
function selectivity(table: LocalTable, { index, equal, low, high }: KeySelector): number {
  const bounds = (low === null ? 0 : 1) + (high === null ? 0 : 1);
  // One value is less than what comes of another table.
  const columns = equal.reduce((sum, [source]) => sum + (source?.kind === "joined" ? 4 : 5), 0);
  return index === null && equal.length === table.keyNames.length ? 100 + columns : columns + bounds;
}

/** A result column's own name, which conditions may use too; it comes before names of the clauses around. */
function isAliasIn(scope: object, column: NamedColumn): boolean {
  if (column.type !== "Id") return false;
  const { columns } = scope as Partial<Pick<SelectFrom, "columns">>;
  return columns?.some((one) => one.type === "ExprResultColumn" && one.alias !== undefined && sameName(one.alias.name.text, column.name)) === true;
}
