/**
 * The garbage collector, over random histories of rows, versions, DDL, open snapshots, and engines that leave with theirs: every snapshot that is still open reads as
 * before, and after a full collection exactly what can be reached remains.
 */
import { afterEach, describe, expect, test } from "vitest";
import type { Seq, SpaceId } from "../../src/base/ids.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import { indexEntryKey, type RowIndex } from "../../src/base/row-index.js";
import { integerKey } from "../../src/base/sort-key.js";
import { encodeRow } from "../../src/base/values.js";
import type { AtomStore, StoreChange } from "../../src/storage/atom-store.js";
import { type AtomStoreUnderTest, batch, drop, eventually } from "./atom-store-conformance.js";

const nothing = Buffer.alloc(0);
const ids = 12;
const stepCount = 90;

/** One key of one space, from one entry until another. */
interface Item {
  readonly space: SpaceId;
  readonly key: string;
  readonly row: string;
  readonly since: number;
  /** null: it is there. */
  readonly until: number | null;
}

interface Table {
  readonly space: SpaceId;
  readonly indexes: RowIndex[];
}

/** What a database is and was, written down item by item. */
class History {
  readonly tables: Table[] = [];
  /** Every space that there ever was. */
  readonly spaces: SpaceId[] = [];
  /** Of indexes. */
  readonly ofIndexes = new Set<SpaceId>();
  readonly #droppedAt = new Map<SpaceId, number>();
  readonly #dropped: Item[] = [];
  readonly #items = new Map<string, Item>();
  readonly #former: Item[] = [];
  readonly #made = new Map<SpaceId, number>();
  #nextSpace = 65_537;

  there(): Item[] {
    return [...this.#items.values()];
  }

  /** Those that some snapshot from the mark on reads. */
  versions(mark: number): Item[] {
    return this.#former.filter(({ until }) => (until ?? 0) > mark);
  }

  find(space: SpaceId, key: Buffer): Item | undefined {
    return this.#items.get(nameOf(space, key));
  }

  /** Of a space that was made by then. */
  at(space: SpaceId, seq: number): Map<string, string> {
    const all = [...this.#former, ...this.#dropped, ...this.#items.values()].filter((one) => one.space === space);
    return new Map(all.filter(({ since, until }) => since <= seq && (until === null || until > seq)).map(({ key, row }) => [key, row]));
  }

  isMadeAt(space: SpaceId, seq: number): boolean {
    return (this.#made.get(space) ?? Number.POSITIVE_INFINITY) <= seq;
  }

  space(seq: number): SpaceId {
    const space = this.#nextSpace++ as SpaceId;
    this.spaces.push(space);
    this.#made.set(space, seq);
    return space;
  }

  set(space: SpaceId, key: Buffer, row: Buffer | null, seq: number): void {
    const name = nameOf(space, key);
    const before = this.#items.get(name);
    // What one entry makes of a row in between is in no snapshot.
    if (before !== undefined && before.since !== seq) this.#former.push({ ...before, until: seq });
    if (row === null) this.#items.delete(name);
    else this.#items.set(name, { space, key: key.toString("hex"), row: row.toString("hex"), since: seq, until: null });
  }

  drop(space: SpaceId, seq: number): void {
    this.#droppedAt.set(space, seq);
    for (const [name, item] of this.#items) {
      if (item.space !== space) continue;
      this.#items.delete(name);
      if (item.since !== seq) this.#dropped.push({ ...item, until: seq });
    }
  }

  /** What dropped tables had, where some snapshot from the mark on reads it: it stays where it was. */
  dropped(mark: number): Item[] {
    return this.#dropped.filter(({ space, until }) => (until ?? 0) > mark && !this.ofIndexes.has(space)).map((item) => ({ ...item, until: null }));
  }

  droppedSpaces(mark: number): SpaceId[] {
    return [...this.#droppedAt].filter(([, seq]) => seq > mark).map(([space]) => space);
  }
}

function nameOf(space: SpaceId, key: Uint8Array): string {
  return `${space} ${Buffer.from(key).toString("hex")}`;
}

function key(id: number): Buffer {
  return integerKey(BigInt(id));
}

function entryOf(index: RowIndex, id: number, row: Buffer): Buffer {
  const entry = indexEntryKey(index.columns, key(id), row);
  if (entry === null) throw new Error("a row without an entry");
  return entry;
}

/** Changes of one entry, as the store gets them, and as the history has them. */
class EntryMaker {
  readonly changes: StoreChange[] = [];
  readonly #history: History;
  readonly #random: Random;
  readonly #seq: Seq;

  constructor(history: History, random: Random, seq: number) {
    this.#history = history;
    this.#random = random;
    this.#seq = seq as Seq;
  }

  #pick<T>(all: readonly T[]): T | undefined {
    return all[this.#random.integer(Math.max(1, all.length))];
  }

  writeRows(): void {
    for (let left = 1 + this.#random.integer(5); left > 0; left--) {
      const table = this.#pick(this.#history.tables);
      if (table === undefined) return;
      const id = this.#random.integer(ids);
      // The same few values come again, also within one entry.
      const values = [BigInt(id), BigInt(this.#random.integer(3)), "x".repeat(this.#random.integer(40))];
      const row = this.#random.integer(4) === 0 ? null : encodeRow(values.map((value, place) => ({ columnId: place + 1, value })));
      this.#write(table, id, row);
    }
  }

  #write({ space, indexes }: Table, id: number, row: Buffer | null): void {
    const before = this.#history.find(space, key(id));
    const old = before === undefined ? null : Buffer.from(before.row, "hex");
    const common = { space, key: key(id), seq: this.#seq, ...(indexes.length === 0 ? {} : { indexes: [...indexes] }) };
    this.changes.push(row === null ? { kind: "delete", ...common } : { kind: "put", row, isNew: before === undefined, ...common });
    for (const index of indexes) {
      const [left, came] = [old === null ? null : entryOf(index, id, old), row === null ? null : entryOf(index, id, row)];
      if (left !== null && came !== null && left.equals(came)) continue;
      if (left !== null) this.#history.set(index.space, left, null, this.#seq);
      if (came !== null) this.#history.set(index.space, came, key(id), this.#seq);
    }
    this.#history.set(space, key(id), row, this.#seq);
  }

  changeSchema(): void {
    const kind = this.#random.integer(4);
    const table = this.#pick(this.#history.tables);
    if (table === undefined || (kind === 0 && this.#history.tables.length < 3)) {
      this.#history.tables.push({ space: this.#history.space(this.#seq), indexes: [] });
      return;
    }
    const index = this.#pick(table.indexes);
    if (kind === 1 && this.#history.tables.length > 1) {
      this.#history.tables.splice(this.#history.tables.indexOf(table), 1);
      for (const { space } of [table, ...table.indexes]) this.#drop(space);
    } else if (kind === 2 && index !== undefined) {
      table.indexes.splice(table.indexes.indexOf(index), 1);
      this.#drop(index.space);
    } else if (table.indexes.length < 2) this.#makeIndex(table);
  }

  #drop(space: SpaceId): void {
    this.#history.drop(space, this.#seq);
    this.changes.push(drop(space, this.#seq));
  }

  #makeIndex(table: Table): void {
    const columns = [{ columnId: 2, collation: "BINARY", descending: this.#random.integer(2) === 0, missing: null } as const];
    const index: RowIndex = { space: this.#history.space(this.#seq), columns };
    table.indexes.push(index);
    this.#history.ofIndexes.add(index.space);
    this.changes.push({ kind: "index", space: table.space, index, seq: this.#seq });
    for (const { space, key: rowKey, row } of this.#history.there()) {
      if (space !== table.space) continue;
      const entry = indexEntryKey(columns, Buffer.from(rowKey, "hex"), Buffer.from(row, "hex"));
      // Counts as there since ever.
      if (entry !== null) this.#history.set(index.space, entry, Buffer.from(rowKey, "hex"), 0);
    }
  }
}

/** Engines with their open snapshots; none of these is below the mark. */
class Engines {
  readonly #random: Random;
  #open: number[][] = [[], []];
  mark = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  get snapshots(): number[] {
    return this.#open.flat();
  }

  step(seq: number): void {
    const kind = this.#random.integer(12);
    const engine = this.#open[this.#random.integer(this.#open.length)];
    if (engine === undefined || kind === 0) this.#open.push([]);
    else if (kind === 1 && this.#open.length > 1) this.#open.splice(this.#open.indexOf(engine), 1);
    else if (kind < 5) engine.push(seq);
    else if (kind < 8) engine.splice(this.#random.integer(Math.max(1, engine.length)), 1);
    // The mark comes some time after what it stands for, as MARK does.
    if (this.#random.integer(3) === 0) this.raise(seq);
  }

  raise(seq: number): void {
    this.mark = Math.max(this.mark, Math.min(seq, ...this.snapshots));
  }

  leave(): void {
    this.#open = [];
  }
}

/** "gone" is for indexes alone: one was dropped before it had all of its entries. */
function past(store: AtomStore, space: SpaceId, seq: number, bytesMax: number, mayBeGone = false): Map<string, string> | null {
  const rows = new Map<string, string>();
  for (let low: Buffer | null = nothing; low !== null; ) {
    const found = store.readPast(space, low, null, bytesMax, seq as Seq);
    if (found === null || (found === "gone" && mayBeGone)) return null;
    if (found === "gone") throw new Error(`the past of space ${space} at ${seq} is gone`);
    for (const one of found.rows) rows.set(Buffer.from(one.key).toString("hex"), Buffer.from(one.row).toString("hex"));
    low = found.next;
  }
  return rows;
}

function expectSnapshots(store: AtomStore, history: History, engines: Engines, random: Random): void {
  for (const seq of engines.snapshots) {
    for (const space of history.spaces) {
      if (!history.ofIndexes.has(space)) {
        expect(past(store, space, seq, 1 + random.integer(300))).toEqual(history.at(space, seq));
        continue;
      }
      if (!history.isMadeAt(space, seq)) continue;
      const found = past(store, space, seq, 1e6, true);
      // Not all of its entries are made. An entry may be told to have been there longer than it was, and none may be missing.
      if (found !== null) for (const [entry, row] of history.at(space, seq)) expect([entry, found.get(entry)]).toEqual([entry, row]);
    }
  }
}

export function collectorConformance(title: string, make: () => AtomStoreUnderTest): void {
  describe(`${title}: collector`, () => {
    let opened: { store: AtomStore; readonly subject: AtomStoreUnderTest } | null = null;
    afterEach(async () => {
      await opened?.store.close();
      await opened?.subject.cleanUp();
      opened = null;
    });

    const run = async (seed: number): Promise<number> => {
      const subject = make();
      const current = { store: await subject.open(), subject };
      opened = current;
      const random = seededRandom(seed);
      const history = new History();
      const engines = new Engines(random);
      let seq = 0;
      for (let step = 0; step < stepCount; step++) {
        seq++;
        const entry = new EntryMaker(history, random, seq);
        if (step === 0 || random.integer(9) === 0) entry.changeSchema();
        entry.writeRows();
        const applied = current.store.apply(batch(seq, entry.changes, [], engines.mark));
        // Others come while it is being written.
        if (random.integer(3) > 0) continue;
        await applied;
        engines.step(seq);
        expectSnapshots(current.store, history, engines, random);
      }
      // A full collection, with what snapshots are open; what it leaves survives a restart.
      engines.raise(seq);
      await collect(current, history, engines.mark, ++seq);
      expectSnapshots(current.store, history, engines, random);
      engines.leave();
      engines.raise(seq);
      await collect(current, history, engines.mark, ++seq);
      expect(current.store.versions).toMatchObject({ count: 0, bytes: 0 });
      await current.store.close();
      await subject.cleanUp();
      opened = null;
      return history.versions(0).length;
    };

    /** All that the mark has passed goes; what remains is what the history has. */
    const collect = async (current: { store: AtomStore; readonly subject: AtomStoreUnderTest }, history: History, mark: number, seq: number) => {
      const { subject } = current;
      await current.store.apply(batch(seq, [], [], mark));
      const versions = history.versions(mark);
      await eventually(() => expect(current.store.versions.count).toBe(versions.length));
      expect(current.store.versions.floor).toBeLessThanOrEqual(mark);
      const isThere = (space: SpaceId): Map<string, string> | null => past(current.store, space, seq, 1e6);
      for (const space of history.spaces) await eventually(() => expect(isThere(space)).toEqual(history.at(space, seq)));
      if (subject.contents === null || subject.reopen === null) return;
      const list = (items: readonly Item[]): string[] => items.map(({ space, key: one, until }) => `${space} ${one} ${until ?? ""}`).sort();
      const dropped = history.droppedSpaces(mark);
      const wanted = { rows: list([...history.there(), ...history.dropped(mark)]), versions: list(versions), unfinished: dropped.length };
      // How many entries a dropped index has depends on how far its making had come.
      const isOfOne = (row: string): boolean => dropped.some((space) => history.ofIndexes.has(space) && row.startsWith(`${space} `));
      const contents = () => {
        const found = subject.contents?.();
        return found === undefined ? null : { ...found, rows: found.rows.filter((row) => !isOfOne(row)) };
      };
      // Steps that are under way come to their end first.
      await eventually(() => expect(contents()).toEqual(wanted));
      const { versions: before } = current.store;
      await current.store.close();
      current.store = await subject.reopen();
      expect(current.store.versions).toMatchObject({ count: before.count, bytes: before.bytes, floor: before.floor });
    };

    test("random histories: open snapshots read as before, and exactly what can be reached remains", { timeout: 120_000 }, async () => {
      let versions = 0;
      for (let seed = 1; seed <= 15; seed++) {
        try {
          versions += await run(seed);
        } catch (error) {
          throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
        }
      }
      expect(versions).toBeGreaterThan(1000);
    });
  });
}
