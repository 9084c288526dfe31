import type { ChainHash } from "./chain-hash.js";
import type { Seq, Term } from "./ids.js";

/** An entry at its place in the stream; `bytes` is an encoded Entry (messages/wire/entry.ts). */
export interface LogEntry {
  readonly seq: Seq;
  /** Of the sequencer that ordered it. */
  readonly term: Term;
  /** `chainHash(hash of seq − 1, term, bytes)`. */
  readonly hash: ChainHash;
  readonly bytes: Uint8Array;
}

/** A place that a log or a state can go on from. */
export interface LogPosition {
  readonly seq: Seq;
  readonly term: Term;
  readonly hash: ChainHash;
}
