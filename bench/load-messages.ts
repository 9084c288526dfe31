/** What the benchmark and its load workers tell each other over IPC. Times are `process.hrtime` in milliseconds: one clock for all processes. */
import type { Status } from "../src/engines/database.js";
import type { LatencyHistogram } from "./latency-histogram.js";

/** Whom a worker loads. */
export type Target =
  | { readonly kind: "embedded"; readonly database: string }
  | { readonly kind: "hrana"; readonly url: string }
  | { readonly kind: "libsql"; readonly url: string }
  | { readonly kind: "galera"; readonly ports: readonly number[] }
  | { readonly kind: "postgres"; readonly port: number }
  | { readonly kind: "etcd"; readonly ports: readonly number[] };

/** `hot`: an update of one row, by all. */
export type Work = "insert" | "update" | "read" | "hot";

export interface RunOrder {
  readonly work: Work;
  /** Operations under way at a time. */
  readonly lanes: number;
  readonly seconds: number;
}

export interface RunResult {
  readonly succeeded: number;
  readonly failed: number;
  readonly firstError: string | null;
  readonly seconds: number;
  readonly latencies: LatencyHistogram;
}

/** When writes succeeded, of lanes that write until they are told to stop. */
export interface WriteResult {
  readonly successesMs: readonly number[];
  readonly failed: number;
  readonly firstError: string | null;
}

/** Each request is answered by one reply with its id. */
export interface Calls {
  readonly open: { readonly asked: Target; readonly answered: null };
  readonly setUp: { readonly asked: null; readonly answered: null };
  readonly run: { readonly asked: RunOrder; readonly answered: RunResult };
  readonly beginWrites: { readonly asked: { readonly work: Work; readonly lanes: number }; readonly answered: null };
  readonly endWrites: { readonly asked: null; readonly answered: WriteResult };
  readonly status: { readonly asked: null; readonly answered: Status | null };
  readonly originator: { readonly asked: null; readonly answered: number | null };
  readonly close: { readonly asked: null; readonly answered: null };
}

export interface Request<K extends keyof Calls = keyof Calls> {
  readonly id: number;
  readonly call: K;
  readonly asked: Calls[K]["asked"];
}

export interface Reply {
  readonly id: number;
  readonly answered?: unknown;
  readonly error?: string;
}

export function monotonicMs(): number {
  const [seconds, nanos] = process.hrtime();
  return seconds * 1000 + nanos / 1e6;
}
