/**
 * What each PRAGMA of SQLite does here. Most writing PRAGMAs change SQLite's local file or process, which on a Cache is a disposable copy that all
 * clients share: they never reach it. SQLite runs many PRAGMAs when they are *prepared*: ask here first.
 */
import { foldName } from "./names.js";

/**
 * `read` goes to SQLite; `session` sets the client's session; `database` is an entry of the stream; `ignored` is tuning of a file that does not exist
 * here: accepted, never run, and answered as the PRAGMA without its argument; `refused` would change what SQL means.
 */
export type PragmaEffect = "read" | "session" | "database" | "ignored" | "refused";

interface PragmaRule {
  /** Without an argument. */
  readonly bare: PragmaEffect;
  /** With one. */
  readonly valued: PragmaEffect;
  /** The argument that asks for what is the case anyway, and so is ignored. */
  readonly harmless?: "off";
  readonly readsRows?: true;
}

const question: PragmaRule = { bare: "read", valued: "read" };
const questionOfRows: PragmaRule = { bare: "read", valued: "read", readsRows: true };
const session: PragmaRule = { bare: "session", valued: "session" };
const database: PragmaRule = { bare: "database", valued: "database" };
const tuning: PragmaRule = { bare: "read", valued: "ignored" };
const chore: PragmaRule = { bare: "ignored", valued: "ignored" };
const fixed: PragmaRule = { bare: "read", valued: "refused" };
const mustBeOff: PragmaRule = { bare: "read", valued: "refused", harmless: "off" };

/** Every name of `PRAGMA pragma_list`; a test compares. An unknown one does nothing in SQLite, and so is a read. */
export const pragmaRules: Readonly<Record<string, PragmaRule>> = {
  analysis_limit: tuning,
  application_id: database,
  auto_vacuum: tuning,
  automatic_index: tuning,
  busy_timeout: tuning,
  cache_size: tuning,
  cache_spill: tuning,
  case_sensitive_like: mustBeOff,
  cell_size_check: tuning,
  checkpoint_fullfsync: tuning,
  collation_list: question,
  compile_options: question,
  count_changes: mustBeOff,
  data_version: fixed,
  database_list: question,
  defer_foreign_keys: session,
  empty_result_callbacks: mustBeOff,
  encoding: tuning,
  foreign_key_check: questionOfRows,
  foreign_key_list: question,
  foreign_keys: session,
  freelist_count: fixed,
  full_column_names: mustBeOff,
  fullfsync: tuning,
  function_list: question,
  hard_heap_limit: fixed,
  ignore_check_constraints: mustBeOff,
  incremental_vacuum: chore,
  index_info: question,
  index_list: question,
  index_xinfo: question,
  integrity_check: questionOfRows,
  journal_mode: tuning,
  journal_size_limit: tuning,
  legacy_alter_table: mustBeOff,
  locking_mode: tuning,
  max_page_count: fixed,
  mmap_size: tuning,
  module_list: question,
  optimize: chore,
  page_count: fixed,
  page_size: tuning,
  pragma_list: question,
  query_only: mustBeOff,
  quick_check: questionOfRows,
  read_uncommitted: tuning,
  recursive_triggers: mustBeOff,
  reverse_unordered_selects: mustBeOff,
  schema_version: fixed,
  secure_delete: tuning,
  short_column_names: fixed,
  shrink_memory: chore,
  soft_heap_limit: fixed,
  synchronous: tuning,
  table_info: question,
  table_list: question,
  table_xinfo: question,
  temp_store: tuning,
  temp_store_directory: fixed,
  threads: tuning,
  trusted_schema: tuning,
  user_version: database,
  wal_autocheckpoint: tuning,
  wal_checkpoint: chore,
  writable_schema: mustBeOff,
};

/** Atomcast's own, with its schema's name. */
export const isolationPragma = "atomcast.isolation";
export const historyPragma = "atomcast.history";
export const asOfPragma = "atomcast.as_of";
export const ownPragmas = [isolationPragma, historyPragma, asOfPragma];

export interface PragmaMeaning {
  readonly effect: PragmaEffect;
  readonly readsRows: boolean;
}

/** `name` folded. */
export function pragmaMeaning(name: string, value: string | null): PragmaMeaning {
  if (name === isolationPragma || name === asOfPragma) return { effect: "session", readsRows: false };
  if (name === historyPragma) return { effect: "database", readsRows: false };
  const rule = Object.hasOwn(pragmaRules, name) ? pragmaRules[name] : undefined;
  if (rule === undefined) return { effect: "read", readsRows: false };
  const readsRows = rule.readsRows === true;
  if (value === null) return { effect: rule.bare, readsRows };
  const harmless = rule.harmless === "off" && !pragmaBoolean(value);
  return { effect: harmless ? "ignored" : rule.valued, readsRows };
}

/** An argument as SQLite's flags read it: on, yes, true, or a whole number other than zero; anything else is off. */
export function pragmaBoolean(value: string): boolean {
  if (/^\d/.test(value)) return (Number.parseInt(value, 10) & 0xff) !== 0;
  return ["on", "yes", "true"].includes(foldName(value));
}

const insteadOf: Readonly<Record<string, string>> = {
  case_sensitive_like: "use GLOB, or a column COLLATE BINARY with =",
  hard_heap_limit: "the memory budget is a setting of the engine",
  ignore_check_constraints: "make the table anew without the CHECK",
  legacy_alter_table: "ALTER TABLE … RENAME changes triggers and views with the table",
  max_page_count: "the memory budget is a setting of the engine",
  query_only: "use BEGIN TRANSACTION READONLY, or a token with the right to read alone",
  recursive_triggers: "triggers are never recursive here",
  schema_version: "it counts by itself; use PRAGMA user_version for a number of your own",
  soft_heap_limit: "the memory budget is a setting of the engine",
  writable_schema: "use CREATE, ALTER and DROP",
};

/** Why a refused PRAGMA is, and what to do instead. */
export function pragmaRefusal(name: string): string {
  const hint = Object.hasOwn(insteadOf, name) ? insteadOf[name] : undefined;
  return `PRAGMA ${name} cannot be set${hint === undefined ? ": it would change the local copy of one engine alone" : `: ${hint}`}`;
}
