import { expect, test } from "vitest";
import type { EngineId, Life, Seq, SpaceId } from "../../src/base/ids.js";
import type { LocalStoreCall, LocalStoreReply } from "../../src/sql/local-store-calls.js";
import { packCalls, packReplies, unpackCalls, unpackReplies } from "../../src/sql/thread-messages.js";
import { freshSettings, step } from "./store-harness.js";

const clone = <T>(value: T): T => structuredClone(value);
const settings = { ...freshSettings, foreignKeys: false, lastInsertRowid: 7n, changes: 2n };

const plain = {
  steps: [step("insert into t values (?, ?)", [5n, Uint8Array.of(1, 2)])],
  firstStep: 0,
  earlier: [],
  settings,
  seed: 9,
  transaction: null,
};

test("calls come out of the thread's message as they went in", () => {
  const bytes = Buffer.from("....entry1entry-two....");
  const calls: LocalStoreCall[] = [
    { kind: "become", engine: 3 as EngineId, life: 3 as Life },
    { kind: "run", id: 1, request: plain },
    {
      kind: "apply",
      through: 9 as Seq,
      entries: [
        { seq: 7 as Seq, bytes: new Uint8Array(bytes.subarray(4, 10)) },
        { seq: 9 as Seq, bytes: new Uint8Array(bytes.subarray(10, 19)) },
      ],
    },
    { kind: "apply", through: 11 as Seq, entries: [] },
    { kind: "run", id: 2, request: { ...plain, steps: [step("begin"), step("commit")] } },
    { kind: "run", id: 3, request: plain, system: { engines: { columns: ["id"], rows: [{ id: 1n }] } } },
    { kind: "run", id: 4, request: { ...plain, steps: [{ ...step("select 1"), condition: { kind: "isAutocommit" } }] } },
    { kind: "run", id: 5, request: { ...plain, settings: { ...settings, asOf: { seq: 9 as Seq } } } },
    { kind: "apply", through: 12 as Seq, entries: [{ seq: 12 as Seq, bytes: Uint8Array.of(4) }] },
  ];
  expect(unpackCalls(clone(packCalls(calls)))).toEqual(calls);
});

test("replies come out of the thread's message as they went in", () => {
  const commit = {
    kind: "commit",
    snapshot: 4 as Seq,
    outcomes: [{ kind: "ok", result: { columns: [], rows: [], affectedRowCount: 1, lastInsertRowid: null } }],
    nextStep: 1,
    settings,
    changes: {
      body: Uint8Array.of(1, 2, 3),
      permissions: [
        { space: 5 as SpaceId, key: "k\u0000\u00ff", kind: "delete" },
        { space: 6 as SpaceId, key: "", kind: "exist" },
      ],
      wholeTables: [],
      schemaVersions: [{ table: 5 as SpaceId, version: 2 as Seq }],
    },
  } as const;
  const withRows = {
    ...commit,
    outcomes: [{ kind: "ok", result: { columns: [{ name: "a", declaredType: null }], rows: [[1n]], affectedRowCount: 1, lastInsertRowid: 1n } }],
  } as const;
  const replies: LocalStoreReply[] = [
    { kind: "ran", id: 1, result: commit },
    { kind: "chunk", id: 8, message: Uint8Array.of(7, 8, 9) },
    { kind: "chunk", id: 9, message: null },
    { kind: "applied", through: 4 as Seq, oldestSnapshot: 3 as Seq },
    { kind: "ran", id: 2, result: withRows },
    { kind: "ran", id: 3, result: { ...commit, changes: { ...commit.changes, wholeTables: [5 as SpaceId] } } },
    { kind: "ran", id: 4, result: { kind: "pull", needs: [{ space: 5 as SpaceId, ranges: [{ low: "a", high: null }] }] } },
    { kind: "ran", id: 5, result: { ...commit, changes: { ...commit.changes, body: Uint8Array.of(9) } } },
  ];
  expect(unpackReplies(clone(packReplies(replies)))).toEqual(replies);
});
