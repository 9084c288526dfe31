/** How a Cache was started, for system.settings: its options as they are in force, and where each comes from. */
import type { Command } from "commander";
import type { EngineSetting } from "../engines/setting-rows.js";
import type { CommonOptions } from "./options.js";

/** Where commander has a value from. */
export type SourceOf = (option: string) => EngineSetting["source"];

export function sourcesOf(command: Command): SourceOf {
  return (option) => {
    const source = command.getOptionValueSource(option);
    return source === "cli" ? "option" : source === "env" ? "environment" : "default";
  };
}

interface Started extends CommonOptions {
  readonly http: string;
}

export function cacheSettings(
  options: Started,
  sourceOf: SourceOf,
  { memoryBytes, statementTimeoutMs, group }: { readonly memoryBytes: number; readonly statementTimeoutMs: number; readonly group: string },
): EngineSetting[] {
  const row = (option: string, name: string, value: EngineSetting["value"], meaning: string): EngineSetting => ({
    name,
    value,
    meaning,
    source: sourceOf(option),
    change: `--${name.replaceAll("_", "-")}, when the engine is started`,
  });
  return [
    row("database", "database", options.database, "its name"),
    row("http", "http", options.http, "where this engine serves clients; port 0: any free one (system.engines tells)"),
    row("memory", "memory", BigInt(memoryBytes), "bytes of keys and rows that this engine holds at most"),
    row(
      "statementTimeout",
      "statement_timeout",
      BigInt(statementTimeoutMs),
      "milliseconds that a statement may run on this engine; 0: as long as it likes",
    ),
    row("interface", "interface", options.interface, "the network that this engine talks on with others"),
    row(
      options.multicast ? "group" : "multicast",
      "group",
      options.multicast ? group : null,
      "its multicast group; NULL: it uses none (--no-multicast)",
    ),
    row("log", "log", options.log, "what goes to stderr"),
  ];
}
