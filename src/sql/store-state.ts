/** What the parts of the local store share. */
import type { Database, Statement } from "better-sqlite3";
import { assert } from "../base/errors.js";
import { type AtomId, atomsPerEngine, type EngineId, type Life, noEngine, noSeq, type Seq, type SpaceId, spacesPerEngine } from "../base/ids.js";
import { captureTriggers } from "./capture.js";
import { type Connections, foreignKeyFlag, type Hooks, type StatementCache, statementCache } from "./connection.js";
import { HeldRanges } from "./held-ranges.js";
import { IdBlocks } from "./id-blocks.js";
import { emptySchema, type LocalColumn, type LocalSchema, type LocalTable, type SchemaReader, schemaReader } from "./local-schema.js";
import { foldName, quoteName } from "./parse/names.js";
import { triggerNeedsOf } from "./plan/trigger-needs.js";
import { RowHistory } from "./row-history.js";
import { fault, StatementFault } from "./statement-faults.js";
import { type PlanCache, planCache } from "./statement-plans.js";
import type { Unit } from "./unit.js";
import { UsedRanges } from "./used-ranges.js";

export interface StoreState {
  readonly connections: Connections;
  readonly main: Database;
  readonly mirror: Database;
  readonly hooks: Hooks;
  readonly foreignKeyFlag: { set(enabled: boolean): void };
  readonly schemaReader: SchemaReader;
  readonly listTriggers: Statement<[], TriggerRow>;
  /** Reads and checks of the store's own. */
  readonly statements: StatementCache;
  /** What writes committed rows: prepared while foreign keys are off, and without CHECKs. */
  readonly applyStatements: StatementCache;
  readonly plans: PlanCache;
  readonly ids: IdBlocks;
  readonly held: Map<SpaceId, HeldRanges>;
  readonly used: UsedRanges;
  /** Transactions that their clients have left open, as they were left. */
  readonly open: Map<number, Unit>;
  /** The one of them that SQLite's transaction is. */
  parked: { readonly transaction: number; readonly unit: Unit } | null;
  readonly history: RowHistory;
  /** The transaction that is open has made a system table: to roll it back expires every prepared statement, as with other changes of a schema. */
  madeSystemTable: boolean;
  /** It stays at `appliedSeq`, for reads of the past. */
  isPast: boolean;
  /** Raised when `held` or the schema changes. */
  heldGeneration: number;
  schema: LocalSchema;
  engine: EngineId;
  /** Whose range the next two count in. */
  life: Life;
  appliedSeq: Seq;
  /** Never taken back, so that a run that was rolled back and one that is being proposed never share an id. */
  spacesMade: number;
  atomsMade: number;
}

export function storeState(connections: Connections): StoreState {
  const { main, mirror, hooks } = connections;
  return {
    connections,
    main,
    mirror,
    hooks,
    foreignKeyFlag: foreignKeyFlag(main),
    schemaReader: schemaReader(main),
    listTriggers: main.prepare<[], TriggerRow>("SELECT name, sql FROM temp.sqlite_schema WHERE type = 'trigger'"),
    statements: statementCache(main),
    applyStatements: statementCache(main, false),
    plans: planCache(main, mirror),
    ids: new IdBlocks(),
    held: new Map(),
    used: new UsedRanges(),
    open: new Map(),
    parked: null,
    history: new RowHistory(),
    madeSystemTable: false,
    isPast: false,
    heldGeneration: 0,
    schema: emptySchema,
    engine: noEngine,
    life: 0 as Life,
    appliedSeq: noSeq,
    spacesMade: 0,
    atomsMade: 0,
  };
}

/** Prepared statements belong to one schema, also where it is one that was in force before. */
export function useSchema(state: StoreState, schema: LocalSchema): void {
  state.schema = schema;
  state.statements.clear();
  state.applyStatements.clear();
  state.heldGeneration++;
}

export function isHeldWhole(state: StoreState, table: SpaceId): boolean {
  return state.held.get(table)?.whole === true;
}

export function rangesOf(state: StoreState, table: SpaceId): HeldRanges {
  const known = state.held.get(table);
  if (known !== undefined) return known;
  const ranges = new HeldRanges();
  state.held.set(table, ranges);
  return ranges;
}

export function newSpace(state: StoreState): SpaceId {
  if (state.spacesMade + 1 >= spacesPerEngine) {
    const message = `this engine has made ${spacesPerEngine - 1} tables and unique indexes, as many as one can: send it to another engine, or start this one again`;
    throw new StatementFault(fault("SQLITE_FULL", message));
  }
  state.spacesMade++;
  return (state.life * spacesPerEngine + state.spacesMade) as SpaceId;
}

/** The upper half of an engine's atom numbers: the lower is the engine's own, for splits. */
export function newAtom(state: StoreState): AtomId {
  assert(state.atomsMade < atomsPerEngine / 2, "more atoms than spaces were made");
  return (state.life * atomsPerEngine + atomsPerEngine / 2 + state.atomsMade++) as AtomId;
}

interface TriggerRow {
  readonly name: string;
  readonly sql: string;
}

/** Drops the capture triggers of a table that is altered: SQLite would refuse to drop a column that they name. */
export function dropCaptureTriggers(state: StoreState, name: string): void {
  const table = state.schema.tablesByName.get(foldName(name));
  if (table === undefined) return;
  for (const trigger of triggersOf(state, state.schema, table).keys()) state.main.exec(`DROP TRIGGER IF EXISTS temp.${quoteName(trigger)}`);
}

/** Makes the capture triggers what the schema asks for; those that are right stay. */
export function installCaptureTriggers(state: StoreState, schema: LocalSchema): void {
  const installed = new Map(state.listTriggers.all().map(({ name, sql }) => [name, sql]));
  const wanted = new Map<string, string>();
  for (const table of schema.tables.values()) for (const [name, sql] of triggersOf(state, schema, table)) wanted.set(name, sql);
  // SQLite keeps the text without TEMP.
  const kept = (sql: string): string => sql.replace(/^CREATE TEMP TRIGGER/, "CREATE TRIGGER");
  for (const [name, sql] of installed) {
    const want = wanted.get(name);
    if (want === undefined || kept(want) !== sql) state.main.exec(`DROP TRIGGER temp.${quoteName(name)}`);
    else wanted.delete(name);
  }
  for (const sql of wanted.values()) state.main.exec(sql);
}

/** By what they are made from but for the foreign keys and users' triggers, and by these: a schema that is read again makes its tables anew. */
const triggerTexts = new WeakMap<readonly LocalColumn[], { readonly links: string; readonly texts: ReadonlyMap<string, string> }>();

function triggersOf({ main }: StoreState, schema: LocalSchema, table: LocalTable): ReadonlyMap<string, string> {
  const users = triggerNeedsOf(main, schema).byTable.get(table.space) ?? [];
  const isAlone = table.foreignKeys.length === 0 && table.referencedNames.length === 0 && users.length === 0;
  const links = isAlone
    ? ""
    : JSON.stringify([
        table.referencedNames,
        table.referencedBy.some((one) => one.mixesAffinities),
        table.foreignKeys.map((foreignKey) => foreignKey.childNames),
        users.map(({ event, columns }) => [event, columns.map(({ row, column }) => [row, column])]),
      ]);
  const known = triggerTexts.get(table.columns);
  if (known?.links === links) return known.texts;
  const texts = captureTriggers(table, users);
  triggerTexts.set(table.columns, { links, texts });
  return texts;
}
