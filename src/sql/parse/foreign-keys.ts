/**
 * A statement's foreign keys: what was declared, which Atomcast checks by queries of its own, and the edits that make SQLite's own counters harmless
 * on rows that are held in part: DEFERRABLE INITIALLY DEFERRED, and NO ACTION for RESTRICT (docs: RESTRICT behaves as NO ACTION).
 */
import { assert } from "../../base/errors.js";
import { blank, type Edit, insertAt, splice } from "./splice.js";
import {
  type ColumnDefinition,
  endOf,
  isFault,
  kinds,
  type ParsedStatement,
  parseStatement,
  type RefArg,
  type Stmt,
  startOf,
  type Token,
} from "./sqlite-grammar.js";

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

/** The text of a CREATE TABLE of the local store, without its foreign keys: nothing else about the table is different. */
export function withoutForeignKeys(sql: string): string {
  const parsed = parseStatement(sql);
  assert(!isFault(parsed), `the text of a table does not parse: ${sql}`);
  const { tokens } = parsed;
  const edits: Edit[] = [];
  let foreign: Token | null = null;
  forEachInDefinitions(tokens, 1, (token, index) => {
    if (token.type === kinds.foreign) foreign = token;
    if (token.type !== kinds.references) return;
    const end = endOfDeferrable(tokens, referenceOf(tokens, index).next);
    // A column's stands by itself; a table's has a place in a list, which something must take.
    edits.push(foreign === null ? blank(startOf(token), end) : { start: startOf(foreign), end, text: "CHECK (1)" });
    foreign = null;
  });
  return splice(sql, edits);
}

/** Of the DEFERRABLE that the local store puts behind each. */
function endOfDeferrable(tokens: readonly Token[], next: number): number {
  const last = tokens[next]?.type === kinds.deferrable ? next + 2 : next - 1;
  const token = tokens[last];
  assert(token !== undefined, "DEFERRABLE INITIALLY DEFERRED is three words");
  return endOf(token);
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
  forEachInDefinitions(tokens, clauseDepth, (token, index) => {
    if (token.type === kinds.references) {
      deferred.push(false);
      const { actions, next } = referenceOf(tokens, index);
      for (const action of actions) if (action.type === kinds.restrict) edits.push({ start: startOf(action), end: endOf(action), text: "NO ACTION" });
      const last = tokens[next - 1];
      assert(last !== undefined, "REFERENCES names a table");
      edits.push(insertAt(endOf(last), " DEFERRABLE INITIALLY DEFERRED"));
    } else if (token.type === kinds.deferrable) {
      const not = tokens[index - 1]?.type === kinds.not ? tokens[index - 1] : undefined;
      const timed = tokens[index + 1]?.type === kinds.initially ? tokens[index + 2] : undefined;
      edits.push(blank(startOf(not ?? token), endOf(timed ?? token)));
      if (deferred.length > 0) deferred[deferred.length - 1] = not === undefined && timed?.type === kinds.deferred;
    }
  });
  return { edits, deferred };
}

function forEachInDefinitions(tokens: readonly Token[], clauseDepth: number, act: (token: Token, index: number) => void): void {
  let depth = 0;
  tokens.forEach((token, index) => {
    if (token.type === kinds.leftParen) depth += 1;
    else if (token.type === kinds.rightParen) depth -= 1;
    if (depth === clauseDepth) act(token, index);
  });
}

/** `REFERENCES parent [(columns)] [ON DELETE|UPDATE|INSERT action | MATCH name]…` from its first word on: each action's first word, and the token behind all. */
function referenceOf(tokens: readonly Token[], referencesIndex: number): { readonly actions: readonly Token[]; readonly next: number } {
  const actions: Token[] = [];
  let next = referencesIndex + 2;
  if (tokens[next]?.type === kinds.leftParen) next = tokens.findIndex((token, index) => index > next && token.type === kinds.rightParen) + 1;
  for (;;) {
    const [first, second, action] = [tokens[next], tokens[next + 1], tokens[next + 2]];
    if (first?.type === kinds.match) next += 2;
    else if (first?.type === kinds.on && second !== undefined && action !== undefined) {
      actions.push(action);
      // SET NULL, SET DEFAULT and NO ACTION are two words.
      next += action.type === kinds.set || action.type === kinds.no ? 4 : 3;
    } else return { actions, next };
  }
}
