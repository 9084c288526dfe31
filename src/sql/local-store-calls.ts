/** Calls to a local store as messages: what a worker thread is sent, and what the simulator carries out in the same way without one. */
import { BugError, unreachable } from "../base/errors.js";
import type { EngineId, Seq, SpaceId } from "../base/ids.js";
import type { SchemaObject } from "../messages/wire/entry.js";
import type { Description, LocalStore, PulledRow, RunRequest, RunResult, SqlFault, SystemTables } from "./local-store.js";

interface RangeOfTable {
  readonly table: SpaceId;
  readonly low: Uint8Array;
  readonly high: Uint8Array | null;
}

/** Chosen by the caller; its reply carries it. */
interface Numbered {
  readonly id: number;
}

export type LocalStoreCall = Numbered &
  (
    | { readonly kind: "reset"; readonly seq: Seq; readonly schema: readonly { readonly object: SchemaObject; readonly version: Seq }[] }
    | { readonly kind: "become"; readonly engine: EngineId }
    | { readonly kind: "run"; readonly request: RunRequest; readonly system: SystemTables }
    | { readonly kind: "split"; readonly script: string }
    | { readonly kind: "describe"; readonly sql: string }
    | { readonly kind: "apply"; readonly entries: readonly { readonly seq: Seq; readonly bytes: Uint8Array }[]; readonly through: Seq }
    | ({ readonly kind: "beginHold" } & RangeOfTable)
    | ({ readonly kind: "install"; readonly seq: Seq; readonly rows: readonly PulledRow[] } & RangeOfTable)
    | ({ readonly kind: "abandonHold" } & RangeOfTable)
    | ({ readonly kind: "holdEmpty" } & RangeOfTable)
    | { readonly kind: "grantIds"; readonly table: SpaceId; readonly first: bigint; readonly last: bigint }
    | { readonly kind: "tableHash"; readonly table: SpaceId }
  );

export type LocalStoreReply = Numbered & {
  /** After the call. */
  readonly appliedSeq: Seq;
  readonly outcome: CallOutcome;
};

export type CallOutcome =
  /** Calls that answer nothing. */
  | { readonly kind: "done" }
  | { readonly kind: "run"; readonly result: RunResult }
  | { readonly kind: "split"; readonly result: readonly string[] | SqlFault }
  | { readonly kind: "describe"; readonly result: Description | SqlFault }
  | { readonly kind: "install"; readonly result: "held" | "full" }
  | { readonly kind: "tableHash"; readonly result: string | null }
  /** The store has diverged, or is broken in another way: it is not to be used any more. */
  | { readonly kind: "bug"; readonly message: string };

export function carryOut(store: LocalStore, call: LocalStoreCall): LocalStoreReply {
  let outcome: CallOutcome;
  try {
    outcome = outcomeOf(store, call);
  } catch (error) {
    outcome = { kind: "bug", message: describeBug(error) };
  }
  return { id: call.id, appliedSeq: store.appliedSeq, outcome };
}

/** What is thrown here is a bug, whatever its class: faults of statements are values. */
function describeBug(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return error instanceof BugError ? `${error.message}${cause}` : `${error.stack ?? error.message}${cause}`;
}

function outcomeOf(store: LocalStore, call: LocalStoreCall): CallOutcome {
  switch (call.kind) {
    case "run":
      return { kind: "run", result: store.run(call.request, call.system) };
    case "apply":
      store.apply(call.entries, call.through);
      return { kind: "done" };
    case "reset":
      store.reset(call.seq, call.schema);
      return { kind: "done" };
    case "become":
      store.become(call.engine);
      return { kind: "done" };
    case "split":
      return { kind: "split", result: store.split(call.script) };
    case "describe":
      return { kind: "describe", result: store.describe(call.sql) };
    case "beginHold":
      store.beginHold(call.table, call.low, call.high);
      return { kind: "done" };
    case "install":
      return { kind: "install", result: store.install(call.table, call.low, call.high, call.seq, call.rows) };
    case "abandonHold":
      store.abandonHold(call.table, call.low, call.high);
      return { kind: "done" };
    case "holdEmpty":
      store.holdEmpty(call.table, call.low, call.high);
      return { kind: "done" };
    case "grantIds":
      store.grantIds(call.table, call.first, call.last);
      return { kind: "done" };
    case "tableHash":
      return { kind: "tableHash", result: store.tableHash(call.table) };
    default:
      return unreachable(call);
  }
}
