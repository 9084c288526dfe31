/**
 * The conditions of one FROM clause that restrict one of its tables alone, on the leading columns of its key or of an index.
 *
 * | label | where the condition stands | narrows |
 * |-------|----------------------------|---------|
 * | where | WHERE, one of the terms joined by AND | any table of the clause: the comparisons below are never true of NULL, so an outer join's empty row fails too |
 * | inner | ON of an inner join, likewise; no RIGHT or FULL join in the clause | any table of the clause |
 * | left | ON of a LEFT JOIN, likewise | its right-hand table alone: the left one's rows stay, matched or not |
 * | others | RIGHT and FULL joins' ON, OR, NOT, IS, LIKE, functions, COLLATE, rows of values | nothing |
 *
 * Comparisons: =, <, <=, >, >=, BETWEEN and IN (list) of a bare column with literals and parameters. A column without its table's name counts only
 * where no other table of the clause could have it.
 */
import type { LocalIndex, LocalTable } from "../local-schema.js";
import { foldName, isRowidName, sameName } from "../parse/names.js";
import type { Expr, FromClause, SelectTable } from "../parse/sqlite-grammar.js";
import type { KeySelector, ValueSource } from "./key-selector.js";

/** One table of a FROM clause, or the target of an UPDATE or DELETE. */
export interface Reference {
  /** Its node in the tree; null: the target. */
  readonly node: SelectTable | null;
  /** null: a view, a subquery, a WITH's name: its columns are not known here. */
  readonly table: LocalTable | null;
  /** Folded: what columns are qualified with; null: nothing. */
  readonly name: string | null;
  /** ON terms that hold for every row of it that matters. */
  readonly own: Expr[];
}

export interface Scope {
  readonly references: readonly Reference[];
  /** Terms that hold for every row of the result. */
  readonly common: readonly Expr[];
  /** NATURAL or USING: a bare name may mean either side's column. */
  readonly merges: boolean;
}

/** sqlite3-parser's flags of a join. */
const joinNatural = 4;
const joinLeft = 8;
const joinRight = 16;

export function scopeOf(
  from: FromClause | undefined,
  where: Expr | undefined,
  target: Reference | null,
  lookup: (table: SelectTable) => Reference,
): Scope | null {
  const references: Reference[] = target === null ? [] : [target];
  const common: Expr[] = [];
  let merges = false;
  let isOuter = false;
  const pending: { readonly reference: Reference; readonly on: Expr; readonly isLeft: boolean }[] = [];
  const sources =
    from?.select === undefined ? [] : [{ table: from.select, join: null }, ...(from.joins ?? []).map((join) => ({ table: join.table, join }))];
  for (const { table, join } of sources) {
    // A join in parentheses has names of its own.
    if (table.type === "SubSelectTable") return null;
    const reference = lookup(table);
    references.push(reference);
    if (join === null) continue;
    const kind = join.operator.type === "TypedJoinJoinOperator" ? (join.operator.joinType ?? 0) : 0;
    if ((kind & joinRight) !== 0) isOuter = true;
    if ((kind & joinNatural) !== 0 || join.constraint?.type === "UsingJoinConstraint") merges = true;
    if (join.constraint?.type === "OnJoinConstraint") pending.push({ reference, on: join.constraint.expr, isLeft: (kind & joinLeft) !== 0 });
  }
  if (where !== undefined) common.push(...termsOf(where));
  for (const { reference, on, isLeft } of isOuter ? [] : pending) (isLeft ? reference.own : common).push(...termsOf(on));
  return { references, common, merges };
}

/** What is joined by AND. A loop: a chain of ANDs is a tree as deep as it is long. */
function termsOf(root: Expr): Expr[] {
  const terms: Expr[] = [];
  const stack = [root];
  for (let expr = stack.pop(); expr !== undefined; expr = stack.pop()) {
    const inner = unwrapped(expr);
    if (inner.type === "BinaryExpr" && inner.op === "And") stack.push(inner.left, inner.right);
    else terms.push(inner);
  }
  return terms;
}

function unwrapped(expr: Expr): Expr {
  let inner = expr;
  while (inner.type === "ParenthesizedExpr" && inner.exprs.length === 1 && inner.exprs[0] !== undefined) inner = inner.exprs[0];
  return inner;
}

type Comparison = "=" | ">" | "<";

interface KeyCondition {
  readonly column: number;
  readonly comparison: Comparison;
  readonly values: readonly ValueSource[];
}

/** By the table's own key, or by an index. null: nothing restricts the table there. */
export function selectorOf(
  scope: Scope,
  reference: Reference,
  index: LocalIndex | null,
  valueAs: (expr: Expr) => ValueSource | null,
): KeySelector | null {
  const { table } = reference;
  if (table === null) return null;
  const placeOf = index === null ? (name: string) => keyPlace(table, name) : (name: string) => indexPlace(index, name);
  const columnOf = (expr: Expr): number | null => columnPlace(scope, reference, placeOf, expr);
  const conditions = [...scope.common, ...reference.own].flatMap((term) => conditionsOf(term, columnOf, valueAs));
  const find = (column: number, comparison: Comparison): KeyCondition | undefined =>
    conditions.find((one) => one.column === column && one.comparison === comparison);
  const equal: (readonly ValueSource[])[] = [];
  for (let found = find(0, "="); found !== undefined; found = find(equal.length, "=")) equal.push(found.values);
  const low = find(equal.length, ">")?.values[0] ?? null;
  const high = find(equal.length, "<")?.values[0] ?? null;
  return equal.length === 0 && low === null && high === null ? null : { index, equal, low, high };
}

/** `>` and `<` stand for >= and <= too: a key more does no harm. */
const comparisons: Readonly<Partial<Record<string, readonly [Comparison, Comparison]>>> = {
  Equals: ["=", "="],
  Greater: [">", "<"],
  GreaterEquals: [">", "<"],
  Less: ["<", ">"],
  LessEquals: ["<", ">"],
};

function conditionsOf(term: Expr, columnOf: (expr: Expr) => number | null, valueAs: (expr: Expr) => ValueSource | null): KeyCondition[] {
  const condition = (column: number | null, comparison: Comparison, exprs: readonly Expr[] | undefined): KeyCondition[] => {
    const values = (exprs ?? []).map((expr) => valueAs(unwrapped(expr)));
    const known = values.filter((value) => value !== null);
    return column === null || known.length < values.length ? [] : [{ column, comparison, values: known }];
  };
  switch (term.type) {
    case "BinaryExpr": {
      const pair = comparisons[term.op];
      if (pair === undefined) return [];
      const [left, right] = [unwrapped(term.left), unwrapped(term.right)];
      return [...condition(columnOf(left), pair[0], [right]), ...condition(columnOf(right), pair[1], [left])];
    }
    case "InListExpr":
      return term.not ? [] : condition(columnOf(unwrapped(term.lhs)), "=", term.rhs);
    case "BetweenExpr": {
      if (term.not) return [];
      const column = columnOf(unwrapped(term.lhs));
      return [...condition(column, ">", [term.start]), ...condition(column, "<", [term.end])];
    }
    default:
      return [];
  }
}

/** What `placeOf` says of the reference's column that the expression is; null: it is something else. */
function columnPlace(scope: Scope, reference: Reference, placeOf: (name: string) => number | null, expr: Expr): number | null {
  const { table } = reference;
  if (table === null) return null;
  if (expr.type === "QualifiedExpr") {
    if (expr.schema !== undefined && foldName(expr.schema.text) !== "main") return null;
    const qualifier = foldName(expr.table.text);
    const meant = scope.references.filter((one) => one.name === qualifier);
    return meant.length === 1 && meant[0] === reference ? placeOf(expr.column.text) : null;
  }
  if (expr.type !== "Id") return null;
  const isAlone = scope.references.every((one) => one === reference || (!scope.merges && one.table !== null && !hasColumn(one.table, expr.name)));
  return isAlone ? placeOf(expr.name) : null;
}

function hasColumn(table: LocalTable, name: string): boolean {
  return isRowidName(name) || table.columnNames.some((column) => sameName(column, name));
}

function indexPlace(index: LocalIndex, name: string): number | null {
  const place = index.names.findIndex((one) => sameName(one, name));
  return place < 0 ? null : place;
}

/** null: no column of its key. */
export function keyPlace(table: LocalTable, name: string): number | null {
  const place = table.keyNames.findIndex((one) => sameName(one, name));
  if (place >= 0) return place;
  return table.identity !== "key" && isRowidName(name) && !table.columnNames.some((column) => sameName(column, name)) ? 0 : null;
}
