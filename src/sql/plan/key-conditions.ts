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
 * Comparisons: =, <, <=, >, >=, BETWEEN and IN (list) of a bare column with literals and parameters; = with a bare column of another table of the
 * clause, with a column of a table of a clause around it, and IN (SELECT column …): that table's rows that matter tell the values. A column without its table's name counts only where no other table of the clause could have it, and as one of a clause
 * around it only where none of this clause could. In a trigger, = with a column of NEW or OLD.
 */
import type { LocalIndex, LocalTable } from "../local-schema.js";
import { foldName, isRowidName, sameName } from "../parse/names.js";
import type { Expr, FromClause, Select, SelectTable } from "../parse/sqlite-grammar.js";
import type { ConstantSource, JoinedSource, KeySelector, RowSource, ValueSource } from "./key-selector.js";

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

type KeyCondition =
  | { readonly column: number; readonly comparison: Comparison; readonly values: readonly ConstantSource[] }
  | { readonly column: number; readonly comparison: "joined"; readonly values: readonly (JoinedSource | RowSource)[] };

/** Other tables' rows as sources of values; null: they tell none. */
export interface OtherTables {
  /** A column of another table of the clause. */
  column(outer: Reference, column: string, isLeft: boolean): JoinedSource | null;
  /** What stands behind IN. */
  subquery(select: Select): JoinedSource | null;
  /** A column that is of no table of the clause: one of a clause around it, or of the row that fires a trigger. */
  enclosing(column: NamedColumn, isLeft: boolean): JoinedSource | RowSource | null;
}

export const noOtherTables: OtherTables = { column: () => null, subquery: () => null, enclosing: () => null };

export type NamedColumn = Extract<Expr, { type: "QualifiedExpr" | "Id" }>;

/** By the table's own key, or by an index. null: nothing restricts the table there. */
export function selectorOf(
  scope: Scope,
  reference: Reference,
  index: LocalIndex | null,
  valueAs: (expr: Expr) => ConstantSource | null,
  others: OtherTables,
): KeySelector | null {
  const { table } = reference;
  if (table === null) return null;
  const placeOf = index === null ? (name: string) => keyPlace(table, name) : (name: string) => indexPlace(index, name);
  const columnOf = (expr: Expr): number | null => columnPlace(scope, reference, placeOf, expr);
  const outerAs = (expr: Expr, isLeft: boolean): JoinedSource | RowSource | null => {
    const found = columnIn(scope, expr);
    if (found !== null) return found.reference === reference ? null : others.column(found.reference, found.name, isLeft);
    return isNamed(expr) && !mayName(scope, expr) ? others.enclosing(expr, isLeft) : null;
  };
  const conditions = [...scope.common, ...reference.own].flatMap((term) => conditionsOf(term, columnOf, valueAs, outerAs, others));
  const equalTo = (column: number): readonly ValueSource[] | undefined =>
    (["=", "joined"] as const)
      .map((comparison) => conditions.find((one) => one.column === column && one.comparison === comparison))
      .find((one) => one)?.values;
  const bound = (column: number, comparison: Comparison): ConstantSource | null => {
    for (const one of conditions)
      if (one.comparison !== "joined" && one.column === column && one.comparison === comparison) return one.values[0] ?? null;
    return null;
  };
  const equal: (readonly ValueSource[])[] = [];
  for (let found = equalTo(0); found !== undefined; found = equalTo(equal.length)) equal.push(found);
  const low = bound(equal.length, ">");
  const high = bound(equal.length, "<");
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

function conditionsOf(
  term: Expr,
  columnOf: (expr: Expr) => number | null,
  valueAs: (expr: Expr) => ConstantSource | null,
  outerAs: (expr: Expr, isLeft: boolean) => JoinedSource | RowSource | null,
  others: OtherTables,
): KeyCondition[] {
  const condition = (column: number | null, comparison: Comparison, exprs: readonly Expr[] | undefined): KeyCondition[] => {
    const values = (exprs ?? []).map((expr) => valueAs(unwrapped(expr)));
    const known = values.filter((value) => value !== null);
    return column === null || known.length < values.length ? [] : [{ column, comparison, values: known }];
  };
  const joined = (column: number | null, sourceOf: () => JoinedSource | RowSource | null): KeyCondition[] => {
    const source = column === null ? null : sourceOf();
    return column === null || source === null ? [] : [{ column, comparison: "joined", values: [source] }];
  };
  switch (term.type) {
    case "BinaryExpr": {
      const pair = comparisons[term.op];
      if (pair === undefined) return [];
      const [left, right] = [unwrapped(term.left), unwrapped(term.right)];
      return [
        ...condition(columnOf(left), pair[0], [right]),
        ...condition(columnOf(right), pair[1], [left]),
        ...(term.op === "Equals"
          ? [...joined(columnOf(left), () => outerAs(right, false)), ...joined(columnOf(right), () => outerAs(left, true))]
          : []),
      ];
    }
    case "InListExpr":
      return term.not ? [] : condition(columnOf(unwrapped(term.lhs)), "=", term.rhs);
    // Compared as by `=`: what stands on its left is the column, whose collation counts.
    case "InSelectExpr":
      return term.not ? [] : joined(columnOf(unwrapped(term.lhs)), () => others.subquery(term.rhs));
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
  const found = columnIn(scope, expr);
  return found?.reference === reference ? placeOf(found.name) : null;
}

/** The table of the clause whose bare column the expression is; null: it is something else, or it cannot be told whose. */
export function columnIn(scope: Scope, root: Expr): { readonly reference: Reference; readonly name: string } | null {
  const expr = unwrapped(root);
  if (expr.type === "QualifiedExpr") {
    if (expr.schema !== undefined && foldName(expr.schema.text) !== "main") return null;
    const qualifier = foldName(expr.table.text);
    const [reference, another] = scope.references.filter((one) => one.name === qualifier);
    return reference?.table == null || another !== undefined ? null : { reference, name: expr.column.text };
  }
  if (expr.type !== "Id") return null;
  // Every table must be known that could have it, and where names are merged it may be of either.
  if (scope.references.length > 1 && (scope.merges || scope.references.some((one) => one.table === null))) return null;
  const [reference, another] = scope.references.filter((one) => one.table !== null && hasColumn(one.table, expr.name));
  return reference === undefined || another !== undefined ? null : { reference, name: expr.name };
}

function isNamed(expr: Expr): expr is NamedColumn {
  return expr.type === "QualifiedExpr" || expr.type === "Id";
}

/** Whether it can be a column of the clause: a table of it goes by that name, or may have a column of it. */
export function mayName(scope: Scope, column: NamedColumn): boolean {
  if (column.type === "Id") return scope.references.some(({ table }) => table === null || hasColumn(table, column.name));
  const qualifier = foldName(column.table.text);
  return scope.references.some((one) => one.name === qualifier);
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
