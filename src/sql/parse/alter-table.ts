/** What an ALTER TABLE does, and whether it could fail for rows that this engine does not hold. */
import { unreachable } from "../../base/errors.js";
import type { ColumnDefinition, Expr, Stmt } from "./sqlite-grammar.js";

export type AlterTable =
  | { readonly kind: "renameTable"; readonly to: string }
  | { readonly kind: "renameColumn"; readonly from: string; readonly to: string }
  | { readonly kind: "addColumn"; readonly column: string; readonly constantDefault: boolean; readonly looksAtRows: LooksAtRows }
  | { readonly kind: "dropColumn"; readonly column: string }
  | { readonly kind: "setNotNull"; readonly column: string }
  | { readonly kind: "dropNotNull"; readonly column: string }
  | { readonly kind: "addConstraint"; readonly name: string | null }
  | { readonly kind: "dropConstraint"; readonly name: string };

/**
 * Whether the statement's success depends on rows: then the table is held whole first, or it would succeed on an engine without rows. `ifStrict`: only
 * in a STRICT table, whose rows SQLite checks against a new column's default.
 */
export type LooksAtRows = "never" | "ifStrict" | "always";

export function alterTableOf(root: Stmt & { readonly type: "AlterTableStmt" }): AlterTable {
  const { body } = root;
  switch (body.type) {
    case "RenameToAlterTableBody":
      return { kind: "renameTable", to: body.name.text };
    case "RenameColumnAlterTableBody":
      return { kind: "renameColumn", from: body.old.text, to: body.new.text };
    case "AddColumnAlterTableBody":
      return addColumn(body.column);
    case "DropColumnAlterTableBody":
      return { kind: "dropColumn", column: body.column.text };
    case "SetColumnNotNullAlterTableBody":
      return { kind: "setNotNull", column: body.column.text };
    case "DropColumnNotNullAlterTableBody":
      return { kind: "dropNotNull", column: body.column.text };
    case "AddConstraintAlterTableBody":
      return { kind: "addConstraint", name: body.constraint.name?.text ?? null };
    case "DropConstraintAlterTableBody":
      return { kind: "dropConstraint", name: body.name.text };
    default:
      return unreachable(body);
  }
}

export function alterLooksAtRows(alter: AlterTable): LooksAtRows {
  switch (alter.kind) {
    case "addColumn":
      return alter.looksAtRows;
    case "setNotNull":
    case "addConstraint":
      return "always";
    default:
      return "never";
  }
}

function addColumn(column: ColumnDefinition): AlterTable {
  const constraints = column.constraints.map((one) => one.constraint);
  const defaults = constraints.flatMap((one) => (one.type === "DefaultColumnConstraint" ? [one.expr] : []));
  const constantDefault = defaults.every(isConstant);
  const demanding = constraints.some((one) => {
    switch (one.type) {
      case "NotNullColumnConstraint":
      case "CheckColumnConstraint":
      case "GeneratedColumnConstraint":
      case "ForeignKeyColumnConstraint":
        return true;
      default:
        return false;
    }
  });
  const looksAtRows = demanding || !constantDefault ? "always" : defaults.length > 0 ? "ifStrict" : "never";
  return { kind: "addColumn", column: column.colName.text, constantDefault, looksAtRows };
}

/** Narrower than SQLite's own notion: a wrong "no" costs a pull, a wrong "yes" would be a divergence. */
function isConstant(value: Expr): boolean {
  switch (value.type) {
    case "NumericLiteral":
    case "StringLiteral":
    case "BlobLiteral":
    case "NullLiteral":
      return true;
    case "UnaryExpr":
      return (value.op === "Negative" || value.op === "Positive") && value.expr.type === "NumericLiteral";
    default:
      return false;
  }
}
