/** design.md §8: "Low-water mark is an entry, made by the sequencer from reports of all members in its term; a report promises that no lower snapshot will be used." */
import { expect, test } from "vitest";
import { historyObject, historySql } from "../../src/base/history.js";
import type { Endpoint, EngineId, Seq } from "../../src/base/ids.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { LowWaterMark } from "../../src/engines/low-water-mark.js";
import type { StreamView } from "../../src/messages/stream/stream-node-types.js";
import type { ProposalBody } from "../../src/messages/wire/entry.js";
import { boot, createTable, proposal } from "./engine-parts.js";

/** Members 1 (which leads), 2 and 3, at e1, e2, e3; entries up to 500, and the next may be ordered 100 ms after the one before. */
class Leading {
  readonly log = new Catalog();
  readonly mark = new LowWaterMark(100);
  readonly promised = new Map<string, { engine: number; oldestSnapshot: number }>();
  nowMs = 0;
  lastSeq = 0;
  ownPromise = 500;

  constructor() {
    for (const seq of [1, 2, 3]) this.log.apply(seq as Seq, boot(seq, seq === 1 ? 11 : 0));
    this.mark.begin(3 as Seq, 0);
    for (const engine of [1, 2, 3]) this.promises(engine, 500);
  }

  promises(engine: number, oldestSnapshot: number): void {
    this.promised.set(`e${engine}`, { engine, oldestSnapshot });
  }

  written(seq: number): void {
    this.mark.note(seq as Seq, proposal(2, 1, createTable()));
  }

  /** The MARK that is ordered after so long; null: none. */
  after(ms: number): number | null {
    this.nowMs += ms;
    const { ownPromise } = this;
    const view = {
      get oldestSnapshot() {
        return ownPromise;
      },
      heardFrom: (endpoint: Endpoint) => this.promised.get(endpoint) ?? null,
    } as unknown as StreamView;
    const entry = this.mark.next(this.log, view, 1 as EngineId, this.nowMs);
    if (entry === null) return null;
    this.lastSeq += 1000;
    this.log.apply(this.lastSeq as Seq, entry);
    return entry.mark;
  }
}

test("it is the smallest promise, once in a while", () => {
  const c = new Leading();
  c.written(400);
  c.promises(3, 300);
  expect(c.after(99)).toBeNull();
  expect(c.after(1)).toBe(300);
  c.promises(3, 450);
  expect(c.after(99)).toBeNull();
  expect(c.after(1)).toBe(450);
  expect(c.log.mark).toBe(450);
});

test("a member that has promised nothing in this term, or did so as another engine, is waited for; one that has departed is not", () => {
  const c = new Leading();
  c.written(400);
  c.promised.delete("e3");
  expect(c.after(200)).toBeNull();
  c.promises(3, 0);
  expect(c.after(200)).toBeNull();
  c.promised.set("e3", { engine: 9, oldestSnapshot: 500 });
  expect(c.after(200)).toBeNull();
  c.log.apply(4 as Seq, { kind: "leave", engine: 3 as EngineId, ids: [] });
  expect(c.after(0)).toBe(500);
});

test("it never goes down", () => {
  const c = new Leading();
  c.written(400);
  expect(c.after(100)).toBe(500);
  c.written(600);
  c.promises(2, 200);
  expect(c.after(100_000)).toBeNull();
});

test("where nothing was written since, it rests", () => {
  const c = new Leading();
  c.written(400);
  expect(c.after(100)).toBe(500);
  for (const engine of [1, 2, 3]) c.promises(engine, 501);
  expect(c.after(100_000)).toBeNull();
});

test("for a little, it waits longer", () => {
  const c = new Leading();
  c.written(400);
  c.promises(3, 450);
  expect(c.after(100)).toBe(450);
  c.written(460);
  c.promises(3, 470);
  expect(c.after(900)).toBeNull();
  expect(c.after(100)).toBe(470);
});

test("a new term counts what was written before it as written at its beginning: one MARK at most comes of it", () => {
  const c = new Leading();
  c.mark.begin(350 as Seq, 0);
  expect(c.after(100)).toBe(500);
  expect(c.after(100_000)).toBeNull();
});

/** As `PRAGMA atomcast.history` is in the stream. */
function setHistory(c: Leading, ms: number): void {
  const object = {
    type: "setting",
    name: historyObject,
    tableName: historyObject,
    sql: historySql(ms),
    space: 0,
    columns: [],
    uniques: [],
    indexed: [],
  };
  const parts = [{ kind: "ddl", sql: historySql(ms), upserts: [object], drops: [], touchedTables: [], newAtoms: [] }];
  c.log.apply(10 as Seq, proposal(2, 1, { kind: "transaction", exists: [], parts } as unknown as ProposalBody));
}

test("with a history it trails the clock, by stamps that are ordered for it while something is written", () => {
  const c = new Leading();
  c.ownPromise = 100_000;
  setHistory(c, 1000);
  c.written(10);
  // The first stamp: nothing is old enough yet.
  expect(c.after(100)).toBe(0);
  const first = c.lastSeq;
  expect(c.log.stamps.newest).toEqual({ seq: first, timeMs: 100 });
  expect(c.after(99)).toBeNull();
  for (let round = 1; round <= 9; round++) {
    c.written(c.lastSeq + 1);
    for (const engine of [1, 2, 3]) c.promises(engine, c.lastSeq + 1);
    expect(c.after(round === 1 ? 1 : 100)).toBe(0);
  }
  c.written(c.lastSeq + 1);
  for (const engine of [1, 2, 3]) c.promises(engine, c.lastSeq + 1);
  // 1,000 ms behind the first.
  expect(c.after(100)).toBe(first);
  expect(c.log.stamps.all[0]).toEqual({ seq: first, timeMs: 100 });
});

test("with a history, a database at rest goes quiet when its last change is as old as that", () => {
  const c = new Leading();
  c.ownPromise = 100_000;
  setHistory(c, 1000);
  c.written(10);
  for (const engine of [1, 2, 3]) c.promises(engine, 100_000);
  expect(c.after(100)).toBe(0);
  const first = c.lastSeq;
  expect(c.after(999)).toBeNull();
  expect(c.after(1)).toBe(first);
  expect(c.after(100_000)).toBeNull();
});

test("a history that is taken away lets it rise at once", () => {
  const c = new Leading();
  setHistory(c, 1_000_000);
  c.written(400);
  expect(c.after(100)).toBe(0);
  setHistory(c, 0);
  expect(c.after(100)).toBe(500);
});
