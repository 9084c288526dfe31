/** Local stores fed with the same committed entries, as engines would: what one commits, all apply. */
import { PermissionTable } from "../../src/atoms/permission-table.js";
import { RecentKeys } from "../../src/atoms/recent-keys.js";
import { genesisHash } from "../../src/base/chain-hash.js";
import { type EngineId, type Life, largeValueSpace, type ProposalSeq, type Seq, type SpaceId, schemaSpace, type Term } from "../../src/base/ids.js";
import type { BinaryRange } from "../../src/base/key-ranges.js";
import { chunkKeys, type LargeValue, nameOfValue, referencesOf, type ValueName } from "../../src/base/large-values.js";
import { type IndexedColumn, indexEntryKey, type RowIndex } from "../../src/base/row-index.js";
import type { FindValue, SqlValue } from "../../src/base/values.js";
import { foldName, indexesOf, SchemaCatalog } from "../../src/catalog/schema-catalog.js";
import { isOvertaken } from "../../src/engines/conflict-text.js";
import { decodeEntry, encodeProposal, type SchemaObject, type TransactionBody } from "../../src/messages/wire/entry.js";
import type {
  Changes,
  Chunk,
  KeptTransaction,
  LocalStore,
  PulledImage,
  PulledRow,
  PullNeed,
  ResultSet,
  RunResult,
  SessionSettings,
  SqlFault,
  Step,
  StepOutcome,
} from "../../src/sql/local-store.js";
import { openSqliteLocalStore } from "../../src/sql/sqlite-local-store.js";
import { noWatch, type StatementWatch } from "../../src/sql/statement-watch.js";
import type { StoredRows } from "../../src/storage/atom-store.js";
import { createMemoryAtomStore } from "../../src/storage/memory-atom-store.js";
import { StoreChangesWriter } from "../../src/storage/store-changes.js";

export const freshSettings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };

export interface Engine {
  readonly id: EngineId;
  readonly store: LocalStore;
  settings: SessionSettings;
}

interface NewestRow {
  readonly seq: Seq;
  readonly key: Uint8Array;
  readonly row: Uint8Array | null;
}

export interface Client {
  readonly engine: Engine;
  readonly transaction: number;
  isOpen: boolean;
  settings: SessionSettings;
}

/** What comes of a range: from the log where nobody else has it, with what the rows were where a transaction may read that. */
interface Copied {
  readonly seq: Seq;
  readonly rows: readonly PulledRow[];
  readonly next: Buffer | null;
  readonly images?: readonly PulledImage[];
  readonly imagesFrom?: Seq;
}

export interface Answer {
  readonly outcomes: readonly StepOutcome[];
  readonly commits: readonly Changes[];
}

/** Of the last step, which must have succeeded. */
export function rowsOfLast(outcomes: readonly StepOutcome[]): readonly (readonly SqlValue[])[] {
  const last = outcomes.at(-1);
  if (last?.kind !== "ok") throw new Error(last?.kind === "error" ? `${last.fault.code}: ${last.fault.message}` : "skipped");
  return last.result.rows;
}

/** The code of the last step's error. */
export function faultOfLast(outcomes: readonly StepOutcome[]): string {
  const last = outcomes.at(-1);
  if (last?.kind !== "error") throw new Error(`no error: ${last?.kind}`);
  return last.fault.code;
}

export function step(sql: string, args: readonly SqlValue[] = []): Step {
  return { sql, args: { positional: args, named: [] }, wantRows: true, condition: null };
}

const conflict: SqlFault = { code: "SQLITE_BUSY_SNAPSHOT", message: "not granted", offset: -1 };

export class Cluster {
  readonly engines: Engine[];
  readonly log: { readonly seq: Seq; readonly bytes: Uint8Array }[] = [];
  readonly schema = new Map<string, { object: SchemaObject; version: Seq }>();
  readonly #catalog = new SchemaCatalog();
  /** What an Archive has, and what it remembers of the past. */
  readonly archive = createMemoryAtomStore();
  #indexes: ReadonlyMap<SpaceId, readonly RowIndex[]> = new Map();
  /** By table and key, those that were deleted too. */
  readonly #rows = new Map<SpaceId, Map<string, NewestRow>>();
  readonly #recent = new RecentKeys(0 as Seq);
  #seq = 100;
  #nextIds = new Map<SpaceId, bigint>();
  #seed = 1;
  pulls = 0;
  /** All that was asked for so far. */
  readonly needs: PullNeed[] = [];
  rowsPulled = 0;
  /** Of other engines' stores. */
  chunksRead = 0;
  imagesRead = 0;
  valuesPulled = 0;
  /** A chunk has been read. */
  beforeInstall: () => void = () => {};
  /** Of those that were pulled, those that were not here yet; and how many they would have been, were tables always pulled whole. */
  rowsBrought = 0;
  rowsIfWhole = 0;
  lookUps = 0;
  /** Called before a range of an index is asked for. A Cache lets no two questions overlap: it waits for the one that is under way. */
  beforeLookUp: (index: SpaceId, range: BinaryRange) => void = () => {};
  /** For `rowsIfWhole`: what of a table would not be here. A table that is not named would not be here at all. */
  readonly #ifWhole = new Map<Engine, Map<SpaceId, BinaryRange[]>>();
  /** Where each table's atoms begin, as if it had been split there; a table that is not named is pulled by the keys alone. */
  readonly cuts = new Map<SpaceId, readonly string[]>();

  constructor(count: number, directories: readonly (string | null)[] = [], watch: StatementWatch = noWatch, memoryBytes?: number) {
    this.engines = Array.from({ length: count }, (_, index) => {
      const store = openSqliteLocalStore(directories[index] ?? null, memoryBytes, watch);
      store.reset(100 as Seq, []);
      store.become((index + 2) as EngineId, (index + 2) as Life);
      return { id: (index + 2) as EngineId, store, settings: freshSettings };
    });
  }

  get seq(): Seq {
    return this.#seq as Seq;
  }

  engine(index: number): Engine {
    const engine = this.engines[index];
    if (engine === undefined) throw new Error(`no engine ${index}`);
    return engine;
  }

  /** A client of an engine, with a transaction of its own. */
  client(index: number): Client {
    return { engine: this.engine(index), transaction: this.#seed++, isOpen: false, settings: freshSettings };
  }

  /** As a session would: what is left open stays open. "lost": the transaction is over. */
  in(client: Client, ...steps: readonly (string | Step)[]): readonly StepOutcome[] {
    const { engine } = client;
    const all = steps.map((one) => (typeof one === "string" ? step(one) : one));
    const outcomes: StepOutcome[] = [];
    const [seed, before] = [this.#seed++, engine.settings];
    while (outcomes.length < all.length) {
      engine.settings = client.settings;
      const result = this.#runOnce(engine, all, outcomes, seed, { id: client.transaction, resumes: client.isOpen });
      if (result === null) continue;
      outcomes.push(...result.outcomes);
      client.settings = result.settings;
      client.isOpen = result.kind === "open";
      if (result.kind === "commit" && this.#isGranted(result.changes, result.snapshot)) this.commit(engine.id, result.changes.body);
      else if (result.kind === "commit") outcomes.splice(-1, 1, { kind: "error", fault: conflict });
      if (result.kind === "lost") while (outcomes.length < all.length) outcomes.push({ kind: "error", fault: result.fault });
    }
    engine.settings = before;
    return outcomes;
  }

  /** Runs all steps on one engine, commits what they commit, and answers as an engine would. */
  run(index: number, steps: readonly Step[]): Answer {
    const engine = this.engine(index);
    const outcomes: StepOutcome[] = [];
    const commits: Changes[] = [];
    const seed = this.#seed++;
    for (let round = 0; outcomes.length < steps.length; round++) {
      if (round > 1000) throw new Error("a run does not come to an end");
      const result = this.#runOnce(engine, steps, outcomes, seed);
      if (result === null) continue;
      if (result.kind === "open" || result.kind === "lost") throw new Error(`a run without a transaction of its own ended as ${result.kind}`);
      outcomes.push(...result.outcomes);
      engine.settings = result.settings;
      if (result.kind === "commit") {
        commits.push(result.changes);
        this.commit(engine.id, result.changes.body);
      }
    }
    return { outcomes, commits };
  }

  /** As the originators of all atoms would decide. */
  #isGranted(changes: Changes, snapshot: Seq): boolean {
    if (isOvertaken(this.#recent, changes)) return false;
    const { permissions, wholeTables } = changes;
    const items = permissions.map(({ space, key, kind }) => ({ space, key, use: kind }));
    const age = { beginMs: 0, engine: 1 as EngineId, counter: 1 };
    const request = { engine: 1 as EngineId, transaction: 1, attempt: 1, age, snapshot, items, holdsNothing: true, wholeSpaces: wholeTables };
    return new PermissionTable(this.#recent).request(request)?.kind === "granted";
  }

  #note({ exists, parts }: TransactionBody, seq: Seq): void {
    const note = (space: SpaceId, key: Uint8Array, use: "write" | "delete" | "exist"): void =>
      this.#recent.note(seq, space, Buffer.from(key).toString("latin1"), use);
    for (const { space, key } of exists) note(space, key, "exist");
    for (const part of parts) {
      if (part.kind === "ddl") {
        for (const table of part.touchedTables) this.#recent.noteSpace(seq, table);
        for (const name of [...part.drops, ...part.upserts.map((object) => object.name)])
          note(schemaSpace, Buffer.from(foldName(name), "utf8"), "write");
      } else
        for (const { key, row, indexKeys } of part.rows) {
          note(part.table, key, row === null ? "delete" : "write");
          for (const one of indexKeys) note(one.space, one.key, "delete");
        }
    }
  }

  #runOnce(
    engine: Engine,
    steps: readonly Step[],
    earlier: readonly StepOutcome[],
    seed: number,
    transaction: KeptTransaction | null = null,
  ): Exclude<RunResult, { kind: "pull" | "ids" }> | null {
    const request = { steps, firstStep: earlier.length, earlier: earlier.map((one) => one.kind), settings: engine.settings, seed, transaction };
    const result = engine.store.run(request, {});
    if (result.kind === "ids") {
      const first = this.#nextIds.get(result.table) ?? 1n;
      this.#nextIds.set(result.table, first + 8n);
      engine.store.grantIds(result.table, first, first + 7n);
      return null;
    }
    if (result.kind === "pull") {
      this.pulls++;
      this.needs.push(...result.needs);
      for (const need of result.needs) this.pull(engine, need);
      return null;
    }
    return result;
  }

  /** The engine starts over, as a new one: the schema as it is, no rows. */
  restart(index: number): void {
    const engine = this.engine(index);
    this.#ifWhole.delete(engine);
    engine.store.reset(this.seq, this.#catalog.inOrder());
    engine.store.become(engine.id, engine.id as number as Life);
  }

  /** The engine gives up [low, high), as for a DROP. */
  drop(index: number, space: SpaceId, low: Uint8Array, high: Uint8Array | null): void {
    const engine = this.engine(index);
    const [first, end] = [Buffer.from(low).toString("latin1"), high === null ? null : Buffer.from(high).toString("latin1")];
    this.#ifWhole.get(engine)?.get(space)?.push({ low: first, high: end });
    engine.store.dropRange(space, low, high);
  }

  #noteBrought(engine: Engine, space: SpaceId, rows: readonly { readonly key: Uint8Array }[], ranges: readonly BinaryRange[]): void {
    const isIn = (key: string, list: readonly BinaryRange[]): boolean => list.some(({ low, high }) => low <= key && (high === null || key < high));
    let held: readonly BinaryRange[] | null = null;
    const isHeld = (key: string): boolean => {
      held ??= engine.store.heldHash(space)?.ranges ?? [];
      return isIn(key, held);
    };
    const tables = this.#ifWhole.get(engine) ?? new Map<SpaceId, BinaryRange[]>();
    const missing = tables.get(space) ?? [{ low: "", high: null }];
    for (const { key } of rows) {
      const place = Buffer.from(key).toString("latin1");
      if (isIn(place, ranges) && !isHeld(place)) this.rowsBrought++;
      if (isIn(place, missing)) this.rowsIfWhole++;
    }
    this.#ifWhole.set(engine, tables.set(space, []));
  }

  /** As a Cache does, the atoms that the need overlaps, or all: chunk by chunk from other engines that hold them, and what nobody holds by copying rows from the log. */
  pull(engine: Engine, { space, ranges, indexOf }: PullNeed): void {
    if (indexOf !== undefined) {
      this.#lookUp(engine, space, indexOf, ranges ?? []);
      return;
    }
    const rows = this.rowsOf(space);
    const wanted = (ranges ?? [{ low: "", high: null }]).map((range) => this.#atoms(space, range));
    this.#noteBrought(engine, space, rows, wanted);
    for (const { low, high } of wanted) {
      const end = high === null ? null : Buffer.from(high, "latin1");
      engine.store.beginHold(space, Buffer.from(low, "latin1"), end);
      for (let at: Buffer | null = Buffer.from(low, "latin1"); at !== null; ) {
        const chunk: Copied = this.#past(engine, space, at, end, 100) ??
          this.#chunkOf(engine, space, at, end) ?? { seq: this.seq, rows: inside(rows, at, end), next: null };
        this.beforeInstall();
        // As the engine knows it when it installs the chunk.
        const changed = this.#changedWithin(space, at.toString("latin1"), (chunk.next ?? end)?.toString("latin1") ?? null);
        const knownFrom = Math.min(changed > chunk.seq ? chunk.seq : changed, chunk.imagesFrom ?? chunk.seq) as Seq;
        const values = this.#valuesOf([...chunk.rows, ...(chunk.images ?? [])]);
        const outcome = engine.store.install(space, at, chunk.next ?? end, chunk.seq, chunk.rows, knownFrom, chunk.images, values);
        if (outcome !== "held") throw new Error(`install: ${outcome}`);
        this.rowsPulled += chunk.rows.length;
        at = chunk.next;
      }
    }
  }

  /** As the Archive has them, each once. */
  #valuesOf(rows: readonly { readonly row: Uint8Array | null }[]): LargeValue[] {
    const values = new Map<ValueName, LargeValue>();
    for (const reference of rows.flatMap(({ row }) => (row === null ? [] : referencesOf(row)))) {
      const name = nameOfValue(reference.hash);
      if (values.has(name)) continue;
      const bytes = this.find(reference);
      if (bytes === undefined) throw new Error("the Archive does not have a large value");
      this.valuesPulled++;
      values.set(name, { hash: Buffer.from(reference.hash), bytes });
    }
    return [...values.values()];
  }

  readonly find: FindValue = ({ hash, byteCount }) => {
    const { low, high } = chunkKeys(hash);
    const chunks = this.archive.readRows(largeValueSpace, low, high, Number.MAX_SAFE_INTEGER)?.rows.map(({ row }) => row) ?? [];
    const bytes = Buffer.concat(chunks);
    return bytes.length === byteCount ? bytes : undefined;
  };

  /** null: no transaction is open there that could read what was before. */
  #past(engine: Engine, space: SpaceId, at: Buffer, end: Buffer | null, bytesMax: number): StoredRows | null {
    const { oldestSnapshot } = engine.store;
    const found = oldestSnapshot === null ? null : this.archive.readRows(space, at, end, bytesMax, oldestSnapshot);
    this.imagesRead += found?.images.length ?? 0;
    return found;
  }

  #chunkOf(engine: Engine, space: SpaceId, at: Buffer, end: Buffer | null): Chunk | null {
    for (const other of this.engines) {
      const chunk = other === engine ? null : other.store.readChunk(space, at, end, 100);
      if (chunk === null) continue;
      this.chunksRead++;
      return chunk;
    }
    return null;
  }

  /** When a row of the range last changed, or was deleted. */
  #changedWithin(table: SpaceId, low: string, high: string | null): Seq {
    let last = 0 as Seq;
    for (const [key, { seq }] of this.#rows.get(table) ?? []) if (seq > last && key >= low && (high === null || key < high)) last = seq;
    return last;
  }

  #lookUp(engine: Engine, space: SpaceId, table: SpaceId, ranges: readonly BinaryRange[]): void {
    const entries = this.entriesOf(space, table);
    for (const { low, high } of ranges) {
      this.lookUps++;
      this.beforeLookUp(space, { low, high });
      const [first, end] = [Buffer.from(low, "latin1"), high === null ? null : Buffer.from(high, "latin1")];
      engine.store.beginHold(space, first, end);
      const past = this.#past(engine, space, first, end, Number.MAX_SAFE_INTEGER);
      const found = past?.rows ?? inside(entries, first, end);
      const { seq } = this;
      for (let round = 0; ; round++) {
        const outcome = engine.store.install(space, first, end, seq, found, past?.imagesFrom, past?.images);
        if (outcome === "held") break;
        if (outcome === "full" || round > 1) throw new Error(`install of an index's range: ${JSON.stringify(outcome)}`);
        this.needs.push(outcome);
        this.pull(engine, outcome);
      }
    }
  }

  /** An index's entries, as an Archive makes them. */
  entriesOf(index: SpaceId, table: SpaceId): PulledRow[] {
    const columns = this.#columnsOf(index);
    return this.rowsOf(table).flatMap(({ key, row }) => {
      const entry = indexEntryKey(columns, key, row, this.find);
      return entry === null ? [] : [{ key: entry, row: key }];
    });
  }

  #columnsOf(space: SpaceId): readonly IndexedColumn[] {
    for (const { object } of this.schema.values()) {
      if (object.space === space) return object.indexed;
      for (const unique of object.uniques) if (unique.space === space) return unique.indexed;
    }
    throw new Error(`no index ${space}`);
  }

  #atoms(space: SpaceId, range: BinaryRange): BinaryRange {
    const cuts = this.cuts.get(space);
    if (cuts === undefined) return range;
    const { low, high } = range;
    return { low: cuts.findLast((cut) => cut <= low) ?? "", high: high === null ? null : (cuts.find((cut) => cut >= high) ?? null) };
  }

  /** The newest version of each row that was committed. */
  rowsOf(table: SpaceId): PulledRow[] {
    return [...(this.#rows.get(table)?.values() ?? [])].flatMap(({ key, row }) => (row === null ? [] : [{ key, row }]));
  }

  #keepRows({ parts }: TransactionBody, seq: Seq): void {
    for (const part of parts) {
      if (part.kind !== "rows") continue;
      const rows = this.#rows.get(part.table) ?? new Map<string, NewestRow>();
      for (const { key, row } of part.rows) rows.set(Buffer.from(key).toString("latin1"), { seq, key, row });
      this.#rows.set(part.table, rows);
    }
  }

  commit(engine: EngineId, body: Uint8Array): void {
    this.#seq++;
    const seq = this.seq;
    const header = {
      engine,
      proposalSeq: seq as number as ProposalSeq,
      transactions: [],
      snapshot: (seq - 1) as Seq,
      fences: [],
      schemaVersions: [],
    };
    const bytes = encodeProposal(header, [body]);
    this.log.push({ seq, bytes });
    for (const one of this.engines) one.store.apply([{ seq, bytes }], seq);
    const entry = decodeEntry(bytes);
    if (entry.kind !== "proposal" || entry.body.kind !== "transaction") return;
    this.#keepSchema(entry.body, seq);
    this.#keepRows(entry.body, seq);
    this.#store(entry.body, seq);
    this.#note(entry.body, seq);
  }

  /** With the mark as high as all engines' promises allow. */
  #store({ parts }: TransactionBody, seq: Seq): void {
    const changes = new StoreChangesWriter();
    if (parts.some((part) => part.kind === "ddl")) {
      const before = this.#indexes;
      this.#indexes = indexesOf(this.#catalog);
      for (const [table, indexes] of this.#indexes)
        for (const index of indexes)
          if (before.get(table)?.some(({ space }) => space === index.space) !== true) changes.add({ kind: "index", space: table, index, seq });
    }
    for (const part of parts) {
      if (part.kind !== "rows") continue;
      for (const { hash, bytes } of part.values ?? []) changes.add({ kind: "value", space: largeValueSpace, hash, bytes });
      const common = { space: part.table, seq, indexes: this.#indexes.get(part.table) ?? [] };
      for (const { key, row, oldBytes } of part.rows)
        changes.add(row === null ? { kind: "delete", key, ...common } : { kind: "put", key, row, isNew: oldBytes === 0, ...common });
    }
    const mark = Math.min(...this.engines.map(({ store }) => store.oldestSnapshot ?? store.appliedSeq)) as Seq;
    const applied = this.archive.apply({ changes: changes.take(), mark, catalog: new Map(), position: { seq, term: 1 as Term, hash: genesisHash } });
    // It is done when it returns, or has failed: why, is known only later.
    if (this.archive.position.seq === seq) return;
    applied.catch(() => {});
    throw new Error(`the Archive cannot apply the entry at ${seq}`);
  }

  #keepSchema(body: TransactionBody, version: Seq): void {
    for (const part of body.parts) {
      if (part.kind !== "ddl") continue;
      this.#catalog.apply(version, part, () => {});
      for (const name of part.drops) this.schema.delete(name.toLowerCase());
      for (const object of part.upserts) this.schema.set(object.name.toLowerCase(), { object, version });
    }
  }

  /** One statement that must succeed. */
  sql(index: number, sql: string, args: readonly SqlValue[] = []): ResultSet {
    const [outcome] = this.run(index, [step(sql, args)]).outcomes;
    if (outcome?.kind !== "ok")
      throw new Error(`${sql}: ${outcome?.kind === "error" ? `${outcome.fault.code} ${outcome.fault.message}` : "skipped"}`);
    return outcome.result;
  }

  rows(index: number, sql: string, args: readonly SqlValue[] = []): readonly (readonly SqlValue[])[] {
    return this.sql(index, sql, args).rows;
  }

  fault(index: number, sql: string, args: readonly SqlValue[] = []): SqlFault {
    const [outcome] = this.run(index, [step(sql, args)]).outcomes;
    if (outcome?.kind !== "error") throw new Error(`${sql}: no error`);
    return outcome.fault;
  }

  close(): void {
    for (const { store } of this.engines) store.close();
  }
}

function inside<Row extends { readonly key: Uint8Array }>(rows: readonly Row[], low: Buffer, high: Buffer | null): Row[] {
  return rows.filter(({ key }) => Buffer.compare(key, low) >= 0 && (high === null || Buffer.compare(key, high) < 0));
}
