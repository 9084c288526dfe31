/**
 * Of each SELECT, UPDATE and DELETE of a statement, the one around it whose tables' columns it may name: a correlated subquery's outer one.
 *
 * | where it stands | what it may name |
 * |-----------------|------------------|
 * | in an expression of another one (WHERE, ON, the result, SET, GROUP BY, HAVING) | that one's columns |
 * | in its FROM clause | not that one's, but what that one may name itself |
 * | in WITH, in a compound's ORDER BY or LIMIT, among the arguments of a function in FROM, or in a join in parentheses (it may name tables there, too) | this planner does not say |
 */
import { type Expr, type FromClause, type Stmt, walk } from "../parse/sqlite-grammar.js";

export interface ScopeNode {
  readonly type: "SelectFrom" | "UpdateStmt" | "DeleteStmt";
  readonly from?: FromClause | undefined;
  readonly whereClause?: Expr | undefined;
}

type AnyNode = Parameters<Parameters<typeof walk>[1]>[0];

function isScope(node: AnyNode): boolean {
  return node.type === "SelectFrom" || node.type === "UpdateStmt" || node.type === "DeleteStmt";
}

/** Nodes that are not there have none. */
export function enclosingScopes(root: Stmt): ReadonlyMap<object, object | null> {
  const enclosing = new Map<object, object | null>();
  // From the outside in: what is set for an inner one later counts.
  const setWithin = (subtree: AnyNode, by: object | null): void =>
    walk(subtree, (node) => {
      if (node !== by && isScope(node)) enclosing.set(node, by);
    });
  walk(root, (node) => {
    switch (node.type) {
      case "SelectFrom":
      case "UpdateStmt":
      case "DeleteStmt": {
        setWithin(node, node);
        const from = node.type === "DeleteStmt" ? undefined : node.from;
        for (const table of [from?.select, ...(from?.joins ?? []).map((join) => join.table)])
          if (table !== undefined) setWithin(table, table.type === "SelectSelectTable" ? (enclosing.get(node) ?? null) : null);
        break;
      }
      case "CommonTableExpr":
        setWithin(node, null);
        break;
      case "Select":
        for (const column of node.orderBy ?? []) setWithin(column, null);
        if (node.limit !== undefined) setWithin(node.limit, null);
        break;
      default:
    }
  });
  return enclosing;
}

/** All scopes that stand in the expressions. */
export function scopesIn(exprs: readonly (Expr | undefined)[]): ReadonlySet<object> {
  const found = new Set<object>();
  for (const expr of exprs)
    if (expr !== undefined)
      walk(expr, (node) => {
        if (isScope(node)) found.add(node);
      });
  return found;
}
