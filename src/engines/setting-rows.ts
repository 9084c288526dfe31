/** Rows of system.settings that an engine knows: how it was started, and what holds for the whole database. A session's own come with its run (sql/session-settings.ts). */
import { durationText, historyMsOf, historyObject } from "../base/history.js";
import type { SqlValue } from "../base/values.js";
import type { SystemTables } from "../sql/local-store.js";

type Row = SystemTables[string]["rows"][number];

/** An option of the process. */
export interface EngineSetting {
  readonly name: string;
  readonly value: SqlValue;
  /** What it says, with its unit. */
  readonly meaning: string;
  readonly source: "default" | "option" | "environment";
  /** How it is changed. */
  readonly change: string;
}

export const settingColumns = ["name", "value", "meaning", "source", "change"];

export interface DatabaseFacts {
  /** The text of a setting in the schema catalog. */
  setting(name: string): string | undefined;
  readonly voters: number;
}

export function settingRows(started: readonly EngineSetting[], database: DatabaseFacts): Row[] {
  return [...started.map((one) => ({ ...one })), ...databaseRows(database)];
}

function databaseRows({ setting, voters }: DatabaseFacts): Row[] {
  const sourceOf = (text: string | undefined): string => (text === undefined ? "default" : "database");
  const history = setting(historyObject);
  const number = (name: string): Row => {
    const text = setting(`\0${name}`);
    return {
      name,
      value: BigInt(text?.slice(text.indexOf("=") + 1) ?? 0),
      meaning: "a number of the database for its users; nothing here depends on it",
      source: sourceOf(text),
      change: `PRAGMA ${name} = N`,
    };
  };
  return [
    {
      name: "history",
      value: durationText(historyMsOf(history)),
      meaning: "how long what rows were before they changed is kept; 0: while a transaction may read it",
      source: sourceOf(history),
      change: "PRAGMA atomcast.history = '1h'",
    },
    {
      name: "voters",
      value: BigInt(voters),
      meaning: "Archives that vote on what is durable",
      source: "database",
      change: "atomcast archive (up to its --voters), atomcast remove NODE",
    },
    number("user_version"),
    number("application_id"),
  ];
}
