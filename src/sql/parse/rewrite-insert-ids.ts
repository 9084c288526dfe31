/**
 * Makes every INSERT take its ids from this engine's block: SQLite's own "largest id + 1" would collide with what other engines insert at the same
 * time, and needs rows that may not be held. Two forms of one function of the local store: `_nid(n)` gives the next id of table n; `_nid(n, e)` gives e, and
 * only where e is NULL the next id, which is then none that the statement has named before. For SQLite may compute every row before it inserts
 * the first: with coalesce(), `VALUES (1), (NULL)` on an empty table could get 1 twice.
 *
 * | form                                | becomes                                                                             |
 * | ----------------------------------- | ----------------------------------------------------------------------------------- |
 * | VALUES with the id, one row         | `select … coalesce(e, _nid(n)) … where true`; a literal, which is not NULL, stays   |
 * | VALUES with the id, several rows    | `_nid(n, e)`; stays where all are literals                                          |
 * | VALUES without it                   | column list and rows end in the id and `_nid(n)`; one row: `select …, _nid(n) where true` |
 * | SELECT (compound, WITH) with the id | `with _s(c…) as (select …) select …, _nid(n, c) … from _s where true`               |
 * | SELECT without it                   | the same with `…, _nid(n)`, and the id at the end of the column list                |
 * | DEFAULT VALUES                      | `(id) select _nid(n)`                                                               |
 *
 * One row of VALUES becomes a SELECT because SQLite computes such a row twice where there are BEFORE triggers (capture has some always): two ids
 * would be spent, and the triggers would see another one than the row gets.
 *
 * A missing column list is written out where a column comes to it. `where true` keeps ON CONFLICT from being read as a join's ON. Parameters keep
 * their order, so a bare `?` keeps its number. Rows come in the order of the SELECT's ORDER BY: SQLite does not flatten an ordered subquery
 * into an outer query that calls functions, and so calls `_nid` behind the sorter.
 *
 * Accepted differences: `new.id` in a BEFORE INSERT trigger is the id (SQLite: −1), an id is spent where a conflict is ignored, and
 * the DO UPDATE of a conflict on an id that is not given is compiled (SQLite leaves it out, with the errors in it).
 */
import { assert } from "../../base/errors.js";
import { foldName, isRowidName, quoteName, sameName, unquoteName } from "./names.js";
import { type Edit, insertAt, splice } from "./splice.js";
import {
  endOf,
  type InsertStmt,
  type InsertTriggerCmd,
  isFault,
  kinds,
  type ParsedStatement,
  parseStatement,
  type QualifiedName,
  startOf,
  type Token,
} from "./sqlite-grammar.js";
import { triggerBody } from "./trigger-body.js";

export interface InsertTable {
  /** What `_nid` is called with. */
  readonly tableNumber: number;
  /** The INTEGER PRIMARY KEY (not one with DESC, which SQLite takes for an ordinary key with an index), else a rowid name that no column has. */
  readonly idColumn: string;
  /** What an INSERT without a column list fills, in order: all but the generated. */
  readonly insertableColumns: readonly string[];
  readonly allColumns: readonly string[];
}

/** By the table's name in any case. null: a view, a WITHOUT ROWID table, unknown, or every rowid name is a column: not rewritten. */
export type InsertTableLookup = (name: string) => InsertTable | null;

/** What is not an INSERT (or a CREATE TRIGGER with one), and what SQLite would refuse, comes back as it is: the error is SQLite's to tell. */
export function rewriteInsertIds(sql: string, lookup: InsertTableLookup): string {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return sql;
  if (parsed.root.type === "InsertStmt") return splice(sql, insertIdEdits(sql, insertOfStatement(parsed, parsed.root), lookup));
  if (parsed.root.type === "CreateTriggerStmt") return splice(sql, triggerInsertEdits(parsed, lookup));
  return sql;
}

/** The edits of every INSERT in a CREATE TRIGGER's body. */
export function triggerInsertEdits(parsed: ParsedStatement, lookup: InsertTableLookup): readonly Edit[] {
  assert(parsed.root.type === "CreateTriggerStmt", "a trigger's body is a trigger's");
  const { commands } = triggerBody(parsed);
  return parsed.root.commands.flatMap((command, index) => {
    const tokens = commands[index];
    assert(tokens !== undefined, "a command of a trigger ends at its semicolon");
    return command.type === "InsertTriggerCmd" ? insertIdEdits(parsed.sql, insertOfTrigger(tokens, command), lookup) : [];
  });
}

interface Insert {
  readonly tokens: readonly Token[];
  readonly table: QualifiedName;
  readonly hasColumns: boolean;
  readonly body: "default" | "values" | "select";
  /** Where ON CONFLICT begins, or null. */
  readonly upsertStart: number | null;
}

function insertOfStatement(parsed: ParsedStatement, root: InsertStmt): Insert {
  const { tokens } = parsed;
  const base = { tokens, table: root.tblName, hasColumns: root.columns !== undefined };
  if (root.body.type === "DefaultValuesInsertBody") return { ...base, body: "default", upsertStart: null };
  return { ...base, body: bodyOf(root.body.select), upsertStart: root.body.upsert?.span.offset ?? null };
}

function insertOfTrigger(tokens: readonly Token[], command: InsertTriggerCmd): Insert {
  return {
    tokens,
    table: command.tblName,
    hasColumns: command.colNames !== undefined,
    body: bodyOf(command.select),
    upsertStart: command.upsert?.span.offset ?? null,
  };
}

function bodyOf(select: InsertTriggerCmd["select"]): "values" | "select" {
  const plain = select.with === undefined && select.compounds === undefined && select.orderBy === undefined && select.limit === undefined;
  return plain && select.select.type === "SelectValues" ? "values" : "select";
}

function insertIdEdits(sql: string, insert: Insert, lookup: InsertTableLookup): readonly Edit[] {
  const schema = insert.table.dbName?.text;
  if (schema !== undefined && foldName(schema) !== "main") return [];
  const table = lookup(insert.table.objName.text);
  if (table === null) return [];
  const places = findPlaces(insert);
  if (insert.body === "default") {
    const [word, values] = [insert.tokens[places.bodyFirst], insert.tokens[places.bodyFirst + 1]];
    assert(word?.type === kinds.default && values?.type === kinds.values, "DEFAULT VALUES follows the table");
    return [
      { start: startOf(word), end: endOf(word), text: `(${quoteName(table.idColumn)})` },
      { start: startOf(values), end: endOf(values), text: `select _nid(${table.tableNumber})` },
    ];
  }
  const names = places.columns ?? table.insertableColumns;
  const isId = names.map((name) => isIdName(name, table));
  const filled = isId.includes(true);
  const columnList = filled ? [] : [insertAt(places.columnsEnd, columnListEnd(places, table))];
  const body =
    insert.body === "values" ? valuesEdits(sql, insert, places, isId, table.tableNumber) : selectEdits(insert, places, isId, table.tableNumber);
  return body === null ? [] : [...columnList, ...body];
}

function isIdName(name: string, table: InsertTable): boolean {
  return sameName(name, table.idColumn) || (isRowidName(name) && !table.allColumns.some((column) => sameName(column, name)));
}

function columnListEnd(places: Places, table: InsertTable): string {
  const id = quoteName(table.idColumn);
  return places.columns === null ? `(${[...table.insertableColumns.map(quoteName), id].join(",")})` : `,${id}`;
}

interface Places {
  /** As listed, each as often as it is; null: there is no list. */
  readonly columns: readonly string[] | null;
  /** UTF-16 index where a column is added to the list, or the list goes. */
  readonly columnsEnd: number;
  /** Indexes of tokens: the first of VALUES, SELECT, WITH or DEFAULT, and behind the last of it. */
  readonly bodyFirst: number;
  readonly bodyEnd: number;
}

function findPlaces(insert: Insert): Places {
  const { tokens, table } = insert;
  const nameStart = (table.alias ?? table.objName).span.offset;
  const nameIndex = tokens.findIndex((token) => startOf(token) === nameStart);
  const nameToken = tokens[nameIndex];
  assert(nameToken !== undefined, "an INSERT names a table");
  let bodyFirst = nameIndex + 1;
  let columnsEnd = endOf(nameToken);
  let columns: string[] | null = null;
  if (insert.hasColumns) {
    // The list holds names and commas alone: its first closing parenthesis is its own.
    const close = tokens.findIndex((token, index) => index > nameIndex && token.type === kinds.rightParen);
    const names = tokens.slice(nameIndex + 2, close).filter((token) => token.type !== kinds.comma);
    const lastName = names.at(-1);
    assert(lastName !== undefined, "a column list holds a name");
    columns = names.map((token) => unquoteName(token.text));
    columnsEnd = endOf(lastName);
    bodyFirst = close + 1;
  }
  const tail = tokens.findIndex((token, index) =>
    insert.upsertStart === null ? index >= bodyFirst && token.type === kinds.returning : startOf(token) === insert.upsertStart,
  );
  return { columns, columnsEnd, bodyFirst, bodyEnd: tail < 0 ? tokens.length : tail };
}

/** null: a row of another length than the column list, which is SQLite's error to tell. */
function valuesEdits(sql: string, insert: Insert, places: Places, isId: readonly boolean[], table: number): readonly Edit[] | null {
  const tokens = insert.tokens.slice(places.bodyFirst, places.bodyEnd);
  const rows = valueRows(tokens);
  if (rows.some((row) => row.length !== isId.length)) return null;
  const single = rows.length === 1;
  const frame = single ? selectFrame(tokens) : [];
  if (!isId.includes(true)) return [...rows.map((row) => insertAt(row.at(-1)?.end ?? 0, `,_nid(${table})`)), ...frame];
  const ids = rows.flatMap((row) => row.filter((_, index) => isId[index]));
  if (ids.every((value) => value.isLiteral)) return [];
  const edits = ids.map(({ start, end }): Edit => {
    const value = sql.slice(start, end);
    return { start, end, text: single ? `coalesce(${value},_nid(${table}))` : `_nid(${table},${value})` };
  });
  return [...edits, ...frame];
}

/** `VALUES (` and `)` of a single row become `select` and `where true`. */
function selectFrame(tokens: readonly Token[]): readonly Edit[] {
  const [values, open] = tokens;
  const close = tokens.findLast((token) => token.type === kinds.rightParen);
  assert(values?.type === kinds.values && open?.type === kinds.leftParen && close !== undefined, "a row of VALUES stands in parentheses");
  return [
    { start: startOf(values), end: endOf(open), text: " select " },
    { start: startOf(close), end: endOf(close), text: " where true" },
  ];
}

interface Value {
  /** UTF-16 indexes. */
  readonly start: number;
  readonly end: number;
  /** A number or a string: never NULL. */
  readonly isLiteral: boolean;
}

/** The rows of `VALUES (…), (…)`, each expression by its first and last token. */
function valueRows(tokens: readonly Token[]): readonly (readonly Value[])[] {
  const rows: Value[][] = [];
  let row: Value[] = [];
  let depth = 0;
  let firstIndex = 0;
  tokens.forEach((token, index) => {
    if (token.type === kinds.leftParen) {
      depth += 1;
      if (depth === 1) {
        row = [];
        firstIndex = index + 1;
      }
    } else if (token.type === kinds.rightParen || (token.type === kinds.comma && depth === 1)) {
      if (depth === 1) {
        const [first, last] = [tokens[firstIndex], tokens[index - 1]];
        assert(first !== undefined && last !== undefined && firstIndex < index, "a value has a token");
        row.push({ start: startOf(first), end: endOf(last), isLiteral: first === last && kinds.literals.has(first.type) });
        firstIndex = index + 1;
      }
      if (token.type === kinds.rightParen) {
        depth -= 1;
        if (depth === 0) rows.push(row);
      }
    }
  });
  return rows;
}

function selectEdits(insert: Insert, places: Places, isId: readonly boolean[], table: number): readonly Edit[] {
  const [first, last] = [insert.tokens[places.bodyFirst], insert.tokens[places.bodyEnd - 1]];
  assert(first !== undefined && last !== undefined, "an INSERT's SELECT has tokens");
  const source = freshName(insert.tokens);
  const columns = isId.map((_, index) => `c${index}`);
  const values = columns.map((column, index) => (isId[index] === true ? `_nid(${table},${column})` : column));
  if (!isId.includes(true)) values.push(`_nid(${table})`);
  return [
    insertAt(startOf(first), `with ${source}(${columns.join(",")}) as (`),
    insertAt(endOf(last), `) select ${values.join(",")} from ${source} where true`),
  ];
}

/** A name that stands nowhere in the statement: the client's own `_s` must not turn into a circular reference. */
function freshName(tokens: readonly Token[]): string {
  let name = "_s";
  while (tokens.some((token) => foldName(token.text).includes(name))) name += "_";
  return name;
}
