/**
 * A statement's foreign keys: what was declared, which Atomcast checks by queries of its own, and the edits that make SQLite's own counters harmless
 * on rows that are held in part: DEFERRABLE INITIALLY DEFERRED, and NO ACTION for RESTRICT (docs: RESTRICT behaves as NO ACTION).
 */
import { assert } from "../../base/errors.js";
import { blank, type Edit, insertAt } from "./splice.js";
import { type ColumnDefinition, endOf, kinds, type ParsedStatement, type RefArg, type Stmt, startOf, type Token } from "./sqlite-grammar.js";

export type ForeignKeyAction = "noAction" | "restrict" | "cascade" | "setNull" | "setDefault";

export interface DeclaredForeignKey {
  readonly columns: readonly string[];
  readonly parentTable: string;
  /** Empty: the parent's primary key. */
  readonly parentColumns: readonly string[];
  readonly onDelete: ForeignKeyAction;
  readonly onUpdate: ForeignKeyAction;
  /** DEFERRABLE INITIALLY DEFERRED: checked at COMMIT; else at the end of each statement. */
  readonly initiallyDeferred: boolean;
}

export interface ForeignKeys {
  readonly declared: readonly DeclaredForeignKey[];
  readonly edits: readonly Edit[];
}

/** Of a CREATE TABLE or an ALTER TABLE ADD COLUMN; of anything else, none. */
export function foreignKeysOf(parsed: ParsedStatement): ForeignKeys {
  const clauses = clausesOf(parsed.root);
  // In CREATE TABLE the definitions stand inside the outermost parentheses.
  const clauseDepth = parsed.root.type === "CreateTableStmt" ? 1 : 0;
  if (clauses === null) return { declared: [], edits: [] };
  const { edits, deferred } = findClauses(parsed.tokens, clauseDepth);
  assert(deferred.length === clauses.length, "every REFERENCES is a foreign key");
  return { edits, declared: clauses.map((clause, index) => ({ ...clause, initiallyDeferred: deferred[index] === true })) };
}

type Clause = Omit<DeclaredForeignKey, "initiallyDeferred">;

/** In the order of the text. null: the statement defines no columns. */
function clausesOf(root: Stmt): readonly Clause[] | null {
  if (root.type === "AlterTableStmt") return root.body.type === "AddColumnAlterTableBody" ? ofColumn(root.body.column) : null;
  if (root.type !== "CreateTableStmt" || root.body.type !== "ColumnsAndConstraintsCreateTableBody") return null;
  const ofTable = (root.body.constraints ?? []).flatMap(({ constraint }) =>
    constraint.type === "ForeignKeyTableConstraint" ? [clauseOf(constraint.columns, constraint.clause)] : [],
  );
  return [...root.body.columns.flatMap(ofColumn), ...ofTable];
}

function ofColumn(column: ColumnDefinition): readonly Clause[] {
  return column.constraints.flatMap(({ constraint }) =>
    constraint.type === "ForeignKeyColumnConstraint" ? [clauseOf([column], constraint.clause)] : [],
  );
}

interface NamedColumn {
  readonly colName: { readonly text: string };
}

function clauseOf(
  columns: readonly NamedColumn[],
  clause: { readonly tblName: { readonly text: string }; readonly columns: readonly NamedColumn[] | undefined; readonly args: readonly RefArg[] },
): Clause {
  const textOf = (column: NamedColumn) => column.colName.text;
  return {
    columns: columns.map(textOf),
    parentTable: clause.tblName.text,
    parentColumns: (clause.columns ?? []).map(textOf),
    onDelete: actionOf(clause.args, "OnDeleteRefArg"),
    onUpdate: actionOf(clause.args, "OnUpdateRefArg"),
  };
}

const actions = { NoAction: "noAction", Restrict: "restrict", Cascade: "cascade", SetNull: "setNull", SetDefault: "setDefault" } as const;

/** The last of its kind counts. */
function actionOf(args: readonly RefArg[], kind: "OnDeleteRefArg" | "OnUpdateRefArg"): ForeignKeyAction {
  const arg = args.findLast((one) => one.type === kind);
  return arg !== undefined && "action" in arg ? actions[arg.action] : "noAction";
}

/**
 * SQLite applies a DEFERRABLE to the foreign key that was read last, wherever it stands (also behind another column's type); so is it read here. Its
 * words become blanks, and each foreign key gets its own.
 */
function findClauses(tokens: readonly Token[], clauseDepth: number): { readonly edits: readonly Edit[]; readonly deferred: readonly boolean[] } {
  const edits: Edit[] = [];
  const deferred: boolean[] = [];
  let depth = 0;
  tokens.forEach((token, index) => {
    if (token.type === kinds.leftParen) depth += 1;
    else if (token.type === kinds.rightParen) depth -= 1;
    if (depth !== clauseDepth) return;
    if (token.type === kinds.references) {
      deferred.push(false);
      edits.push(...referenceEdits(tokens, index));
    } else if (token.type === kinds.deferrable) {
      const not = tokens[index - 1]?.type === kinds.not ? tokens[index - 1] : undefined;
      const timed = tokens[index + 1]?.type === kinds.initially ? tokens[index + 2] : undefined;
      edits.push(blank(startOf(not ?? token), endOf(timed ?? token)));
      if (deferred.length > 0) deferred[deferred.length - 1] = not === undefined && timed?.type === kinds.deferred;
    }
  });
  return { edits, deferred };
}

/** `REFERENCES parent [(columns)] [ON DELETE|UPDATE|INSERT action | MATCH name]…` from its first word on. */
function referenceEdits(tokens: readonly Token[], referencesIndex: number): readonly Edit[] {
  const edits: Edit[] = [];
  let next = referencesIndex + 2;
  if (tokens[next]?.type === kinds.leftParen) next = tokens.findIndex((token, index) => index > next && token.type === kinds.rightParen) + 1;
  for (;;) {
    const [first, second, third] = [tokens[next], tokens[next + 1], tokens[next + 2]];
    if (first?.type === kinds.match) next += 2;
    else if (first?.type === kinds.on && second !== undefined && third !== undefined) {
      if (third.type === kinds.restrict) edits.push({ start: startOf(third), end: endOf(third), text: "NO ACTION" });
      // SET NULL, SET DEFAULT and NO ACTION are two words.
      next += third.type === kinds.set || third.type === kinds.no ? 4 : 3;
    } else break;
  }
  const lastToken = tokens[next - 1];
  assert(lastToken !== undefined, "REFERENCES names a table");
  edits.push(insertAt(endOf(lastToken), " DEFERRABLE INITIALLY DEFERRED"));
  return edits;
}
