/**
 * What SQLite's introspection does not tell, read from the text of a definition: an index's expressions and its WHERE, and the names that
 * may stand in it. The text has been accepted by SQLite, so only its shape is looked at.
 */
import { foldName } from "./parse/names.js";
import { endOf, kinds, startOf, type Token, tokensOf } from "./parse/sqlite-grammar.js";

export interface IndexText {
  /** One for each indexed column, without ASC, DESC. A COLLATE is left in. */
  readonly expressions: readonly string[];
  readonly where: string | null;
}

export function readIndexText(sql: string): IndexText {
  const tokens = [...tokensOf(sql)].filter((token) => token.type !== kinds.semicolon);
  const open = tokens.findIndex((token) => token.type === kinds.leftParen);
  const expressions: string[] = [];
  let depth = 0;
  let from = open + 1;
  let index = open;
  for (; index < tokens.length; index++) {
    const token = tokens[index] as Token;
    if (token.type === kinds.leftParen) depth++;
    else if (token.type === kinds.rightParen) depth--;
    if (depth > 1 || (depth === 1 && token.type !== kinds.comma)) continue;
    expressions.push(textOf(sql, tokens.slice(from, index)));
    from = index + 1;
    if (depth === 0) break;
  }
  // Only WHERE can stand behind the list.
  const condition = tokens[index + 2];
  const last = tokens.at(-1);
  const where = condition === undefined || last === undefined ? null : sql.slice(startOf(condition), endOf(last));
  return { expressions, where };
}

function textOf(sql: string, tokens: readonly Token[]): string {
  const last = tokens.at(-1);
  const before = tokens.at(-2);
  // Behind an operator it is a column's name.
  const isDirection =
    last !== undefined && before !== undefined && /^(asc|desc)$/i.test(sql.slice(startOf(last), endOf(last))) && endsExpression(sql, before);
  const kept = isDirection ? tokens.slice(0, -1) : tokens;
  const [first, end] = [kept[0], kept.at(-1)];
  return first === undefined || end === undefined ? "" : sql.slice(startOf(first), endOf(end));
}

/** A name, a literal, or a closing parenthesis. */
function endsExpression(sql: string, token: Token): boolean {
  if (token.type === kinds.rightParen || kinds.literals.has(token.type)) return true;
  return (
    /[\w"'`\]\u0080-\uffff]$/.test(sql.slice(startOf(token), endOf(token))) && !wordOperators.has(foldName(sql.slice(startOf(token), endOf(token))))
  );
}

const wordOperators = new Set(["and", "between", "collate", "distinct", "escape", "from", "glob", "is", "like", "match", "not", "or", "regexp"]);

/** Every word of the text that could be a name, unquoted and folded: to find which tables a definition may mention. */
export function wordsOf(sql: string, fold: (name: string) => string): Set<string> {
  const words = new Set<string>();
  for (const token of tokensOf(sql)) {
    const text = sql.slice(startOf(token), endOf(token));
    const quote = text[0];
    if (quote === '"' || quote === "`" || quote === "'") words.add(fold(text.slice(1, -1).replaceAll(quote + quote, quote)));
    else if (quote === "[") words.add(fold(text.slice(1, -1)));
    else words.add(fold(text));
  }
  return words;
}
