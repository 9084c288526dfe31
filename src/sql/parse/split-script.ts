/**
 * Cuts a script at its top-level semicolons. By tokens alone, so that a statement with a wrong grammar is cut out like any other and fails when
 * its turn comes; only a text without tokens (an open string) or a trigger without an end make the whole script wrong, for nobody can say
 * where its statements end.
 *
 * | in          | token                         | then                                                      |
 * | ----------- | ----------------------------- | --------------------------------------------------------- |
 * | between     | ;                             | stays (an empty statement is dropped)                     |
 * | between     | any other                     | head: the statement starts here                           |
 * | head        | CREATE [TEMP] TRIGGER         | trigger (also behind EXPLAIN [QUERY PLAN])                |
 * | head        | any other                     | plain                                                     |
 * | head, plain | ;                             | the statement ends                                        |
 * | trigger     | BEGIN                         | body                                                      |
 * | trigger     | ;                             | the statement ends: no trigger has one before its BEGIN   |
 * | body        | ; END ;                       | the statement ends; CASE … END has no ; before its END    |
 * | body        | end of the script             | ends if ; END came last, else "incomplete input"          |
 */
import type { SqlFault } from "../local-store.js";
import { byteOffset, endOf, kinds, startOf, type Token, tokensOf, unfitText } from "./sqlite-grammar.js";

interface Cut {
  /** UTF-16 indexes of the statement's first character and behind its last token. */
  start: number;
  end: number;
  state: "head" | "plain" | "trigger" | "body";
  /** Kinds of the last two tokens: what `; END` is seen by. */
  previous: number;
  beforePrevious: number;
}

/** Statements without their semicolons and without what stands between them. Empty ones are dropped. */
export function splitScript(script: string): readonly string[] | SqlFault {
  const unfit = unfitText(script);
  if (unfit !== null) return unfit;
  const statements: string[] = [];
  let cut: Cut | null = null;
  for (const token of tokensOf(script)) {
    if (token.type === kinds.illegal) {
      return { code: "SQLITE_ERROR", message: `unrecognized token: "${token.text}"`, offset: byteOffset(script, startOf(token)) };
    }
    if (cut === null) {
      if (token.type === kinds.semicolon) continue;
      cut = { start: startOf(token), end: startOf(token), state: "head", previous: kinds.semicolon, beforePrevious: kinds.semicolon };
    }
    if (token.type === kinds.semicolon && endsAtSemicolon(cut)) {
      statements.push(script.slice(cut.start, cut.end));
      cut = null;
      continue;
    }
    advance(cut, token);
  }
  if (cut !== null) {
    if (cut.state === "body" && !endsAtSemicolon(cut)) {
      return { code: "SQLITE_ERROR", message: "incomplete input", offset: byteOffset(script, script.length) };
    }
    statements.push(script.slice(cut.start, cut.end));
  }
  return statements;
}

function endsAtSemicolon(cut: Cut): boolean {
  return cut.state !== "body" || (cut.previous === kinds.end && cut.beforePrevious === kinds.semicolon);
}

function advance(cut: Cut, token: Token): void {
  if (cut.state === "head") cut.state = headState(token);
  else if (cut.state === "trigger" && token.type === kinds.begin) cut.state = "body";
  cut.beforePrevious = cut.previous;
  cut.previous = token.type;
  cut.end = endOf(token);
}

function headState(token: Token): Cut["state"] {
  switch (token.type) {
    case kinds.explain:
    case kinds.query:
    case kinds.plan:
    case kinds.create:
    case kinds.temporary:
      return "head";
    case kinds.trigger:
      return "trigger";
    default:
      return "plain";
  }
}
