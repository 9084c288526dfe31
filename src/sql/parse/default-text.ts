/** A column's default as an expression, of the text that PRAGMA table_info tells. */
import { foldName, unquoteName } from "./names.js";
import { endOf, startOf, tokensOf } from "./sqlite-grammar.js";

const valuesByName = new Set(["true", "false", "null", "current_date", "current_time", "current_timestamp"]);

/**
 * A name that stands alone, in double quotes or without, is a string in a DEFAULT and a column anywhere else. A comment behind the last word is left out: it would
 * go on in what is put behind the expression.
 */
export function defaultExpression(text: string | null): string | null {
  if (text === null) return null;
  const tokens = [...tokensOf(text)];
  const [first, last] = [tokens[0], tokens.at(-1)];
  if (first === undefined || last === undefined) return text;
  const expression = text.slice(startOf(first), endOf(last));
  if (first !== last || !isName(expression)) return expression;
  return `'${unquoteName(expression).replaceAll("'", "''")}'`;
}

function isName(word: string): boolean {
  if (/^["`[]/.test(word)) return true;
  return /^[^\d.'+-][^']*$/.test(word) && !valuesByName.has(foldName(word));
}
