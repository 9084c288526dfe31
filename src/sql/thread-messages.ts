/**
 * Batches of calls and replies as they cross between threads. What a structured clone costs is one visit for each object and property, and
 * for each view a copy of all of the buffer under it (a received frame, a pool's slab). So the bytes of a batch go into one buffer that is handed
 * over without a copy, and the commonest messages, a single plain statement, its commit, and entries to apply, go as flat lists; so do chunks for other Caches.
 */
import type { Seq, SpaceId } from "../base/ids.js";
import { isolations, type PermissionKey, type RunResult, type SessionSettings } from "./local-store.js";
import type { LocalStoreCall, LocalStoreReply } from "./local-store-calls.js";

export interface ThreadMessage {
  readonly items: readonly unknown[];
  /** What the flat items take their bytes from, one after another. */
  readonly bytes: Uint8Array;
}

type RunCall = Extract<LocalStoreCall, { kind: "run" }>;
type CommitResult = Extract<RunResult, { kind: "commit" }>;
type FlatSettings = readonly [flags: number, lastInsertRowid: bigint, changes: bigint];
type FlatRun = readonly [
  "run",
  id: number,
  seed: number,
  sql: string,
  args: RunCall["request"]["steps"][0]["args"]["positional"],
  wantRows: boolean,
  /** 0: null. */
  transaction: number,
  ...FlatSettings,
];
type FlatApply = readonly ["apply", through: Seq, seqs: readonly number[], lengths: readonly number[]];
type FlatCommit = readonly [
  "commit",
  id: number,
  snapshot: Seq,
  affectedRowCount: number,
  insertedRowid: bigint | null,
  bodyLength: number,
  /** Space, key and use of each permission. */
  permissions: readonly (number | string)[],
  /** Table and version, in turn. */
  versions: readonly number[],
  ...FlatSettings,
];

type FlatChunk = readonly ["chunk", id: number, length: number];

const uses: readonly PermissionKey["kind"][] = ["write", "delete", "exist"];

function flatSettings(settings: SessionSettings): FlatSettings {
  return [
    (settings.foreignKeys ? 1 : 0) | (settings.deferForeignKeys ? 2 : 0) | (isolations.indexOf(settings.isolation ?? "snapshot") * 4),
    settings.lastInsertRowid,
    settings.changes,
  ];
}

function settingsOf(flags: number, lastInsertRowid: bigint, changes: bigint): SessionSettings {
  const settings = { foreignKeys: (flags & 1) !== 0, deferForeignKeys: (flags & 2) !== 0, lastInsertRowid, changes };
  const isolation = isolations[flags >> 2] ?? "snapshot";
  return isolation === "snapshot" ? settings : { ...settings, isolation };
}

export function packCalls(calls: readonly LocalStoreCall[]): ThreadMessage {
  const pieces: Uint8Array[] = [];
  const items = calls.map((call) => {
    if (call.kind === "run") return flatRun(call) ?? call;
    if (call.kind !== "apply") return call;
    const lengths = call.entries.map(({ bytes }) => {
      pieces.push(bytes);
      return bytes.length;
    });
    const flat: FlatApply = ["apply", call.through, call.entries.map(({ seq }) => seq), lengths];
    return flat;
  });
  return { items, bytes: joined(pieces) };
}

/** null: more than a single plain statement. */
function flatRun({ id, request, system }: RunCall): FlatRun | null {
  const [step] = request.steps;
  if (
    step === undefined ||
    request.steps.length !== 1 ||
    request.transaction?.resumes === true ||
    request.firstStep !== 0 ||
    request.settings.asOf !== undefined ||
    step.condition !== null ||
    step.args.named.length > 0
  )
    return null;
  if (system !== undefined && Object.keys(system).length > 0) return null;
  return ["run", id, request.seed, step.sql, step.args.positional, step.wantRows, request.transaction?.id ?? 0, ...flatSettings(request.settings)];
}

export function unpackCalls({ items, bytes }: ThreadMessage): readonly LocalStoreCall[] {
  let at = 0;
  return (items as readonly (LocalStoreCall | FlatRun | FlatApply)[]).map((item): LocalStoreCall => {
    if (!Array.isArray(item)) return item as LocalStoreCall;
    if (item[0] === "run") {
      const [, id, seed, sql, positional, wantRows, transaction, ...settings] = item as FlatRun;
      const steps = [{ sql, args: { positional, named: [] }, wantRows, condition: null }];
      const request = {
        steps,
        firstStep: 0,
        earlier: [],
        settings: settingsOf(...settings),
        seed,
        transaction: transaction === 0 ? null : { id: transaction, resumes: false },
      };
      return { kind: "run", id, request };
    }
    const [, through, seqs, lengths] = item as FlatApply;
    const entries = seqs.map((seq, index) => {
      const start = at;
      at += lengths[index] as number;
      return { seq: seq as Seq, bytes: bytes.subarray(start, at) };
    });
    return { kind: "apply", entries, through };
  });
}

export function packReplies(replies: readonly LocalStoreReply[]): ThreadMessage {
  const pieces: Uint8Array[] = [];
  const items = replies.map((reply) => {
    if (reply.kind === "chunk" && reply.message !== null) {
      pieces.push(reply.message);
      const flat: FlatChunk = ["chunk", reply.id, reply.message.length];
      return flat;
    }
    if (reply.kind !== "ran" || reply.result.kind !== "commit") return reply;
    const flat = flatCommit(reply.id, reply.result);
    if (flat !== null) pieces.push(reply.result.changes.body);
    return flat ?? reply;
  });
  return { items, bytes: joined(pieces) };
}

/** null: more than one statement, or one with rows. */
function flatCommit(id: number, { snapshot, outcomes, nextStep, settings, changes }: CommitResult): FlatCommit | null {
  const [outcome] = outcomes;
  if (outcome?.kind !== "ok" || outcomes.length !== 1 || nextStep !== 1 || changes.wholeTables.length > 0 || changes.hasLargeValues === true)
    return null;
  const { columns, rows, affectedRowCount, lastInsertRowid } = outcome.result;
  if (columns.length > 0 || rows.length > 0) return null;
  const permissions: (number | string)[] = [];
  for (const { space, key, kind, since } of changes.permissions) {
    if (since !== undefined) return null;
    permissions.push(space, key, uses.indexOf(kind));
  }
  const versions: number[] = [];
  for (const { table, version } of changes.schemaVersions) versions.push(table, version);
  return ["commit", id, snapshot, affectedRowCount, lastInsertRowid, changes.body.length, permissions, versions, ...flatSettings(settings)];
}

export function unpackReplies({ items, bytes }: ThreadMessage): readonly LocalStoreReply[] {
  let at = 0;
  return (items as readonly (LocalStoreReply | FlatChunk | FlatCommit)[]).map((item): LocalStoreReply => {
    if (!Array.isArray(item)) return item as LocalStoreReply;
    if (item[0] === "chunk") {
      const [, id, length] = item as FlatChunk;
      at += length;
      return { kind: "chunk", id, message: bytes.subarray(at - length, at) };
    }
    const [, id, snapshot, affectedRowCount, lastInsertRowid, bodyLength, flatPermissions, flatVersions, ...settings] = item as FlatCommit;
    const start = at;
    at += bodyLength;
    const permissions: PermissionKey[] = [];
    for (let index = 0; index < flatPermissions.length; index += 3) {
      const kind = uses[flatPermissions[index + 2] as number] as PermissionKey["kind"];
      permissions.push({ space: flatPermissions[index] as SpaceId, key: flatPermissions[index + 1] as string, kind });
    }
    const schemaVersions: { table: SpaceId; version: Seq }[] = [];
    for (let index = 0; index < flatVersions.length; index += 2) {
      schemaVersions.push({ table: flatVersions[index] as SpaceId, version: flatVersions[index + 1] as Seq });
    }
    const outcomes = [{ kind: "ok" as const, result: { columns: [], rows: [], affectedRowCount, lastInsertRowid } }];
    const changes = { body: bytes.subarray(start, at), permissions, wholeTables: [], schemaVersions };
    return { kind: "ran", id, result: { kind: "commit", snapshot, outcomes, nextStep: 1, settings: settingsOf(...settings), changes } };
  });
}

/** A buffer of its own for all of them: it can be transferred. */
function joined(pieces: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
