/**
 * The local store on better-sqlite3 (contract: local-store.ts). SQLite parses, plans and runs everything; what is added is that every change is
 * captured and rolled back, that committed changes are put in, and that it is known which rows are here.
 *
 * The way of a statement: statement-plans.ts (ready, and which tables) → run-steps.ts (carried out) → capture.ts (which rows) → unit-of-work.ts
 * (what they are, as an entry). The way of an entry: apply-entries.ts.
 */
import { createHash } from "node:crypto";
import { BugError } from "../base/errors.js";
import { type EngineId, type Life, noEngine, type Seq, type SpaceId } from "../base/ids.js";
import { detachValues } from "../base/large-values.js";
import { integerKey } from "../base/sort-key.js";
import type { SchemaObject } from "../messages/wire/entry.js";
import { applyEntries, installRows, readAllRows } from "./apply-entries.js";
import { openConnections } from "./connection.js";
import { dropRange } from "./drop-range.js";
import { localTextOf } from "./execute-ddl.js";
import { explainedByPull, explainPullColumns } from "./explain-pull.js";
import { installIndex } from "./held-indexes.js";
import type { StoredObject } from "./local-schema.js";
import type { Description, LocalStore, PullNeed, SqlFault, Usage } from "./local-store.js";
import { forget, keptNeeds, unpark, within } from "./open-transactions.js";
import { classify } from "./parse/classify.js";
import { foldName, quoteName } from "./parse/names.js";
import { normaliseParameters } from "./parse/normalise-parameters.js";
import { splitScript } from "./parse/split-script.js";
import { isFault } from "./parse/sqlite-grammar.js";
import { readChunk } from "./read-chunk.js";
import { changesSchema } from "./replay-transaction.js";
import { takeIdsBack } from "./row-ids.js";
import { runSteps } from "./run-steps.js";
import { faultOf } from "./statement-faults.js";
import { noWatch } from "./statement-watch.js";
import { installCaptureTriggers, isHeldWhole, rangesOf, type StoreState, storeState, useSchema } from "./store-state.js";
import { encodeStoredRow } from "./stored-rows.js";

/**
 * `directory`: an empty one, for this store alone, removed by whoever made it; null: in memory. `memoryBytes`: of rows that it will hold about, to which
 * what SQLite takes beside them is fitted. `watch`: ends statements that run too long.
 */
export function openSqliteLocalStore(directory: string | null, memoryBytes = Number.POSITIVE_INFINITY, watch = noWatch): LocalStore {
  const connections = openConnections(directory, memoryBytes, watch);
  const state = storeState(connections);
  return {
    get appliedSeq() {
      return state.appliedSeq;
    },
    get oldestSnapshot() {
      return state.history.oldest;
    },
    reset: (seq, schema, isPast = false) => reset(state, seq, schema, isPast),
    become: (engine, life) => become(state, engine, life),
    run: (request, system) => runSteps(state, request, system),
    split: splitScript,
    describe(sql, transaction) {
      const kept = transaction === null ? undefined : state.open.get(transaction);
      if (transaction !== null && kept !== undefined && changesSchema(kept)) return within(state, transaction, () => describe(state, sql));
      if (state.parked !== null && changesSchema(state.parked.unit)) unpark(state);
      return describe(state, sql);
    },
    endTransaction: (transaction) => forget(state, transaction),
    apply(entries, through) {
      unpark(state);
      applyEntries(state, entries, through);
    },
    beginHold: (table, low, high) => rangesOf(state, table).beginJoining({ low, high }, state.appliedSeq),
    install(space, low, high, seq, rows, changedSeq = seq, images = [], values = []) {
      unpark(state);
      const found = state.schema.indexesBySpace.get(space);
      if (found !== undefined) return installIndex(state, found.table, found.index, { low, high }, seq, rows, changedSeq, images);
      return installRows(state, space, { low, high }, seq, { rows, images, values }, changedSeq);
    },
    readChunk(space, low, high, bytesMax) {
      unpark(state);
      return readChunk(state, space, low, high, bytesMax);
    },
    abandonHold: (table, low, high) => state.held.get(table)?.abandonJoining({ low, high }),
    dropRange(table, low, high) {
      unpark(state);
      dropRange(state, table, { low, high });
    },
    usage: () => usage(state),
    holdEmpty(table, low, high) {
      rangesOf(state, table).hold({ low: new Uint8Array(low), high: high === null ? null : new Uint8Array(high) });
      state.heldGeneration++;
    },
    grantIds: (table, first, last) => state.ids.grant(table, first, last),
    takeIdsBack: () => takeIdsBack(state),
    tableHash(table) {
      unpark(state);
      return isHeldWhole(state, table) ? rowsHash(state, table) : null;
    },
    heldHash(table) {
      unpark(state);
      const ranges = state.held.get(table)?.pieces ?? [];
      const hash = rowsHash(state, table);
      return hash === null || ranges.length === 0 ? null : { ranges: [...ranges], hash };
    },
    close() {
      connections.main.close();
      connections.mirror.close();
    },
  };
}

function reset(state: StoreState, seq: Seq, schema: readonly { readonly object: SchemaObject; readonly version: Seq }[], isPast: boolean): void {
  unpark(state);
  state.open.clear();
  state.history.clear();
  state.foreignKeyFlag.set(false);
  clearDatabase(state);
  state.held.clear();
  state.ids.clear();
  state.engine = noEngine;
  const objects = new Map<string, StoredObject>();
  try {
    for (const stored of schema) {
      state.mirror.exec(stored.object.sql);
      // Triggers learn of the ids of their INSERTs' tables below, when these are known.
      if (stored.object.type !== "trigger") state.main.exec(localTextOf(state, stored.object.sql));
      objects.set(foldName(stored.object.name), stored);
    }
    useSchema(state, state.schemaReader.read(objects));
    for (const { object } of schema) if (object.type === "trigger") state.main.exec(localTextOf(state, object.sql));
  } catch (cause) {
    throw new BugError("the schema catalog does not make a schema", { cause });
  }
  installCaptureTriggers(state, state.schema);
  useSchema(state, state.schema);
  state.appliedSeq = seq;
  state.isPast = isPast;
}

/** Another id has another range, from its beginning; within one, no number is taken twice, whatever is reset. */
function become(state: StoreState, engine: EngineId, life: Life): void {
  state.engine = engine;
  if (state.life === life) return;
  state.life = life;
  state.spacesMade = 0;
  state.atomsMade = 0;
}

interface NamedRow {
  readonly type: string;
  readonly name: string;
}

/** Everything, and the settings. Views and triggers go first, since they may name what goes after them. */
function clearDatabase(state: StoreState): void {
  const list = "SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'trigger', 'table') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
  for (const database of [state.main, state.mirror]) {
    const rows = database.prepare<[], NamedRow>(list).all();
    const order = ["trigger", "view", "table"];
    rows.sort((left, right) => order.indexOf(left.type) - order.indexOf(right.type));
    database.exec("PRAGMA user_version = 0; PRAGMA application_id = 0");
    for (const { type, name } of rows) database.exec(`DROP ${type} IF EXISTS main.${quoteName(name)}`);
  }
}

function describe(state: StoreState, sql: string): Description | SqlFault {
  const explained = explainedByPull(sql);
  if (explained !== null) {
    const described = describe(state, explained);
    return isFault(described) ? described : { parameters: described.parameters, columns: explainPullColumns, isExplain: true, isReadonly: true };
  }
  const info = classify(sql);
  if (isFault(info)) return info;
  if (info.kind === "refused") return info.fault;
  const normalised = normaliseParameters(sql);
  if (isFault(normalised)) return normalised;
  const parameters = normalised.parameters.map(({ name }) => ({ name }));
  const isExplain = info.kind === "read" && info.explain !== "no";
  const isReadonly = info.kind === "read" || (info.kind === "pragma" && !info.writes);
  // SQLite carries out many PRAGMAs while it prepares them.
  if (info.kind === "pragma") return { parameters, columns: [], isExplain, isReadonly };
  try {
    const statement = state.mirror.prepare<unknown[]>(normalised.sql);
    const columns = statement.reader ? statement.columns().map((column) => ({ name: column.name, declaredType: column.type })) : [];
    return { parameters, columns, isExplain, isReadonly };
  } catch (error) {
    return describeOnMain(state, normalised.sql, { parameters, columns: [], isExplain, isReadonly }, faultOf(error));
  }
}

/** The mirror has no system tables. */
function describeOnMain(state: StoreState, sql: string, description: Description, first: SqlFault): Description | SqlFault {
  if (!/system/i.test(sql)) return first;
  try {
    const statement = state.main.prepare<unknown[]>(sql);
    const columns = statement.reader ? statement.columns().map((column) => ({ name: column.name, declaredType: column.type })) : [];
    return { ...description, columns };
  } catch (error) {
    return faultOf(error);
  }
}

function usage(state: StoreState): Usage {
  const figure = (name: string): number => Number(state.main.pragma(name, { simple: true }));
  const pageBytes = figure("page_size");
  const pages = figure("page_count");
  const used = state.used.take();
  const ids = [...state.schema.tables.keys()].flatMap((space): PullNeed[] => {
    const ranges = state.ids.remaining(space).map(({ first, last }) => ({ low: idKey(first), high: `${idKey(last)}\0` }));
    return ranges.length === 0 ? [] : [{ space, ranges }];
  });
  return {
    used,
    ids,
    open: [...state.open.values()].flatMap((unit) => keptNeeds(unit)),
    usedBytes: (pages - figure("freelist_count")) * pageBytes,
    fileBytes: pages * pageBytes,
  };
}

function idKey(id: bigint): string {
  return integerKey(id).toString("latin1");
}

const hashModulus = 1n << 128n;

/** Of the rows that are here: none is that is not held. */
function rowsHash(state: StoreState, space: SpaceId): string | null {
  const table = state.schema.tables.get(space);
  if (table === undefined) return null;
  let sum = 0n;
  for (const { key, row } of readAllRows(state, table)) {
    const digest = createHash("sha256")
      .update(key)
      .update(detachValues(encodeStoredRow(table, row)).row)
      .digest();
    sum = (sum + (digest.readBigUInt64BE(0) << 64n) + digest.readBigUInt64BE(8)) % hashModulus;
  }
  return sum.toString(16).padStart(32, "0");
}
