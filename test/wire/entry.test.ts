/** The bytes of entries and of messages between engines: what an engine of another build would have to read. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { MalformedBytesError } from "../../src/base/bytes.js";
import { decodeEngineMessage, type EngineMessage, encodeEngineMessage, engineMessageKinds } from "../../src/messages/wire/engine-messages.js";
import { decodeEntry, type Entry, encodeEntry, formatVersion, type ProposalBody } from "../../src/messages/wire/entry.js";

const key = Buffer.from([1, 2]);
const fence = { atom: 9, originator: 5, ownershipVersion: 70_000 };

function proposal(body: object): Entry {
  const header = { kind: "proposal", engine: 5, proposalSeq: 300, transactions: [8], snapshot: 1000 };
  return { ...header, fences: [fence], schemaVersions: [{ table: 7, version: 2 }], body } as unknown as Entry;
}

const bodies = [
  {
    kind: "transaction",
    exists: [{ space: 7, key }],
    parts: [
      { kind: "rows", table: 7, rows: [{ key, row: Buffer.from([3]), oldBytes: 2, indexKeys: [{ space: 8, key }] }] },
      { kind: "rows", table: 7, rows: [{ key, row: null, oldBytes: 2, indexKeys: [] }] },
      { kind: "rows", table: 7, values: [{ hash: Buffer.alloc(32, 9), bytes: Buffer.from([7]) }], rows: [] },
      {
        kind: "ddl",
        sql: "create table t(a)",
        upserts: [
          {
            type: "table",
            name: "t",
            tableName: "t",
            sql: "s",
            space: 7,
            columns: [{ id: 1, name: "a" }],
            uniques: [{ name: "u", space: 8, indexed: [] }],
            indexed: [{ columnId: 1, collation: "NOCASE", descending: true, missing: "x" }],
          },
          { type: "setting", name: "\0n", tableName: "\0n", sql: "PRAGMA n = 1", space: 0, columns: [], uniques: [], indexed: [] },
        ],
        drops: ["x"],
        touchedTables: [7],
        newAtoms: [{ space: 7, atom: 9, indexOf: 0 }],
      },
    ],
  },
  { kind: "hold", atoms: [9, 10] },
  { kind: "ready", atoms: [9] },
  { kind: "drop", atoms: [9] },
  {
    kind: "split",
    space: 7,
    atom: 9,
    firstTaker: 5,
    pieces: [{ atom: 10, low: key, taker: 6, bytes: 3, rows: 1 }],
    measured: null,
    sequenceFirst: 1n,
    sequenceNext: 33n,
  },
  {
    kind: "split",
    space: 7,
    atom: 9,
    firstTaker: 0,
    pieces: [],
    measured: { first: { bytes: 70_000, rows: 5 }, counted: { bytes: 80_000, rows: 300 } },
    sequenceFirst: 0n,
    sequenceNext: 0n,
  },
  { kind: "handoff", to: 6, atoms: [9, 70_000] },
  { kind: "merge", space: 7, into: 11, atoms: [9, 70_000] },
  { kind: "pin", seq: 70_000, wantsStamp: true },
] as unknown as ProposalBody[];

const entries = [
  { kind: "noop" },
  { kind: "boot", engineKind: "archive", nodeId: 3, nonce: 4, endpoint: "e:1", http: "-", pid: 17, formatVersion: 1 },
  { kind: "leave", engine: 5, ids: [{ space: 7, first: 9n, next: 33n }] },
  { kind: "voters", voters: [1, 2] },
  { kind: "refused", engine: 5, proposalSeq: 300, reason: "schema" },
  { kind: "demote", from: 5, to: 6, atoms: [9, 70_000] },
  { kind: "mark", mark: 70_000, timeMs: 1_800_000_000_000 },
  ...bodies.map(proposal),
] as unknown as Entry[];

const messages = [
  { kind: "permissionReply", transaction: 1, attempt: 2, outcome: "waits", reach: 0, applied: { seq: 300, hash: "0123456789abcdef" } },
  { kind: "silentOriginator", engine: 5, fences: [fence] },
  { kind: "farewell", engine: 5, ids: [{ space: 7, first: 9n, next: 33n, fence }] },
  { kind: "pullRequest", pull: 3, space: 7, low: key, high: null, minSeq: 300, since: 299, bytesMax: 1000, asOf: 298 },
  {
    kind: "pullReply",
    pull: 3,
    seq: 301,
    rows: [{ key, row: Buffer.from([3]) }],
    next: key,
    imagesFrom: 299,
    images: [
      { seq: 300, key, row: null },
      { seq: 301, key, row: Buffer.from([4, 5]) },
    ],
  },
  {
    kind: "announce",
    engineKind: "archive",
    nodeId: 3,
    nonce: 4,
    engine: 5,
    sequencer: "e:1",
    term: 2,
    commitSeq: 300,
    appliedSeq: 299,
    atomsHeld: 9,
    formatVersion: 1,
    canServe: true,
    oldestSnapshot: 298,
    versions: 7,
    versionBytes: 700,
    by: "unicast",
    parent: "e:1",
    versionFloor: 290,
    sweptVersions: 70,
    sweptBytes: 7000,
    largeValues: 3,
    largeValueBytes: 300_000,
    openTransaction: 12,
    openMs: 1500,
  },
  { kind: "contacts", endpoints: ["e:1", "e:2"] },
  {
    kind: "gossip",
    heard: [
      {
        endpoint: "e:1",
        ageMs: 1500,
        announce: {
          engineKind: "cache",
          nodeId: 0,
          nonce: 4,
          engine: 5,
          sequencer: "e:2",
          term: 2,
          commitSeq: 300,
          appliedSeq: 299,
          atomsHeld: 9,
          formatVersion: 1,
          canServe: false,
          oldestSnapshot: 298,
          versions: 0,
          versionBytes: 0,
          versionFloor: 0,
          sweptVersions: 0,
          sweptBytes: 0,
          largeValues: 0,
          largeValueBytes: 0,
          openTransaction: 0,
          openMs: 0,
          by: "multicast of a relay",
          parent: "e:2",
        },
      },
    ],
  },
  { kind: "cutsRequest", atom: 9, space: 7, low: Buffer.from([1]), high: null, minSeq: 300 },
  { kind: "cutsReply", atom: 9, low: key, cuts: [Buffer.from([5])], pieces: [{ bytes: 70_000, rows: 300 }] },
  { kind: "seek" },
  { kind: "propose", engine: 5, proposalSeq: 300, entry: Buffer.from([1, 2, 3]) },
  { kind: "proposeAgain", engine: 5, from: 300 },
  { kind: "notMember", engine: 5 },
  { kind: "bootRequest", entry: Buffer.from([1, 2, 3]) },
  {
    kind: "permissionRequest",
    engine: 5,
    transaction: 1,
    attempt: 2,
    ageBeginMs: 1_700_000_000_000,
    ageCounter: 3,
    snapshot: 299,
    applied: { seq: 300, hash: "0123456789abcdef" },
    holdsNothing: true,
    fences: [fence],
    items: [{ space: 7, key: "\x01\xff", use: "exist" }],
    wholeSpaces: [8],
  },
  { kind: "release", engine: 5, transaction: 1, attempt: 2 },
  { kind: "released", transaction: 1, attempt: 2 },
  { kind: "blockRequest", engine: 5, space: 7, atom: 9, count: 32 },
  {
    kind: "catalogRequest",
    pull: 3,
    catalog: 7,
    ranges: [
      { low: "\x00\xff", high: null },
      { low: "", high: "\x80" },
    ],
    read: 4,
    part: 1,
    minSeq: 300,
    rangeAtomsMin: 64,
    bytesMax: 1000,
  },
  {
    kind: "catalog",
    pull: 3,
    catalog: 7,
    read: 4,
    part: 1,
    position: { seq: 300, term: 2, hash: "0123456789abcdef" },
    records: new Map([["a:9", Buffer.from([1])]]),
    isLast: true,
  },
  { kind: "pullRefused", pull: 3, reason: "notHeld" },
  { kind: "transferRequest", transfer: 3, cursor: "c" },
  {
    kind: "transferReply",
    transfer: 3,
    position: { seq: 300, term: 2, hash: "0123456789abcdef" },
    cursor: "c",
    part: Buffer.from([1, 2]),
    next: "d",
  },
  { kind: "removeVoter", request: 3, nodeId: 11 },
  { kind: "removeVoterReply", request: 3, refusal: "no" },
] as unknown as EngineMessage[];

test("every kind of message is among those whose bytes are looked at", () => {
  const kinds = new Set(messages.map(({ kind }) => kind));
  expect(engineMessageKinds.filter((kind) => !kinds.has(kind))).toEqual([]);
});

/** Bytes change: raise `formatVersion`, and put the new digest here. */
const digests = { formatVersion: 19, entries: "babe32d82c4e3a51", messages: "dc6574b972420af8" };

function digest(all: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const bytes of all) hash.update(`${bytes.length}:`).update(bytes);
  return hash.digest("hex").slice(0, 16);
}

test("the format of entries and messages is as this build's version says", () => {
  const now = { formatVersion, entries: digest(entries.map((entry) => encodeEntry(entry))), messages: digest(messages.map(encodeEngineMessage)) };
  expect(now).toEqual(digests);
});

describe("every kind is read as it was written, and not at all when it is cut short", () => {
  for (const entry of entries) {
    test(entry.kind === "proposal" ? entry.body.kind : entry.kind, () => {
      const bytes = encodeEntry(entry);
      expect(decodeEntry(bytes)).toEqual(entry);
      for (let length = 0; length < bytes.length; length++) expect(() => decodeEntry(bytes.subarray(0, length))).toThrow(MalformedBytesError);
    });
  }
  for (const message of messages) {
    test(message.kind, () => {
      const bytes = encodeEngineMessage(message);
      expect(decodeEngineMessage(bytes)).toEqual(message);
      // An entry at the end is as long as what is left: the frame around the message says how long that is, and the entry is read by itself.
      const end = bytes.length - ("entry" in message ? message.entry.length : 0);
      for (let length = 0; length < end; length++) expect(() => decodeEngineMessage(bytes.subarray(0, length))).toThrow(MalformedBytesError);
    });
  }
});
