/**
 * Where `_tick()` goes into a statement, so that what could run for ever can be ended: SQLite itself asks nobody (better-sqlite3 has no interrupt).
 *
 * | the core of a SELECT | terms |
 * |---|---|
 * | one table, view or subquery; looked at once | none: it ends by itself, and point reads pay nothing |
 * | a recursive arm of a WITH | `_tick()`, for each row of the recursion; of other FROM items as below |
 * | in an expression of something that has rows (SELECT with FROM, UPDATE, DELETE, RETURNING, ON CONFLICT) | `_tick()`, each time; as below |
 * | two FROM items or more; UPDATE … FROM | `_tick(item.column)` for each but one |
 *
 * The terms stand first in WHERE, joined by AND. SQLite looks at a term in the outermost loop that has its columns: one without columns only once, which is why
 * joins need columns. One item may be left out: whichever loop is its own, from one tick to the next no more than one table is read through. It is
 * one of whose columns no plain one is known (a computed one would be computed twice), else the last.
 *
 * The texts of views and triggers are of a schema that changes under them (ticked-texts.ts): there, columns are those that the text itself names as `item.column`, and an
 * item of which it names none has no term.
 */
import { foldName, quoteName } from "./names.js";
import { type Edit, insertAt, splice } from "./splice.js";
import {
  type AstNode,
  type CommonTableExpr,
  childrenOf,
  endOf,
  type FromClause,
  kinds,
  type ParsedStatement,
  type ResultColumn,
  type Select,
  type SelectFrom,
  type SelectTable,
  startOf,
  type UpdateStmt,
  type With,
} from "./sqlite-grammar.js";

/** Terms of one statement: those beyond are left out. A client that writes more joins than SQLite has room for in one (64) means something else. */
export const tickTermsMax = 64;

/** What the schema knows of a name. */
export interface TickedSource {
  /** In SQL: a column that every index of the table has; and the first that `*` gives, null where it is a computed one. null: it is no table. */
  table(name: string): { readonly key: string; readonly first: string | null } | null;
  /** Its SELECT. null: it is no view. */
  view(name: string): { readonly columns: readonly string[] | null; readonly select: Select } | null;
}

/** One term and where it goes. */
export interface TickTerm {
  readonly place: TickPlace;
  readonly text: string;
  /** Of a recursion: it depends on nothing. */
  readonly isRecursion: boolean;
}

interface TickPlace {
  /** UTF-16 index: behind WHERE, else behind FROM's last token. */
  readonly start: number;
  /** Behind WHERE's last token; null: there is no WHERE. */
  readonly whereEnd: number | null;
}

/** Always true: SQLite estimates as it did, and no outer join is taken for an inner one. */
function termOf(column: string): string {
  return `likelihood(_tick(${column}),1.0)`;
}

export function tickEdits(terms: readonly TickTerm[]): Edit[] {
  const byPlace = new Map<TickPlace, string[]>();
  for (const { place, text } of terms) byPlace.set(place, [...(byPlace.get(place) ?? []), text]);
  const edits: Edit[] = [];
  for (const [{ start, whereEnd }, texts] of byPlace) {
    const all = texts.join(" AND ");
    if (whereEnd === null) edits.push(insertAt(start, ` WHERE ${all}`));
    else edits.push(insertAt(start, ` ${all} AND (`), insertAt(whereEnd, ")"));
  }
  return edits;
}

export function withTicks(sql: string, terms: readonly TickTerm[]): string {
  return splice(sql, tickEdits(terms));
}

/** A WITH's name where it can be seen. */
interface Scope {
  readonly name: string;
  readonly table: CommonTableExpr;
  readonly isRecursive: boolean;
  readonly outer: Scope | null;
}

interface Visit {
  readonly node: AstNode;
  /** It is computed for each of many rows. */
  readonly repeats: boolean;
  /** Whether what the nearest core stands in is: so is a subquery in that core's FROM. */
  readonly around: boolean;
  readonly scope: Scope | null;
}

/** Of a statement that SQLite has accepted: what is looked for is there. `source` null: it is of a text that outlives the schema. */
export function tickTerms(parsed: ParsedStatement, source: TickedSource | null): readonly TickTerm[] {
  const terms: TickTerm[] = [];
  const recursiveArms = new Set<AstNode>();
  let places: Places | null = null;
  const add = (texts: readonly string[], behind: number, isArm = false): void => {
    if (texts.length === 0) return;
    places ??= placesOf(parsed);
    const place = placeBehind(places, behind);
    if (place === null) return;
    for (const text of texts.slice(0, tickTermsMax - terms.length)) terms.push({ place, text: termOf(text), isRecursion: isArm && text === "" });
  };
  const stack: Visit[] = [{ node: parsed.root, repeats: false, around: false, scope: null }];
  for (let visit = stack.pop(); visit !== undefined; visit = stack.pop()) {
    const { node } = visit;
    let { repeats, around, scope } = visit;
    let each: readonly AstNode[] = [];
    switch (node.type) {
      case "Select":
        scope = scopeOf(node.with, scope, recursiveArms);
        around = repeats;
        break;
      case "InsertStmt":
        scope = scopeOf(node.with, scope, recursiveArms);
        each = node.returning ?? [];
        break;
      case "UpdateStmt":
      case "DeleteStmt":
        scope = scopeOf(node.with, scope, recursiveArms);
        if (node.type === "UpdateStmt" && node.from !== undefined) {
          const columns = [targetColumn(node, source), ...columnsOf(itemsOf(node.from), node, scope, source)];
          add(allButOne(columns), node.tblName.objName.span.offset);
        }
        repeats = true;
        break;
      case "SelectFrom":
        add(coreTexts(node, repeats, recursiveArms.has(node), scope, source), node.span.offset, recursiveArms.has(node));
        around = repeats;
        repeats ||= node.from !== undefined;
        break;
      case "With":
      case "SelectSelectTable":
        repeats = around;
        break;
      case "SortedColumn":
      case "Upsert":
        repeats = true;
        break;
      default:
    }
    for (const child of childrenOf(node)) stack.push({ node: child, repeats: repeats || each.includes(child), around, scope });
  }
  return terms;
}

/** What `_tick` is called with, one for each term. */
function coreTexts(core: SelectFrom, repeats: boolean, isArm: boolean, scope: Scope | null, source: TickedSource | null): readonly string[] {
  if (core.from === undefined) return [];
  const items = itemsOf(core.from);
  const others = isArm ? items.filter((item) => !isRecursion(item, scope)) : items;
  const texts = allButOne(columnsOf(others, core, scope, source));
  return isArm || (repeats && !(items.length === 1 && isCountOfAll(core))) ? ["", ...texts] : texts;
}

function allButOne(columns: readonly (string | null)[]): readonly string[] {
  const known = columns.filter((column) => column !== null);
  return known.length === columns.length ? known.slice(0, -1) : known;
}

/** SQLite counts a whole table without looking at its rows, and once. */
function isCountOfAll({ columns, whereClause, groupBy, having }: SelectFrom): boolean {
  const [column, another] = columns;
  if (whereClause !== undefined || groupBy !== undefined || having !== undefined || another !== undefined) return false;
  return column?.type === "ExprResultColumn" && column.expr.type === "FunctionCallStarExpr";
}

function scopeOf(clause: With | undefined, outer: Scope | null, recursiveArms: Set<AstNode>): Scope | null {
  let scope = outer;
  for (const table of clause?.ctes ?? []) {
    const name = foldName(table.tblName.text);
    const arms = (table.select.compounds ?? []).filter(
      ({ select }) => select.type === "SelectFrom" && select.from !== undefined && itemsOf(select.from).some((item) => isNamed(item, name)),
    );
    for (const { select } of arms) recursiveArms.add(select);
    scope = { name, table, isRecursive: arms.length > 0, outer: scope };
  }
  return scope;
}

function isNamed(item: SelectTable, name: string): boolean {
  return item.type === "TableSelectTable" && item.tblName.dbName === undefined && foldName(item.tblName.objName.text) === name;
}

function withOf(item: SelectTable, scope: Scope | null): Scope | null {
  let found = scope;
  while (found !== null && !isNamed(item, found.name)) found = found.outer;
  return found;
}

function isRecursion(item: SelectTable, scope: Scope | null): boolean {
  return withOf(item, scope)?.isRecursive === true;
}

/** Those of joins in parentheses too. */
function itemsOf(from: FromClause): SelectTable[] {
  const tables = from.select === undefined ? [] : [from.select, ...(from.joins ?? []).map(({ table }) => table)];
  return tables.flatMap((table) => (table.type === "SubSelectTable" && table.alias === undefined ? itemsOf(table.from) : [table]));
}

/** `within`: whose items they are. */
function columnsOf(items: readonly SelectTable[], within: AstNode, scope: Scope | null, source: TickedSource | null): (string | null)[] {
  const named = source === null ? namedColumns(within) : null;
  return items.map((item) => {
    const name = nameOf(item);
    if (name === null) return null;
    const column = source === null ? (named?.get(foldName(name)) ?? null) : columnOf(item, scope, source, "key", viewDepthMax);
    return column === null ? null : `${quoteName(name)}.${column}`;
  });
}

/** The first column that is named of each item as `item.column`, by the item's folded name. What is within another SELECT may be of another item of that name. */
function namedColumns(within: AstNode): ReadonlyMap<string, string> {
  const columns = new Map<string, string>();
  const stack: AstNode[] = [within];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node.type === "QualifiedExpr" && !columns.has(foldName(node.table.text))) columns.set(foldName(node.table.text), quoteName(node.column.text));
    if (node.type !== "Select") stack.push(...childrenOf(node));
  }
  return columns;
}

function nameOf(item: SelectTable): string | null {
  if (item.alias !== undefined) return item.alias.name.text;
  return item.type === "TableSelectTable" || item.type === "TableCallSelectTable" ? item.tblName.objName.text : null;
}

function targetColumn(update: UpdateStmt, source: TickedSource | null): string | null {
  const { alias, dbName, objName } = update.tblName;
  if (source === null) {
    const column = namedColumns(update).get(foldName((alias ?? objName).text));
    return column === undefined ? null : `${quoteName((alias ?? objName).text)}.${column}`;
  }
  if (dbName !== undefined && foldName(dbName.text) !== "main") return null;
  const table = source.table(objName.text);
  return table === null ? null : `${quoteName((alias ?? objName).text)}.${table.key}`;
}

/** Views and subqueries within another that are looked into for a column. */
const viewDepthMax = 8;

/** A column that costs nothing to read. `wanted`: any, or one that `*` gives. */
function columnOf(item: SelectTable, scope: Scope | null, source: TickedSource, wanted: "key" | "first", depth: number): string | null {
  if (depth === 0 || item.type === "SubSelectTable") return null;
  if (item.type === "SelectSelectTable") return resultColumn(null, item.select, scope, source, depth);
  const schema = item.tblName.dbName === undefined ? null : foldName(item.tblName.dbName.text);
  const name = foldName(item.tblName.objName.text);
  if (item.type === "TableCallSelectTable" || name === "json_each" || name === "json_tree")
    return name === "json_each" || name === "json_tree" ? quoteName("key") : null;
  const found = withOf(item, scope);
  if (found !== null) {
    const names = found.table.columns?.map(({ colName }) => colName.text) ?? null;
    // What recurs is kept as it was computed.
    return found.isRecursive ? anyColumn(names, found.table.select) : resultColumn(names, found.table.select, found, source, depth);
  }
  if (schema !== null && schema !== "main") return wanted === "key" ? "rowid" : null;
  const table = source.table(name);
  if (table !== null) return table[wanted];
  const view = source.view(name);
  return view === null ? null : resultColumn(view.columns, view.select, null, source, depth);
}

function anyColumn(names: readonly string[] | null, { select }: Select): string | null {
  if (names !== null) return names[0] === undefined ? null : quoteName(names[0]);
  const name = select.type === "SelectFrom" ? plainName(select.columns[0], true) : null;
  return name === null ? null : quoteName(name);
}

/** One that is a bare column in every arm. A computed one may be computed again for the term, and may fail where its row would not have been looked at. */
function resultColumn(names: readonly string[] | null, select: Select, outer: Scope | null, source: TickedSource, depth: number): string | null {
  const first = select.select;
  if (first.type !== "SelectFrom") return null;
  const scope = scopeOf(select.with, outer, new Set());
  const compounds = select.compounds ?? [];
  if (first.columns[0]?.type === "StarResultColumn") {
    const item = first.from === undefined ? undefined : itemsOf(first.from)[0];
    return item === undefined || compounds.length > 0 || names !== null ? null : columnOf(item, scope, source, "first", depth - 1);
  }
  const arms = [first, ...compounds.map((compound) => compound.select)];
  for (const [index, column] of first.columns.entries()) {
    if (column.type !== "ExprResultColumn") return null;
    const isPlain = arms.every(
      (arm) =>
        arm.type === "SelectFrom" &&
        arm.columns.slice(0, index).every(({ type }) => type === "ExprResultColumn") &&
        plainName(arm.columns[index], false) !== null,
    );
    const name = isPlain ? (names?.[index] ?? plainName(column, false)) : null;
    if (name !== null) return quoteName(name);
  }
  return null;
}

/** The name of a result column that is a bare column, or has a name of its own where `orNamed`. */
function plainName(column: ResultColumn | undefined, orNamed: boolean): string | null {
  if (column?.type !== "ExprResultColumn") return null;
  const { expr, alias } = column;
  const own = expr.type === "Id" ? expr.name : expr.type === "QualifiedExpr" ? expr.column.text : null;
  return own === null && !orNamed ? null : (alias?.name.text ?? own);
}

interface Places {
  readonly tokens: ParsedStatement["tokens"];
  readonly indexes: ReadonlyMap<number, number>;
  /** Parentheses around each token; of a parenthesis, those around it. */
  readonly depths: readonly number[];
}

function placesOf({ tokens }: ParsedStatement): Places {
  let depth = 0;
  const depths = tokens.map(({ type }) => {
    if (type === kinds.rightParen) depth--;
    return type === kinds.leftParen ? depth++ : depth;
  });
  return { tokens, indexes: new Map(tokens.map((token, index) => [startOf(token), index])), depths };
}

const endsOfWhere: ReadonlySet<number> = new Set([
  kinds.except,
  kinds.group,
  kinds.having,
  kinds.intersect,
  kinds.limit,
  kinds.order,
  kinds.returning,
  kinds.union,
  kinds.window,
]);

/** The WHERE, or its place, behind the SELECT or the target's name that begins at `offset`. null: it is not as expected, and stays as it is. */
function placeBehind({ tokens, indexes, depths }: Places, offset: number): TickPlace | null {
  const first = indexes.get(offset);
  if (first === undefined) return null;
  const depth = depths[first] ?? 0;
  let at = first + 1;
  const isAt = (type: number): boolean => depths[at] === depth && tokens[at]?.type === type;
  const isOver = (): boolean => at >= tokens.length || (depths[at] ?? 0) < depth;
  // IS DISTINCT FROM is an operator.
  while (!isOver() && (!isAt(kinds.from) || tokens[at - 1]?.type === kinds.distinct)) at++;
  if (isOver()) return null;
  const isEnd = (): boolean => isOver() || (depths[at] === depth && endsOfWhere.has(tokens[at]?.type ?? 0));
  while (!isEnd() && !isAt(kinds.where)) at++;
  const before = tokens[at - 1];
  if (before === undefined) return null;
  if (!isAt(kinds.where)) return { start: endOf(before), whereEnd: null };
  const where = tokens[at];
  // Behind WHERE, ON is an upsert's.
  do at++;
  while (!isEnd() && !isAt(kinds.on));
  const last = tokens[at - 1];
  return where === undefined || last === undefined ? null : { start: endOf(where), whereEnd: endOf(last) };
}
