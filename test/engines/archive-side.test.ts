import { expect, test } from "vitest";
import type { AtomId, Endpoint, NodeId, Nonce, Seq, SpaceId } from "../../src/base/ids.js";
import type { LogEntry } from "../../src/base/log-entry.js";
import { seededRandom } from "../../src/base/random.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { ArchiveSide } from "../../src/engines/archive-side.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { batchChangesMax } from "../../src/engines/store-backlog.js";
import type { Entry } from "../../src/messages/wire/entry.js";
import type { StoreBatch } from "../../src/storage/atom-store.js";
import { readStoreChanges } from "../../src/storage/store-changes.js";
import { genesis } from "./engine-parts.js";

const asker = "e2" as Endpoint;

test("pulls and cuts are answered from a store that has come as far as the asker", () => {
  const self = { kind: "archive", nodeId: 1 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
  const context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
  const archive = new ArchiveSide(context);
  const low = Buffer.alloc(0);
  const cuts = { kind: "cutsRequest", atom: 9 as AtomId, space: 7 as SpaceId, low, high: null, minSeq: 5 as Seq } as const;
  const pull = {
    kind: "pullRequest",
    pull: 1,
    space: 7 as SpaceId,
    low,
    high: null,
    minSeq: 6 as Seq,
    since: 0 as Seq,
    bytesMax: 1000,
    asOf: 0 as Seq,
  } as const;
  expect([archive.onMessage(asker, cuts), archive.onMessage(asker, pull)]).toEqual([true, true]);
  expect(context.take()).toEqual([]);
  archive.onStored(4 as Seq);
  expect(context.take()).toEqual([]);
  archive.onStored(5 as Seq);
  expect(context.take()).toEqual([{ kind: "serveCuts", to: asker, request: cuts }]);
  archive.onStored(7 as Seq);
  expect(context.take()).toEqual([{ kind: "serveRows", to: asker, request: pull, sameThrough: 0 }]);
  archive.onMessage(asker, cuts);
  expect(context.take()).toEqual([{ kind: "serveCuts", to: asker, request: cuts }]);
});

/** What an entry changes: keys of the table that DDL has made. */
function unstored(): {
  context: CoreContext;
  archive: ArchiveSide;
  ask(minSeq: number, low: number, high: number | null, space?: number): readonly unknown[];
} {
  const self = { kind: "archive", nodeId: 1 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
  const context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
  const archive = new ArchiveSide(context);
  const rows = [{ key: Buffer.from([5]), row: Buffer.from([1]), oldBytes: 0, indexKeys: [] }];
  const body = { kind: "transaction", exists: [], parts: [{ kind: "rows", table: 7, rows }] };
  const entry = { kind: "proposal", engine: 2, proposalSeq: 1, transactions: [], snapshot: 0, fences: [], schemaVersions: [], body };
  archive.onEntry({ seq: 1 as Seq } as LogEntry, entry as unknown as Entry, []);
  return {
    context,
    archive,
    ask(minSeq, low, high, space = 7) {
      const bounds = { low: Buffer.from([low]), high: high === null ? null : Buffer.from([high]) };
      const request = {
        kind: "pullRequest",
        pull: 1,
        space: space as SpaceId,
        ...bounds,
        minSeq: minSeq as Seq,
        since: 0 as Seq,
        bytesMax: 1000,
        asOf: 0 as Seq,
      } as const;
      archive.onMessage(asker, request);
      archive.turnEnd();
      return context.take().filter(({ kind }) => kind === "serveRows");
    },
  };
}

test("a range that nothing unstored touches is served as of the asker's seq, before the store has come so far", () => {
  expect(unstored().ask(1, 6, null)).toMatchObject([{ sameThrough: 1 }]);
  expect(unstored().ask(1, 0, 5)).toMatchObject([{ sameThrough: 1 }]);
  expect(unstored().ask(1, 5, 6, 8)).toMatchObject([{ sameThrough: 1 }]);
});

test("a range with a change that waits for the store, or that the store is at, is served when it is stored", () => {
  const u = unstored();
  expect(u.ask(1, 5, 6)).toEqual([]);
  // The batch is under way by now.
  expect(u.ask(1, 0, null)).toEqual([]);
  u.archive.onStored(1 as Seq);
  expect(u.context.take()).toMatchObject([
    { kind: "serveRows", sameThrough: 0 },
    { kind: "serveRows", sameThrough: 0 },
  ]);
});

test("a range of a dropped space is not served as it was before", () => {
  const u = unstored();
  u.archive.onEntry({ seq: 2 as Seq } as LogEntry, { kind: "noop" }, [{ kind: "spaceGone", space: 8 as SpaceId, bytes: 0 }]);
  expect(u.ask(2, 0, null, 8)).toEqual([]);
});

test("an asker that is ahead of this Archive is served when the entries have come", () => {
  const u = unstored();
  expect(u.ask(2, 6, null)).toEqual([]);
  u.archive.onEntry({ seq: 2 as Seq } as LogEntry, { kind: "noop" }, []);
  u.archive.turnEnd();
  expect(u.context.take().filter(({ kind }) => kind === "serveRows")).toMatchObject([{ sameThrough: 2 }]);
});

test("what was swept is told to the log at once, then once a minute at most, all of it", () => {
  const { archive, context } = unstored();
  const told = (atMs: number, sweptCount: number): readonly unknown[] => {
    context.nowMs = atMs;
    archive.versions = { count: 3, bytes: 30, floor: 5 as Seq, sweptCount, sweptBytes: 10 * sweptCount };
    archive.turnEnd();
    return context.take().flatMap((effect) => (effect.kind === "log" ? [effect.fields] : []));
  };
  expect(told(1000, 0)).toEqual([]);
  expect(told(2000, 7)).toEqual([{ versions: 7, bytes: 70, kept: 3, keptBytes: 30, keptFrom: 5 }]);
  expect(told(61_000, 9)).toEqual([]);
  expect(told(61_999, 10)).toEqual([]);
  expect(told(62_000, 10)).toEqual([{ versions: 3, bytes: 30, kept: 3, keptBytes: 30, keptFrom: 5 }]);
  expect(told(500_000, 10)).toEqual([]);
});

/** Entries with so many rows each, beside a mark that says which one it is; `stored` is told of batches by the test. */
function filling(): {
  readonly context: CoreContext;
  readonly archive: ArchiveSide;
  enter(rows: number, rowBytes?: number, oldBytes?: number): void;
  batches(): StoreBatch[];
} {
  const self = { kind: "archive", nodeId: 1 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
  const context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
  const archive = new ArchiveSide(context);
  let key = 0;
  return {
    context,
    archive,
    enter(count, rowBytes = 10, oldBytes = 0) {
      const seq = (context.position.seq + 1) as Seq;
      context.catalog.apply(seq, { kind: "mark", mark: seq, timeMs: seq });
      context.position = { ...genesis, seq };
      const rows = Array.from({ length: count }, () => ({ key: integerKey(BigInt(++key)), row: Buffer.alloc(rowBytes), oldBytes, indexKeys: [] }));
      const body = { kind: "transaction", exists: [], parts: [{ kind: "rows", table: 7, rows }] };
      const entry = { kind: "proposal", engine: 2, proposalSeq: 1, transactions: [], snapshot: 0, fences: [], schemaVersions: [], body };
      archive.onEntry({ seq } as LogEntry, entry as unknown as Entry, []);
    },
    batches() {
      archive.turnEnd();
      return context.take().flatMap((effect) => (effect.kind === "storeBatch" ? [effect.batch] : []));
    },
  };
}

test("a store that has fallen behind is given what waits in batches of a bounded size, each of one position with its catalogs", () => {
  const one = filling();
  one.enter(1);
  expect(one.batches().map(({ position }) => position.seq)).toEqual([1]);
  for (let entry = 0; entry < 40; entry++) one.enter(700);
  // The store is at the first one.
  expect(one.batches()).toEqual([]);
  let through = 1;
  const keys: Buffer[] = [];
  while (through < 41) {
    one.archive.onStored(through as Seq);
    one.context.nowMs += 200;
    const [batch, ...more] = one.batches();
    if (batch === undefined) throw new Error("nothing is stored any more");
    expect(more).toEqual([]);
    expect(batch.changes.count).toBe(700 * (batch.position.seq - through));
    expect(batch.changes.count).toBeLessThan(batchChangesMax + 700);
    expect(batch.mark).toBe(batch.position.seq);
    expect(Catalog.load(new Map([...batch.catalog].flatMap(([name, bytes]) => (bytes === null ? [] : [[name, bytes]])))).mark).toBe(batch.mark);
    keys.push(...[...readStoreChanges(batch.changes.chunks)].flatMap((change) => ("key" in change ? [Buffer.from(change.key)] : [])));
    through = batch.position.seq;
  }
  expect(keys).toHaveLength(28_000);
  expect(keys.every((key, index) => index === 0 || Buffer.compare(keys[index - 1] as Buffer, key) < 0)).toBe(true);
});

test("what waits for the store is bounded in bytes as in rows, and so is a batch", () => {
  const few = filling();
  few.enter(1);
  few.batches();
  for (let entry = 0; entry < 60; entry++) few.enter(100, 60_000);
  expect(few.archive.isBehind).toBe(true);
  few.archive.onStored(1 as Seq);
  const [batch] = few.batches();
  expect(batch?.changes.count).toBe(200);
  for (let through = 3; few.archive.isBehind; through += 2) {
    few.archive.onStored(through as Seq);
    expect(few.batches()).toHaveLength(1);
  }
  // Rows that are replaced cost the store more.
  const replaced = filling();
  replaced.enter(1);
  replaced.batches();
  for (let entry = 0; entry < 60; entry++) replaced.enter(100, 10, 10);
  replaced.archive.onStored(1 as Seq);
  expect(replaced.batches()[0]?.changes.count).toBe(1000);
  const many = filling();
  many.enter(1);
  many.batches();
  for (let entry = 0; entry < 100; entry++) many.enter(1000);
  expect(many.archive.isBehind).toBe(false);
  many.enter(1000);
  expect(many.archive.isBehind).toBe(true);
});
