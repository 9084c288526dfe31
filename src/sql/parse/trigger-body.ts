/** Where the parts of a CREATE TRIGGER stand, by tokens: the tree's spans of its commands and of its WHEN are not exact. */
import { assert } from "../../base/errors.js";
import { kinds, type ParsedStatement, startOf, type Token } from "./sqlite-grammar.js";

export interface TriggerBody {
  /** null: there is no WHEN. */
  readonly when: Token | null;
  readonly begin: Token;
  /** Each command's tokens, without its semicolon. */
  readonly commands: readonly (readonly Token[])[];
}

const commandStarts: ReadonlySet<number> = new Set([kinds.insert, kinds.replace, kinds.update, kinds.delete, kinds.select, kinds.values, kinds.with]);

export function triggerBody(parsed: ParsedStatement): TriggerBody {
  const { tokens, root } = parsed;
  assert(root.type === "CreateTriggerStmt", "only a trigger has a trigger's body");
  const tableStart = root.tblName.objName.span.offset;
  // BEGIN may also be a name ("when begin begin select …"), but behind the table's name no command follows such a one.
  const beginIndex = tokens.findIndex((token, index) => {
    const next = tokens[index + 1];
    return token.type === kinds.begin && startOf(token) > tableStart && next !== undefined && commandStarts.has(next.type);
  });
  const begin = tokens[beginIndex];
  assert(begin !== undefined, "a trigger has a body");
  // WHEN is never a name, and a CASE has its WHENs behind the trigger's own.
  const when = root.whenClause === undefined ? null : (tokens.find((token) => token.type === kinds.when) ?? null);
  const commands: Token[][] = [];
  let command: Token[] = [];
  for (const token of tokens.slice(beginIndex + 1, -1)) {
    if (token.type === kinds.semicolon) {
      commands.push(command);
      command = [];
    } else command.push(token);
  }
  assert(commands.length === root.commands.length && command.length === 0, "a trigger's commands end in semicolons");
  return { when, begin, commands };
}
