/**
 * SQLite's grammar: the only file that knows sqlite3-parser. Text goes in; tokens, a tree, or SQLite's own error message with its place come out.
 *
 * SQLite itself has the last word: what a client sends is also prepared by SQLite, and where the two disagree the statement is refused, never
 * misread. Known differences, met here: `UPDATE/DELETE … ORDER BY … LIMIT` is not in the parser's grammar (cut off, parsed apart, put back), and
 * a byte order mark in front is not a blank to it. Refused though SQLite takes it: a column named twice in one list (`insert into t(a, a) …`). Spans: those of names, literals and selects are exact; those of later list items begin at
 * the list's first item and an upsert's includes RETURNING. What is spliced is therefore found by tokens.
 */
import * as parser from "sqlite3-parser";
import { assert } from "../../base/errors.js";
import { entryBytesMax } from "../../base/limits.js";
import type { SqlFault } from "../local-store.js";

export type {
  AstNode,
  ColumnDefinition,
  Expr,
  FunctionCallExpr,
  InsertStmt,
  InsertTriggerCmd,
  Name,
  QualifiedName,
  RefArg,
  Select,
  Stmt,
  Token,
} from "sqlite3-parser";

/** Longest text of one statement or script, in UTF-16 units: no more could be carried by an entry. Beyond it: SQLITE_TOOBIG. */
export const sqlCharactersMax = entryBytesMax;

/**
 * Most tokens of one statement: its tree takes about 300 bytes a token, so about 300 MB for the moment of parsing. Beyond it: SQLITE_TOOBIG, and the
 * client divides the statement (a long VALUES list) in several.
 */
export const statementTokensMax = 1_000_000;

/** A text this short cannot have too many tokens: it is not counted before it is parsed. */
const uncountedCharactersMax = statementTokensMax;

export interface ParsedStatement {
  readonly sql: string;
  readonly root: parser.Stmt;
  /** Without blanks, comments and closing semicolons. */
  readonly tokens: readonly parser.Token[];
}

// SQLite takes 1_000; the parser only where it is told so.
const grammar = parser.withOptions({ digitSeparator: "_" });

function tokenKind(name: string): parser.TokenId {
  const index = grammar.parserDefs.symbols.indexOf(name);
  assert(index > 0, `the grammar has no token ${name}`);
  return index as parser.TokenId;
}

/** The tokens that are looked for by kind. A keyword's token is its kind only where the tokenizer cannot take it for a name: compare the text of the others. */
export const kinds = {
  as: tokenKind("AS"),
  autoincrement: tokenKind("AUTOINCR"),
  begin: tokenKind("BEGIN"),
  by: tokenKind("BY"),
  comma: tokenKind("COMMA"),
  create: tokenKind("CREATE"),
  default: tokenKind("DEFAULT"),
  deferrable: tokenKind("DEFERRABLE"),
  deferred: tokenKind("DEFERRED"),
  delete: tokenKind("DELETE"),
  dot: tokenKind("DOT"),
  end: tokenKind("END"),
  explain: tokenKind("EXPLAIN"),
  id: tokenKind("ID"),
  illegal: tokenKind("ILLEGAL"),
  initially: tokenKind("INITIALLY"),
  insert: tokenKind("INSERT"),
  into: tokenKind("INTO"),
  leftParen: tokenKind("LP"),
  limit: tokenKind("LIMIT"),
  /** Numbers and strings, none of which is NULL. */
  literals: new Set([tokenKind("INTEGER"), tokenKind("FLOAT"), tokenKind("QNUMBER"), tokenKind("STRING"), tokenKind("BLOB")]),
  match: tokenKind("MATCH"),
  no: tokenKind("NO"),
  not: tokenKind("NOT"),
  on: tokenKind("ON"),
  order: tokenKind("ORDER"),
  plan: tokenKind("PLAN"),
  query: tokenKind("QUERY"),
  references: tokenKind("REFERENCES"),
  replace: tokenKind("REPLACE"),
  restrict: tokenKind("RESTRICT"),
  returning: tokenKind("RETURNING"),
  rightParen: tokenKind("RP"),
  select: tokenKind("SELECT"),
  semicolon: tokenKind("SEMI"),
  set: tokenKind("SET"),
  temporary: tokenKind("TEMP"),
  trigger: tokenKind("TRIGGER"),
  update: tokenKind("UPDATE"),
  values: tokenKind("VALUES"),
  variable: tokenKind("VARIABLE"),
  when: tokenKind("WHEN"),
  with: tokenKind("WITH"),
} as const;

export function startOf(token: parser.Token): number {
  return token.span.offset;
}

export function endOf(token: parser.Token): number {
  return token.span.offset + token.span.length;
}

/** UTF-16 index to UTF-8 byte offset: SQLite and Hrana count bytes. */
export function byteOffset(sql: string, index: number): number {
  return Buffer.byteLength(sql.slice(0, index));
}

let last: ParsedStatement | null = null;

/**
 * Parses exactly one statement. Codes of its faults: SQLITE_ERROR with SQLite's message, SQLITE_TOOBIG, SQL_NO_STATEMENT, SQL_MANY_STATEMENTS. The last
 * tree is kept, since a statement is classified, rewritten and described in one go; more are not, for a tree is fifty times its text.
 */
export function parseStatement(sql: string): ParsedStatement | SqlFault {
  if (last !== null && last.sql === sql) return last;
  const unfit = unfitText(sql) ?? (sql.length > uncountedCharactersMax ? tooManyTokens(sql) : null);
  if (unfit !== null) return unfit;
  const text = withoutByteOrderMark(sql);
  const result = grammar.parseStmt(text, { emitTokens: true });
  if (result.status === "ok") {
    last = { sql, root: result.root, tokens: significant(result.tokens ?? []) };
    return last;
  }
  const repaired = parseLimitedChange(text, result.tokens ?? []);
  if (repaired !== null) {
    last = { sql, ...repaired };
    return last;
  }
  return faultOf(sql, result.errors[0]);
}

export function isFault(value: object): value is SqlFault {
  return "code" in value && "message" in value && "offset" in value;
}

/** What no parser need look at. null: the text is fit. SQLite would read a NUL as the end, and UTF-8 cannot carry half a surrogate pair. */
export function unfitText(sql: string): SqlFault | null {
  if (sql.length > sqlCharactersMax) return { code: "SQLITE_TOOBIG", message: `SQL text of more than ${sqlCharactersMax} characters`, offset: -1 };
  const nul = sql.indexOf("\0");
  if (nul >= 0) {
    return { code: "SQLITE_ERROR", message: "SQL text holds a NUL character: pass such text as a parameter", offset: byteOffset(sql, nul) };
  }
  const half = sql.search(/\p{Surrogate}/u);
  if (half >= 0)
    return { code: "SQLITE_ERROR", message: "SQL text is not well-formed Unicode: half of a surrogate pair", offset: byteOffset(sql, half) };
  return null;
}

function tooManyTokens(sql: string): SqlFault | null {
  let count = 0;
  for (const token of tokensOf(sql)) {
    count += 1;
    if (count > statementTokensMax) {
      const message = `statement of more than ${statementTokensMax} tokens: divide it, or use parameters`;
      return { code: "SQLITE_TOOBIG", message, offset: byteOffset(sql, startOf(token)) };
    }
  }
  return null;
}

/** Tokens one by one, blanks and comments left out: a long script is never held as a list of tokens. */
export function tokensOf(sql: string): Iterable<parser.Token> {
  return grammar.tokenize(withoutByteOrderMark(sql));
}

const keywords: ReadonlySet<string> = new Set(grammar.keywordDefs.keywords.map((keyword) => keyword.name.toLowerCase()));

/** `name` folded. Also words that may be names without quotes: SQLite quotes those too where it writes a schema. */
export function isKeyword(name: string): boolean {
  return keywords.has(name);
}

/** A blank of the same length: every index stays. */
function withoutByteOrderMark(sql: string): string {
  return sql.startsWith("\ufeff") ? ` ${sql.slice(1)}` : sql;
}

function significant(tokens: readonly parser.Token[]): readonly parser.Token[] {
  let length = tokens.length;
  while (length > 0) {
    const token = tokens[length - 1];
    if (token === undefined || (token.synthetic !== true && token.type !== kinds.semicolon)) break;
    length -= 1;
  }
  let first = 0;
  while (first < length && tokens[first]?.type === kinds.semicolon) first += 1;
  return tokens.slice(first, length);
}

function faultOf(sql: string, error: parser.ParseDiagnostic | undefined): SqlFault {
  assert(error !== undefined, "a failed parse says why");
  const offset = byteOffset(sql, error.span.offset);
  if (error.message === "no SQL statement in input") {
    return { code: "SQL_NO_STATEMENT", message: "SQL string does not contain any statement", offset: -1 };
  }
  if (error.message === "expected end of input after single statement") {
    return { code: "SQL_MANY_STATEMENTS", message: "SQL string contains more than one statement", offset };
  }
  return { code: "SQLITE_ERROR", message: error.message, offset };
}

/**
 * `UPDATE/DELETE … ORDER BY … LIMIT`: the rest is parsed without them, and they behind as many blanks as keep every span in place. The cut is
 * at the first ORDER BY or LIMIT outside of parentheses: everything else of these statements that could hold one stands in parentheses.
 */
function parseLimitedChange(text: string, parsedTokens: readonly parser.Token[]): Pick<ParsedStatement, "root" | "tokens"> | null {
  if (!parsedTokens.some((token) => token.type === kinds.update || token.type === kinds.delete)) return null;
  const tokens = [...tokensOf(text)];
  const at = tokens.findIndex(topLevelTest((token, next) => token.type === kinds.limit || (token.type === kinds.order && next?.type === kinds.by)));
  const cut = tokens[at];
  const probe = "select 1";
  if (cut === undefined || startOf(cut) < probe.length) return null;
  const change = grammar.parseStmt(text.slice(0, startOf(cut)));
  if (change.status !== "ok") return null;
  const tail = grammar.parseStmt(probe.padEnd(startOf(cut)) + text.slice(startOf(cut)));
  if (tail.status !== "ok" || tail.root.type !== "SelectStmt") return null;
  const { orderBy, limit } = tail.root.body;
  const explained = change.root.type === "ExplainStmt" ? change.root.stmt : change.root;
  if (explained.type !== "UpdateStmt" && explained.type !== "DeleteStmt") return null;
  const whole: parser.Stmt = { ...explained, orderBy, limit };
  return { root: change.root.type === "ExplainStmt" ? { ...change.root, stmt: whole } : whole, tokens: significant(tokens) };
}

/** A predicate for findIndex over a list of tokens that holds outside of parentheses only. */
export function topLevelTest(test: (token: parser.Token, next: parser.Token | undefined) => boolean) {
  let depth = 0;
  return (token: parser.Token, index: number, all: readonly parser.Token[]): boolean => {
    if (token.type === kinds.leftParen) depth += 1;
    else if (token.type === kinds.rightParen) depth -= 1;
    return depth === 0 && test(token, all[index + 1]);
  };
}

const visitorKeys: Readonly<Partial<Record<string, readonly string[]>>> = parser.VisitorKeys;

/** Every node under `root`, in the order of the text. A loop, not a recursion: a long chain of ORs is a tree as deep as it is long. */
export function walk(root: parser.AstNode, visit: (node: parser.AstNode) => void): void {
  const stack: parser.AstNode[] = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    visit(node);
    const keys = visitorKeys[node.type];
    if (keys === undefined) continue;
    const children = node as unknown as Readonly<Record<string, parser.AstNode | readonly parser.AstNode[] | undefined>>;
    for (let index = keys.length - 1; index >= 0; index -= 1) {
      const child = children[keys[index] ?? ""];
      if (child === undefined) continue;
      if (!Array.isArray(child)) stack.push(child as parser.AstNode);
      else for (let item = child.length - 1; item >= 0; item -= 1) stack.push(child[item]);
    }
  }
}
