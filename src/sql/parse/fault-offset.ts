/**
 * Where in a statement SQLite's error is. better-sqlite3 tells the message alone; the place follows from the grammar (a syntax error) or from the name
 * that the message quotes.
 */
import { foldName, unquoteName } from "./names.js";
import { byteOffset, isFault, kinds, parseStatement, startOf, type Token, tokensOf, unfitText } from "./sqlite-grammar.js";

/** Names at the end of the messages that tell one: "no such table: main.t", "no such column: t.a - should this be …". */
const namesAtFault =
  /^(?:no such (?:table|column|function|index|view|trigger|collation sequence|savepoint|module|database)|ambiguous column name|unknown database|duplicate column name|unknown function|misuse of aggregate(?: function)?|wrong number of arguments to function):? (.+?)(?: - should this be .*)?$/;

/** Byte offset of the token at fault, or −1 where the message does not say. */
export function faultOffset(sql: string, message: string): number {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return parsed.message === message ? parsed.offset : offsetOfNear(sql, message);
  const named = namesAtFault.exec(message)?.[1];
  if (named === undefined) return -1;
  const at = findName(parsed.tokens, named.replace(/\(\)$/, "").split("."));
  return at === null ? -1 : byteOffset(sql, startOf(at));
}

/** The grammar stopped elsewhere, or for another reason: the first token that SQLite names. */
function offsetOfNear(sql: string, message: string): number {
  const near = /^near "(.*)": syntax error$/s.exec(message)?.[1];
  if (near === undefined || unfitText(sql) !== null) return -1;
  for (const token of tokensOf(sql)) if (token.text === near) return byteOffset(sql, startOf(token));
  return -1;
}

/** The first token of a run `a.b.c` of names, with or without quotes. */
function findName(tokens: readonly Token[], parts: readonly string[]): Token | null {
  for (let start = 0; start < tokens.length; start += 1) {
    const matches = parts.every((part, index) => {
      const token = tokens[start + index * 2];
      if (token === undefined || foldName(unquoteName(token.text)) !== foldName(part)) return false;
      return index === 0 || tokens[start + index * 2 - 1]?.type === kinds.dot;
    });
    if (matches) return tokens[start] ?? null;
  }
  return null;
}
