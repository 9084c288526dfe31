/**
 * SQLite's grammar: the only file that knows sqlite3-parser. Text goes in; tokens, a tree, or SQLite's own error message with its place come out.
 *
 * SQLite itself has the last word: what a client sends is also prepared by SQLite, and where the two disagree the statement is refused, never
 * misread. Known differences, met here: `UPDATE/DELETE … ORDER BY … LIMIT` is not in the parser's grammar (cut off, parsed apart, put back); `window`,
 * `over` and `filter` are always keywords to it, and to SQLite only where a window can stand (decided here, token by token); a byte order mark in
 * front is not a blank to it; a name twice in a list of columns is an error to it alone, and stands in its tree once. Spans: those of names, literals and
 * selects are exact; those of later list items begin at the list's first item and an upsert's includes RETURNING. What is spliced is therefore
 * found by tokens.
 */
import * as parser from "sqlite3-parser";
import { assert } from "../../base/errors.js";
import { entryBytesMax } from "../../base/limits.js";
import type { SqlFault } from "../local-store.js";
import { boundedCache } from "./bounded-cache.js";

export type {
  AstNode,
  ColumnDefinition,
  CommonTableExpr,
  Expr,
  FromClause,
  FunctionCallExpr,
  InsertStmt,
  InsertTriggerCmd,
  Name,
  QualifiedName,
  RefArg,
  ResultColumn,
  Select,
  SelectFrom,
  SelectTable,
  SetAssignment,
  Stmt,
  Token,
  UpdateStmt,
  Upsert,
  With,
} from "sqlite3-parser";

/** Longest text of one statement or script, in UTF-16 units: no more could be carried by an entry. Beyond it: SQLITE_TOOBIG. */
export const sqlCharactersMax = entryBytesMax;

/**
 * Most tokens of one statement: with its tree about 200 bytes each, so 200 MB for the moment of parsing (half a second). Beyond it: SQLITE_TOOBIG, and the
 * client divides the statement (a long VALUES list) in several.
 */
export const statementTokensMax = 1_000_000;

/** The last tree is kept for its next use up to this many tokens, about 20 MB; a larger one is parsed for each use. */
export const keptTokensMax = 100_000;

/**
 * Trees of short texts that are kept, and the total length of these texts in UTF-16 units: a tree is fifty times its text, so this is about 13 MB at most.
 * Every statement that is in use is planned again after a change of the schema, and needs the trees of its text and of what it was rewritten to.
 */
export const keptTreesMax = 2000;
export const keptTreesCharactersMax = 256 * 1024;

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

/** The tokens that are looked for by kind. Many keywords are also names where nothing else fits (BEGIN, REPLACE, DEFERRED …): their kind stays the keyword's. */
export const kinds = {
  as: tokenKind("AS"),
  autoincrement: tokenKind("AUTOINCR"),
  begin: tokenKind("BEGIN"),
  comma: tokenKind("COMMA"),
  create: tokenKind("CREATE"),
  default: tokenKind("DEFAULT"),
  deferrable: tokenKind("DEFERRABLE"),
  deferred: tokenKind("DEFERRED"),
  delete: tokenKind("DELETE"),
  distinct: tokenKind("DISTINCT"),
  dot: tokenKind("DOT"),
  end: tokenKind("END"),
  except: tokenKind("EXCEPT"),
  explain: tokenKind("EXPLAIN"),
  filter: tokenKind("FILTER"),
  foreign: tokenKind("FOREIGN"),
  from: tokenKind("FROM"),
  group: tokenKind("GROUP"),
  having: tokenKind("HAVING"),
  id: tokenKind("ID"),
  illegal: tokenKind("ILLEGAL"),
  initially: tokenKind("INITIALLY"),
  insert: tokenKind("INSERT"),
  intersect: tokenKind("INTERSECT"),
  into: tokenKind("INTO"),
  joinKeyword: tokenKind("JOIN_KW"),
  leftParen: tokenKind("LP"),
  limit: tokenKind("LIMIT"),
  /** Numbers and strings, none of which is NULL. */
  literals: new Set([tokenKind("INTEGER"), tokenKind("FLOAT"), tokenKind("QNUMBER"), tokenKind("STRING"), tokenKind("BLOB")]),
  match: tokenKind("MATCH"),
  no: tokenKind("NO"),
  not: tokenKind("NOT"),
  on: tokenKind("ON"),
  order: tokenKind("ORDER"),
  over: tokenKind("OVER"),
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
  string: tokenKind("STRING"),
  temporary: tokenKind("TEMP"),
  trigger: tokenKind("TRIGGER"),
  union: tokenKind("UNION"),
  update: tokenKind("UPDATE"),
  values: tokenKind("VALUES"),
  variable: tokenKind("VARIABLE"),
  when: tokenKind("WHEN"),
  where: tokenKind("WHERE"),
  window: tokenKind("WINDOW"),
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
const kept = boundedCache<ParsedStatement>({ entriesMax: keptTreesMax, charactersMax: keptTreesCharactersMax });

/**
 * Parses exactly one statement. Codes of its faults: SQLITE_ERROR with SQLite's message, SQLITE_TOOBIG, SQL_NO_STATEMENT, SQL_MANY_STATEMENTS. The last
 * tree is kept whatever its length, since a statement is classified, rewritten and described in one go; of short texts, those that are used again.
 */
export function parseStatement(sql: string): ParsedStatement | SqlFault {
  if (last !== null && last.sql === sql) return last;
  const known = kept.get(sql);
  if (known !== undefined) return known;
  const unfit = unfitText(sql);
  if (unfit !== null) return unfit;
  const text = withoutByteOrderMark(sql);
  let parsed = parse(text);
  if (isFailure(parsed)) parsed = parseLimitedChange(text) ?? parsed;
  if (isFailure(parsed)) return { code: parsed.code, message: parsed.message, offset: parsed.index < 0 ? -1 : byteOffset(sql, parsed.index) };
  const statement = { sql, ...parsed };
  if (parsed.tokens.length <= keptTokensMax) last = statement;
  kept.set(sql, statement);
  return statement;
}

type Tree = Pick<ParsedStatement, "root" | "tokens">;

interface Failure {
  readonly code: string;
  readonly message: string;
  /** UTF-16 index, or −1. */
  readonly index: number;
}

function isFailure(value: Tree | Failure): value is Failure {
  return "code" in value;
}

/** SQLite's own loop (sqlite3RunParser): one token after the other, up to the first error. */
function parse(text: string): Tree | Failure {
  const tokens = listTokens(text);
  if (tokens === null) {
    return { code: "SQLITE_TOOBIG", message: `statement of more than ${statementTokensMax} tokens: divide it, or use parameters`, index: -1 };
  }
  const state = grammar.createState();
  const session = grammar.createEngine(grammar.reduce, state);
  let previous: parser.TokenId | null = null;
  for (let index = 0; index < tokens.length; index += 1) {
    const token = inContext(tokens, index, previous);
    const at = startOf(token);
    if (token.type === kinds.illegal) return { code: "SQLITE_ERROR", message: `unrecognized token: "${token.text}"`, index: at };
    session.next(token.type, token, token.span);
    // The reduction that ends a statement waits for the token behind its semicolon.
    if (state.cmds.length > 0 && token.type !== kinds.semicolon) {
      return { code: "SQL_MANY_STATEMENTS", message: "SQL string contains more than one statement", index: at };
    }
    // Of several errors at one token SQLite tells the last, and the grammar's own comes last.
    if (session.phase === "errored") return { code: "SQLITE_ERROR", message: `near "${token.text}": syntax error`, index: at };
    const error = state.errors.findLast(isSqlitesToo);
    if (error !== undefined) return { code: "SQLITE_ERROR", message: error.message, index: error.span.offset };
    previous = token.type;
  }
  const span = { offset: text.length, length: 0, line: 1, col: 0 };
  for (const type of previous === kinds.semicolon ? [endOfInput] : [kinds.semicolon, endOfInput]) session.next(type, { type, text: "", span }, span);
  if (session.phase !== "accepted") return { code: "SQLITE_ERROR", message: "incomplete input", index: text.length };
  const error = state.errors.findLast(isSqlitesToo);
  if (error !== undefined) return { code: "SQLITE_ERROR", message: error.message, index: error.span.offset };
  const root = state.cmds[0];
  if (root === undefined) return { code: "SQL_NO_STATEMENT", message: "SQL string does not contain any statement", index: -1 };
  return { root, tokens: significant(tokens) };
}

/** SQLite takes a name twice in one list of columns (the tree then has it once). */
function isSqlitesToo(error: { readonly message: string }): boolean {
  return !error.message.endsWith(" specified more than once");
}

/** Lemon's `$`. */
const endOfInput = 0 as parser.TokenId;

/** Up to the first that is no token. null: more than `statementTokensMax`. */
function listTokens(text: string): parser.Token[] | null {
  const tokens: parser.Token[] = [];
  for (const token of grammar.tokenize(text)) {
    tokens.push(token);
    if (token.type === kinds.illegal) break;
    if (tokens.length > statementTokensMax) return null;
  }
  return tokens;
}

/** SQLite's analyzeWindowKeyword(), analyzeOverKeyword() and analyzeFilterKeyword(): elsewhere these words are names. */
function inContext(tokens: parser.Token[], index: number, previous: parser.TokenId | null): parser.Token {
  const token = tokens[index];
  assert(token !== undefined, "a token in its list");
  const next = tokens[index + 1]?.type;
  const behindParen = previous === kinds.rightParen;
  let keyword = true;
  if (token.type === kinds.window) keyword = isNameLike(next) && tokens[index + 2]?.type === kinds.as;
  else if (token.type === kinds.over) keyword = behindParen && (next === kinds.leftParen || isNameLike(next));
  else if (token.type === kinds.filter) keyword = behindParen && next === kinds.leftParen;
  if (keyword) return token;
  const name: parser.Token = { ...token, type: kinds.id };
  tokens[index] = name;
  return name;
}

/** By kind, what a keyword may also be taken for: a name, or 0. */
const fallbacks = grammar.parserDefs.tables.yyFallback ?? [];

const nameLike: ReadonlySet<number> = new Set([kinds.id, kinds.string, kinds.joinKeyword, kinds.window, kinds.over]);

function isNameLike(type: parser.TokenId | undefined): boolean {
  return type !== undefined && (nameLike.has(type) || fallbacks[type] === kinds.id);
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
  let end = tokens.length;
  while (end > 0 && tokens[end - 1]?.type === kinds.semicolon) end -= 1;
  let first = 0;
  while (first < end && tokens[first]?.type === kinds.semicolon) first += 1;
  return first === 0 && end === tokens.length ? tokens : tokens.slice(first, end);
}

/**
 * `UPDATE/DELETE … ORDER BY … LIMIT`: the rest is parsed without them, and they behind as many blanks as keep every span in place. The cut is
 * at the first ORDER or LIMIT outside of parentheses: everything else of these statements that could hold one stands in parentheses. null: it is
 * no such statement.
 */
function parseLimitedChange(text: string): Tree | Failure | null {
  const tokens = listTokens(text);
  if (tokens === null || !tokens.some((token) => token.type === kinds.update || token.type === kinds.delete)) return null;
  const at = tokens.findIndex(topLevelTest((token) => token.type === kinds.limit || token.type === kinds.order));
  const cut = tokens[at];
  const probe = "select 1";
  if (cut === undefined || startOf(cut) < probe.length) return null;
  const change = parse(text.slice(0, startOf(cut)));
  if (isFailure(change)) return null;
  const explained = change.root.type === "ExplainStmt" ? change.root.stmt : change.root;
  if (explained.type !== "UpdateStmt" && explained.type !== "DeleteStmt") return null;
  const tail = parse(probe.padEnd(startOf(cut)) + text.slice(startOf(cut)));
  if (isFailure(tail)) return tail;
  if (tail.root.type !== "SelectStmt") return null;
  const whole: parser.Stmt = { ...explained, orderBy: tail.root.body.orderBy, limit: tail.root.body.limit };
  const root = change.root.type === "ExplainStmt" ? { ...change.root, stmt: whole } : whole;
  return { root, tokens: [...change.tokens, ...tail.tokens.filter((token) => startOf(token) >= startOf(cut))] };
}

/** A predicate for findIndex over a list of tokens that holds outside of parentheses only. */
export function topLevelTest(test: (token: parser.Token) => boolean) {
  let depth = 0;
  return (token: parser.Token): boolean => {
    if (token.type === kinds.leftParen) depth += 1;
    else if (token.type === kinds.rightParen) depth -= 1;
    return depth === 0 && test(token);
  };
}

const visitorKeys: Readonly<Partial<Record<string, readonly string[]>>> = parser.VisitorKeys;

/** In the order of the text. */
export function childrenOf(node: parser.AstNode): parser.AstNode[] {
  const children: parser.AstNode[] = [];
  pushChildren(node, children);
  return children;
}

function pushChildren(node: parser.AstNode, into: parser.AstNode[]): void {
  const keys = visitorKeys[node.type];
  if (keys === undefined) return;
  const children = node as unknown as Readonly<Record<string, parser.AstNode | readonly parser.AstNode[] | null | undefined>>;
  for (const key of keys) {
    const child = children[key];
    if (child === undefined || child === null) continue;
    if (!("type" in child)) for (const one of child) into.push(one);
    else into.push(child);
  }
}

/** Every node under `root`, in the order of the text. A loop, not a recursion: a long chain of ORs is a tree as deep as it is long. */
export function walk(root: parser.AstNode, visit: (node: parser.AstNode) => void): void {
  const stack: parser.AstNode[] = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    visit(node);
    const first = stack.length;
    pushChildren(node, stack);
    // The first comes off first.
    for (let low = first, high = stack.length - 1; low < high; low += 1, high -= 1) {
      const swapped = stack[low] as parser.AstNode;
      stack[low] = stack[high] as parser.AstNode;
      stack[high] = swapped;
    }
  }
}
