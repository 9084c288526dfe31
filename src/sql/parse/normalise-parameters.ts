/**
 * The parameters of a statement in SQLite's numbering, which better-sqlite3 does not tell, and how to bind each there: what has no name (a bare `?`,
 * or a number that a `?NNN` skipped) by place, the rest by an object's keys. better-sqlite3 leaves a name's first character out, so `:a` and `@a`
 * would share one value; only such statements are rewritten, to `?NNN`.
 */
import type { SqlFault } from "../local-store.js";
import { boundedCache } from "./bounded-cache.js";
import { type Edit, splice } from "./splice.js";
import { byteOffset, endOf, isFault, kinds, parseStatement, startOf, type Token } from "./sqlite-grammar.js";

/** SQLITE_MAX_VARIABLE_NUMBER of the SQLite in use. */
export const parameterNumberMax = 32_766;

export interface Parameter {
  /** With its prefix, as `sqlite3_bind_parameter_name` tells it (`:a`, `?5`); null for a bare `?` and for a number that is not used. */
  readonly name: string | null;
  /** Key in the object that better-sqlite3 binds by; null: it takes the next of the values given by place, which come before the object. */
  readonly key: string | null;
}

export interface NormalisedParameters {
  readonly sql: string;
  /** parameters[n − 1] is parameter n. */
  readonly parameters: readonly Parameter[];
}

/** Statements whose parameters are remembered. */
export const normalisedEntriesMax = 4096;

/** Total length of remembered texts, in UTF-16 units; the rewritten text is at most a few times as long. */
export const normalisedCharactersMax = 4 * 1024 * 1024;

const normalised = boundedCache<NormalisedParameters>({ entriesMax: normalisedEntriesMax, charactersMax: normalisedCharactersMax });

/** Cached. Faults are those of `parseStatement`, and SQLite's own for numbers out of range. */
export function normaliseParameters(sql: string): NormalisedParameters | SqlFault {
  const known = normalised.get(sql);
  if (known !== undefined) return known;
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return parsed;
  const result = normalise(sql, parsed.tokens);
  if (!isFault(result)) normalised.set(sql, result);
  return result;
}

interface Use {
  readonly token: Token;
  readonly number: number;
}

function normalise(sql: string, tokens: readonly Token[]): NormalisedParameters | SqlFault {
  const uses: Use[] = [];
  const names: (string | null)[] = [];
  const numbers = new Map<string, number>();
  for (const token of tokens) {
    if (token.type !== kinds.variable) continue;
    // A register of SQLite's own compiler, which is no client's to name.
    if (/^#\d/.test(token.text))
      return { code: "SQLITE_ERROR", message: `near "${token.text}": syntax error`, offset: byteOffset(sql, startOf(token)) };
    const number = numberOf(token.text, names.length, numbers);
    const outOfRange = token.text[0] === "?" && token.text.length > 1 && !(number >= 1 && number <= parameterNumberMax);
    if (outOfRange || number > parameterNumberMax) {
      const message = outOfRange ? `variable number must be between ?1 and ?${parameterNumberMax}` : "too many SQL variables";
      return { code: "SQLITE_ERROR", message, offset: byteOffset(sql, startOf(token)) };
    }
    while (names.length < number) names.push(null);
    if (token.text !== "?") {
      numbers.set(token.text, number);
      // SQLite keeps the first name that a number is given: ?1 and ?01 are one.
      names[number - 1] ??= token.text;
    }
    uses.push({ token, number });
  }
  const keys = names.map((name) => name?.slice(1) ?? null);
  const named = keys.filter((key) => key !== null);
  if (new Set(named).size === named.length) return { sql, parameters: names.map((name, index) => ({ name, key: keys[index] ?? null })) };
  return rewritten(sql, uses, names);
}

/** The number of each parameter, by the UTF-16 index at which it stands: of a text that is normalised already. */
export function parameterNumbers(tokens: readonly Token[]): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  const numbers = new Map<string, number>();
  let highest = 0;
  for (const token of tokens) {
    if (token.type !== kinds.variable) continue;
    const number = numberOf(token.text, highest, numbers);
    if (token.text !== "?") numbers.set(token.text, number);
    highest = Math.max(highest, number);
    found.set(startOf(token), number);
  }
  return found;
}

function numberOf(text: string, highest: number, numbers: ReadonlyMap<string, number>): number {
  if (text === "?") return highest + 1;
  if (text[0] === "?") return Number(text.slice(1));
  return numbers.get(text) ?? highest + 1;
}

function rewritten(sql: string, uses: readonly Use[], names: readonly (string | null)[]): NormalisedParameters {
  const used = new Set(uses.map((use) => use.number));
  const edits = uses.map(({ token, number }): Edit => ({ start: startOf(token), end: endOf(token), text: `?${number}` }));
  const parameters = names.map((name, index): Parameter => ({ name, key: used.has(index + 1) ? String(index + 1) : null }));
  return { sql: splice(sql, edits), parameters };
}
