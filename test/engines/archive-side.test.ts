import { expect, test } from "vitest";
import type { AtomId, Endpoint, NodeId, Nonce, Seq, SpaceId } from "../../src/base/ids.js";
import type { LogEntry } from "../../src/base/log-entry.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { ArchiveSide } from "../../src/engines/archive-side.js";
import { CoreContext } from "../../src/engines/core-context.js";
import type { Entry } from "../../src/messages/wire/entry.js";
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
  u.archive.onEntry({ seq: 2 as Seq } as LogEntry, { kind: "noop" }, [{ kind: "spaceGone", space: 8 as SpaceId }]);
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
