/**
 * The local texts of views and triggers with ticks: what loops in these alone can be ended too. Their users never see them (the mirror has the users' own).
 *
 * A term is there as long as its object, under any schema: so it names only what the text itself names. It is left out where it changes SQLite's plan: of a view also
 * where nothing asks for its columns, as then SQLite may leave out joins; of a trigger's command with parameters for what is of the row. Where that cannot be known
 * yet, as a table is missing, recursions alone have theirs: those run for ever. A trigger has a tick each time that it fires, in its `_user()` (connection.ts).
 */
import type { Database } from "better-sqlite3";
import { foldName, unquoteName } from "./parse/names.js";
import { type Edit, splice } from "./parse/splice.js";
import { endOf, isFault, kinds, type ParsedStatement, parseStatement, startOf, type Token } from "./parse/sqlite-grammar.js";
import { triggerBody } from "./parse/trigger-body.js";
import { mayRepeat, tickedEdits } from "./ticked-statement.js";

/** Anywhere: comments may stand before it. */
const isMaker = /\b(?:view|trigger)\b/i;

/** Of any DDL; `database` has what it names. */
export function tickedText(database: Database, sql: string): string {
  if (!isMaker.test(sql) || !mayRepeat.test(sql)) return sql;
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return sql;
  switch (parsed.root.type) {
    case "CreateViewStmt":
      return splice(sql, viewEdits(database, parsed));
    case "CreateTriggerStmt":
      return splice(sql, triggerEdits(database, parsed));
    default:
      return sql;
  }
}

function viewEdits(database: Database, { sql, tokens }: ParsedStatement): Edit[] {
  const select = tokens.slice(tokens.findIndex(({ type }) => type === kinds.as) + 1).filter(({ type }) => type !== kinds.semicolon);
  return editsOf(database, sql, select, (text) => [text, `SELECT 1 FROM (${text})`]);
}

function triggerEdits(database: Database, parsed: ParsedStatement): Edit[] {
  const { when, begin, commands } = triggerBody(parsed);
  const { sql, tokens } = parsed;
  const condition = when === null ? [] : tokens.slice(tokens.indexOf(when) + 1, tokens.indexOf(begin));
  return [...partEdits(database, sql, condition, "SELECT "), ...commands.flatMap((command) => partEdits(database, sql, command, ""))];
}

/** `head`: makes a statement of what is none, a trigger's condition. */
function partEdits(database: Database, sql: string, command: readonly Token[], head: string): Edit[] {
  if (command.length === 0) return [];
  const start = startOf(command[0] as Token) - head.length;
  const stands: Edit[] = [];
  for (const [index, token] of command.entries()) {
    const [before, next, name] = [command[index - 1], command[index + 1], command[index + 2]];
    const word = foldName(unquoteName(sql.slice(startOf(token), endOf(token))));
    if ((word === "new" || word === "old") && next?.type === kinds.dot && name !== undefined && before?.type !== kinds.dot)
      stands.push({ start: startOf(token) - start, end: endOf(name) - start, text: parameterOf(endOf(name) - startOf(token)) });
    else if (word === "raise" && next?.type === kinds.leftParen)
      stands.push(numberFor(startOf(token) - start, endOf(command[closing(command, index + 1)] ?? next) - start));
  }
  return editsOf(
    database,
    sql,
    command,
    (text) => [text],
    (text) => splice(`${head}${text}`, stands),
    stands.flatMap(({ text }) => (text.startsWith(":") ? [text.slice(1)] : [])),
    head.length,
  );
}

/** One token each, as long as what it stands for: so all places are those of the text. */
function parameterOf(length: number): string {
  return ":".padEnd(length, "p");
}

function numberFor(start: number, end: number): Edit {
  return { start, end, text: "0".repeat(end - start) };
}

function closing(tokens: readonly Token[], open: number): number {
  let depth = 0;
  for (let index = open; index < tokens.length; index++) {
    if (tokens[index]?.type === kinds.leftParen) depth++;
    else if (tokens[index]?.type === kinds.rightParen && --depth === 0) return index;
  }
  return open;
}

/** Of the part of the text that these tokens are, as a statement of its own. */
function editsOf(
  database: Database,
  sql: string,
  tokens: readonly Token[],
  probesOf: (text: string) => readonly string[],
  standing: (text: string) => string = (text) => text,
  parameters: readonly string[] = [],
  headLength = 0,
): Edit[] {
  const [first, last] = [tokens[0], tokens.at(-1)];
  if (first === undefined || last === undefined) return [];
  const shift = startOf(first) - headLength;
  const text = standing(sql.slice(startOf(first), endOf(last)));
  const nulls = parameters.length === 0 ? [] : [Object.fromEntries(parameters.map((name) => [name, null]))];
  return tickedEdits(database, text, nulls, null, probesOf).map((edit) => ({
    ...edit,
    start: edit.start + shift,
    end: edit.end + shift,
  }));
}
