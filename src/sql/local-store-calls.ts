/** The local store's calls as messages, so that it can run in a worker thread; the simulator carries them out in place. */

import { unreachable } from "../base/errors.js";
import type { EngineId, Life, Seq, SpaceId } from "../base/ids.js";
import type { LargeValue } from "../base/large-values.js";
import { encodeEngineMessage } from "../messages/wire/engine-messages.js";
import type { IdRange, SchemaObject } from "../messages/wire/entry.js";
import type {
  Description,
  InstallOutcome,
  LocalStore,
  PulledImage,
  PulledRow,
  RunRequest,
  RunResult,
  SqlFault,
  SystemTables,
  Usage,
} from "./local-store.js";

/** In the order in which they are posted. Those with an `id`, `apply`, `takeIdsBack` and `endTransaction` are answered by one reply each. */
export type LocalStoreCall =
  | {
      readonly kind: "reset";
      readonly seq: Seq;
      readonly schema: readonly { readonly object: SchemaObject; readonly version: Seq }[];
      readonly isPast?: boolean;
    }
  | { readonly kind: "become"; readonly engine: EngineId; readonly life: Life }
  | { readonly kind: "run"; readonly id: number; readonly request: RunRequest; readonly system?: SystemTables }
  | { readonly kind: "apply"; readonly entries: readonly { readonly seq: Seq; readonly bytes: Uint8Array }[]; readonly through: Seq }
  | { readonly kind: "beginHold"; readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null }
  | {
      readonly kind: "install";
      readonly id: number;
      readonly space: SpaceId;
      readonly low: Uint8Array;
      readonly high: Uint8Array | null;
      readonly seq: Seq;
      readonly changedSeq: Seq;
      readonly rows: readonly PulledRow[];
      readonly images: readonly PulledImage[];
      readonly values: readonly LargeValue[];
    }
  /** `pull`: the asker's number of its question. */
  | {
      readonly kind: "readChunk";
      readonly id: number;
      readonly pull: number;
      readonly space: SpaceId;
      readonly low: Uint8Array;
      readonly high: Uint8Array | null;
      readonly bytesMax: number;
    }
  | { readonly kind: "abandonHold"; readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null }
  | { readonly kind: "dropRange"; readonly id: number; readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null }
  | { readonly kind: "holdEmpty"; readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null }
  | { readonly kind: "grantIds"; readonly space: SpaceId; readonly first: bigint; readonly last: bigint }
  | { readonly kind: "usage"; readonly id: number }
  | { readonly kind: "takeIdsBack" }
  | { readonly kind: "endTransaction"; readonly transaction: number }
  | { readonly kind: "describe"; readonly id: number; readonly sql: string; readonly transaction: number | null }
  | { readonly kind: "tableHash"; readonly id: number; readonly space: SpaceId };

/** `oldestSnapshot`: of the transactions that are open when the call is carried out; null: none is. */
export type LocalStoreReply =
  | { readonly kind: "ran"; readonly id: number; readonly result: RunResult }
  | { readonly kind: "applied"; readonly through: Seq; readonly oldestSnapshot: Seq | null }
  | { readonly kind: "transactionEnded"; readonly oldestSnapshot: Seq | null }
  | { readonly kind: "installed"; readonly id: number; readonly outcome: InstallOutcome }
  /** The answer, ready to be sent: to encode it is not for the thread that orders. null: not held. */
  | { readonly kind: "chunk"; readonly id: number; readonly message: Uint8Array | null }
  | { readonly kind: "dropped"; readonly id: number }
  | { readonly kind: "usage"; readonly id: number; readonly usage: Usage }
  | { readonly kind: "idsTakenBack"; readonly left: readonly IdRange[] }
  | { readonly kind: "described"; readonly id: number; readonly description: Description | SqlFault }
  | { readonly kind: "hashed"; readonly id: number; readonly hash: string | null };

/** Runs posted and not answered, at most. Their ids are whole numbers in a row (thread-watch.ts). */
export const runsPostedMax = 128;

const nothing: SystemTables = {};

/** null: a call that has no reply. Throws what the store throws: the engine cannot go on with it. */
export function carryOut(store: LocalStore, call: LocalStoreCall): LocalStoreReply | null {
  switch (call.kind) {
    case "reset":
      store.reset(call.seq, call.schema, call.isPast);
      return null;
    case "become":
      store.become(call.engine, call.life);
      return null;
    case "run":
      return { kind: "ran", id: call.id, result: store.run(call.request, call.system ?? nothing) };
    case "apply":
      store.apply(call.entries, call.through);
      return { kind: "applied", through: call.through, oldestSnapshot: store.oldestSnapshot };
    case "beginHold":
      store.beginHold(call.space, call.low, call.high);
      return null;
    case "install": {
      const { id, space, low, high, seq, rows, changedSeq, images, values } = call;
      return { kind: "installed", id, outcome: store.install(space, low, high, seq, rows, changedSeq, images, values) };
    }
    case "readChunk":
      return { kind: "chunk", id: call.id, message: chunkMessage(store, call) };
    case "abandonHold":
      store.abandonHold(call.space, call.low, call.high);
      return null;
    case "dropRange":
      store.dropRange(call.space, call.low, call.high);
      return { kind: "dropped", id: call.id };
    case "holdEmpty":
      store.holdEmpty(call.space, call.low, call.high);
      return null;
    case "grantIds":
      store.grantIds(call.space, call.first, call.last);
      return null;
    case "usage":
      return { kind: "usage", id: call.id, usage: store.usage() };
    case "takeIdsBack":
      return { kind: "idsTakenBack", left: store.takeIdsBack() };
    case "endTransaction":
      store.endTransaction(call.transaction);
      return { kind: "transactionEnded", oldestSnapshot: store.oldestSnapshot };
    case "describe":
      return { kind: "described", id: call.id, description: store.describe(call.sql, call.transaction) };
    case "tableHash":
      return { kind: "hashed", id: call.id, hash: store.tableHash(call.space) };
    default:
      return unreachable(call);
  }
}

function chunkMessage(store: LocalStore, { pull, space, low, high, bytesMax }: Extract<LocalStoreCall, { kind: "readChunk" }>): Uint8Array | null {
  const chunk = store.readChunk(space, low, high, bytesMax);
  return chunk === null ? null : encodeEngineMessage({ kind: "pullReply", pull, ...chunk, images: [], imagesFrom: chunk.seq });
}
