/**
 * Finds where statements end while they are being typed or read line by line: SQLite's own sqlite3_complete(), kept between lines. A
 * semicolon ends a statement, but not within quotes, comments, or a CREATE TRIGGER before its END.
 */
import { DatabaseError } from "../base/errors.js";
import { entryBytesMax } from "../base/limits.js";

export interface StatementScanner {
  /** The statements that end in this line, with their semicolons. */
  push(line: string): string[];
  /** Nothing is pending but blanks and comments. */
  readonly isEmpty: boolean;
  /** What is pending, as text; then nothing is. */
  takeRest(): string;
}

type Token = "semicolon" | "other" | "explain" | "create" | "temp" | "trigger" | "end";
type State = "start" | "normal" | "explain" | "create" | "trigger" | "semicolon" | "end";

/** sqlite3_complete()'s table (src/complete.c): the state behind each token. White space and comments change nothing. */
const transitions: Readonly<Record<State, Readonly<Record<Token, State>>>> = {
  start: { semicolon: "start", other: "normal", explain: "explain", create: "create", temp: "normal", trigger: "normal", end: "normal" },
  normal: { semicolon: "start", other: "normal", explain: "normal", create: "normal", temp: "normal", trigger: "normal", end: "normal" },
  explain: { semicolon: "start", other: "explain", explain: "normal", create: "create", temp: "normal", trigger: "normal", end: "normal" },
  create: { semicolon: "start", other: "normal", explain: "normal", create: "normal", temp: "create", trigger: "trigger", end: "normal" },
  trigger: { semicolon: "semicolon", other: "trigger", explain: "trigger", create: "trigger", temp: "trigger", trigger: "trigger", end: "trigger" },
  semicolon: { semicolon: "semicolon", other: "trigger", explain: "trigger", create: "trigger", temp: "trigger", trigger: "trigger", end: "end" },
  end: { semicolon: "start", other: "trigger", explain: "trigger", create: "trigger", temp: "trigger", trigger: "trigger", end: "trigger" },
};

const words: ReadonlyMap<string, Token> = new Map([
  ["explain", "explain"],
  ["create", "create"],
  ["temp", "temp"],
  ["temporary", "temp"],
  ["trigger", "trigger"],
  ["end", "end"],
]);

/** What ends each kind of quote or comment; a doubled quote ends it and begins it again, which comes to the same. */
const closers: ReadonlyMap<string, string> = new Map([
  ["'", "'"],
  ['"', '"'],
  ["`", "`"],
  ["[", "]"],
  ["/*", "*/"],
]);

/** White space, comments, quotes, words, and any other character, from a given place on. */
const lexeme = /[ \t\r\n\f]+|--[^\n]*|\/\*|['"`[]|[\w$\u0080-\uffff]+|./sy;

export function createStatementScanner(): StatementScanner {
  let pending: string[] = [];
  let charCount = 0;
  let state: State = "start";
  let closer: string | null = null;
  const reset = (): void => {
    pending = [];
    charCount = 0;
    state = "start";
    closer = null;
  };
  return {
    get isEmpty() {
      return state === "start" && closer === null;
    },
    push(line) {
      const text = `${line}\n`;
      const statements: string[] = [];
      let from = 0;
      let at = 0;
      while (at < text.length) {
        if (closer !== null) {
          const end = text.indexOf(closer, at);
          at = end < 0 ? text.length : end + closer.length;
          if (end >= 0) closer = null;
          continue;
        }
        lexeme.lastIndex = at;
        const found = lexeme.exec(text)?.[0] ?? text.charAt(at);
        at += found.length;
        closer = closers.get(found) ?? null;
        if (found === "/*" || found.startsWith("--") || found.trim() === "") continue;
        const wasStart = state === "start";
        state = transitions[state][found === ";" ? "semicolon" : (words.get(found.toLowerCase()) ?? "other")];
        if (found !== ";" || state !== "start") continue;
        // A semicolon alone is no statement.
        if (!wasStart) statements.push((pending.join("") + text.slice(from, at)).trim());
        pending = [];
        charCount = 0;
        from = at;
      }
      pending.push(text.slice(from));
      charCount += text.length - from;
      if (charCount > entryBytesMax) {
        reset();
        throw new DatabaseError("SQLITE_TOOBIG", `A statement of more than ${entryBytesMax} characters (a quote that is not closed?).`);
      }
      // Blank lines and comments between statements are not kept for ever.
      if (state === "start" && closer === null) {
        pending = [];
        charCount = 0;
      }
      return statements;
    },
    takeRest() {
      const rest = state === "start" && closer === null ? "" : pending.join("").trim();
      reset();
      return rest;
    },
  };
}
