/** Inputs and effects of StreamNode: one engine's end of the stream, as a pure state machine (design.md §4). */

import type { Endpoint, EngineKind, NodeId, Nonce, Seq, Term } from "../../base/ids.js";
import type { LogEntry, LogPosition } from "../../base/log-entry.js";
import type { Random } from "../../base/random.js";
import type { HashedSeq } from "../wire/stream-messages.js";
import type { Link } from "./links.js";
import type { TreeEngine } from "./relay-tree.js";

export interface StreamNodeOptions {
  readonly kind: EngineKind;
  /** 0: never votes (a Cache). */
  readonly nodeId: NodeId;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  /** What the engine already has: log after `base`, in order (a voter's journal; empty for a Cache, which begins at a snapshot). */
  readonly base: LogPosition;
  readonly entries: readonly LogEntry[];
  /** Known committed: everything up to here is delivered by "commit" effects from `appliedSeq` + 1 on, at the first turnEnd. */
  readonly commitSeq: Seq;
  /** The engine's state already has everything up to here (≥ base.seq, ≤ commitSeq). */
  readonly appliedSeq: Seq;
  /** Voters as of `base`; VOTERS entries in `entries` count on top. */
  readonly voters: readonly NodeId[];
  readonly term: Term;
  readonly votedFor: NodeId;
  /** A damaged journal: neither votes, stands nor acks until what it has reaches this seq, durable. 0: sound. */
  readonly repairThrough: Seq;
  readonly random: Random;
  readonly limits: StreamLimits;
  /** Whether the network has any. Without it, what is for all goes from engine to engine (relay-tree.ts). */
  readonly hasMulticast: boolean;
  readonly nowMs: number;
}

export interface StreamLimits {
  readonly heartbeatMs: number;
  readonly electionTimeoutMsMin: number;
  readonly electionTimeoutMsMax: number;
  readonly repairDelayMsMin: number;
  readonly repairDelayMsMax: number;
  /** Frame and other datagram payloads, in bytes. */
  readonly datagramBytesMax: number;
  readonly datagramsPerTurnMax: number;
  /** Sent and not yet durable on a majority, in bytes: the sequencer sends no further (voters' flow control). */
  readonly windowBytesMax: number;
  /** What committed entries that are kept for repair take of memory, in bytes (`entryOverheadBytes` each, besides their own). */
  readonly keptBytesMax: number;
  /** A receiver further behind than this catches up over TCP. */
  readonly catchUpBytes: number;
}

export type StreamInput =
  /** About every 5 ms. */
  | { readonly kind: "tick"; readonly nowMs: number }
  /** A payload whose first byte is a stream message kind (< 64), by UDP or TCP. Malformed ones are counted and dropped. */
  | { readonly kind: "message"; readonly nowMs: number; readonly from: Endpoint; readonly payload: Buffer; readonly byMulticast?: boolean }
  /** Multicast of another kind has come from there: that engine is within its reach. */
  | { readonly kind: "near"; readonly nowMs: number; readonly endpoint: Endpoint }
  /**
   * All members, as applied: what the relay tree is computed from. `contacts`: who may be asked besides; an engine's first state can be older than all of its
   * members. Before the first of these inputs, this engine takes no part in the tree.
   */
  | { readonly kind: "engines"; readonly engines: readonly TreeEngine[]; readonly contacts: readonly Endpoint[] }
  | { readonly kind: "connected"; readonly nowMs: number; readonly endpoint: Endpoint }
  | { readonly kind: "disconnected"; readonly nowMs: number; readonly endpoint: Endpoint }
  /** A voter's whereabouts, by announcement or from the catalog. */
  | { readonly kind: "peer"; readonly nodeId: NodeId; readonly endpoint: Endpoint }
  /** Everything that was appended up to this position is durable. */
  | { readonly kind: "journaled"; readonly nowMs: number; readonly position: LogPosition }
  | { readonly kind: "voteSaved"; readonly nowMs: number; readonly term: Term; readonly votedFor: NodeId }
  /**
   * Sequencer only: gives the entries the next seqs. Not the sequencer any more: "ordered" with none. `concerned`: the engines that wait for
   * their commit, and hear of it at once; all others do so with the next frame, or some milliseconds later. Left out: all hear of it at once.
   */
  | { readonly kind: "order"; readonly nowMs: number; readonly entries: readonly Uint8Array[]; readonly concerned?: readonly Endpoint[] }
  /** A peer has applied this place: it is committed. */
  | { readonly kind: "committed"; readonly nowMs: number; readonly place: HashedSeq }
  /** Answer to readJournal. */
  | { readonly kind: "journalRead"; readonly nowMs: number; readonly requestId: number; readonly entries: readonly LogEntry[] | "gone" }
  /** The engine's stored state has reached this seq: told to the sequencer with acks. */
  | { readonly kind: "applied"; readonly seq: Seq }
  /** The engine reads no snapshot below `oldest` from here on: promised to the sequencer with acks. */
  | { readonly kind: "snapshots"; readonly oldest: Seq }
  /** The engine now is a member under this id (0: not any more): told with acks. */
  | { readonly kind: "member"; readonly engine: number }
  /** Sequencer: begins a round at once (`StreamView.round`); when it is confirmed, no later sequencer had begun before it. */
  | { readonly kind: "confirm"; readonly nowMs: number }
  /** The event-loop turn's inputs are all in: batched work goes out. */
  | { readonly kind: "turnEnd"; readonly nowMs: number };

export type StreamEffect =
  | { readonly kind: "send"; readonly to: Endpoint; readonly channel: "datagram" | "reliable"; readonly payload: Buffer }
  | { readonly kind: "multicast"; readonly payload: Buffer }
  /** Archives only. */
  | { readonly kind: "append"; readonly truncateFrom: Seq | null; readonly entries: readonly LogEntry[]; readonly commitSeq: Seq }
  | { readonly kind: "saveVote"; readonly term: Term; readonly votedFor: NodeId }
  /** Committed, in seq order, each entry once. */
  | { readonly kind: "commit"; readonly entries: readonly LogEntry[] }
  /** For a peer's catch-up, from this Archive's journal. */
  | { readonly kind: "readJournal"; readonly requestId: number; readonly from: Seq; readonly bytesMax: number }
  /**
   * This node's view of who orders. `sequencer` null: nobody known. When it becomes "sequencer" itself, `tail` holds its log after the
   * commit seq (its NOOP of the term included, last): what the fences must already count.
   */
  | {
      readonly kind: "role";
      readonly role: "sequencer" | "follower" | "candidate";
      readonly term: Term;
      readonly sequencer: Endpoint | null;
      readonly tail: readonly LogEntry[];
    }
  /** Sequencer: seqs given to the entries of an "order" input, in order. */
  | { readonly kind: "ordered"; readonly entries: readonly LogEntry[] }
  /** What it needs is in nobody's journal any more: the engine must take a snapshot. */
  | { readonly kind: "needSnapshot" }
  /** Work is left (pacing): give another turnEnd soon, without waiting for a tick. */
  | { readonly kind: "again" };

export interface TreePlace {
  /** What it hears the stream by; null: nothing, or it is the sequencer. */
  readonly by: "multicast of the sequencer" | "multicast of a relay" | "unicast" | null;
  /** From whom, where that is not the sequencer's multicast. */
  readonly parent: Endpoint | null;
  /** Whom it sends to by unicast. */
  readonly children: readonly Endpoint[];
  /** It multicasts what it hears by unicast: others of its segment have asked for that. */
  readonly multicasts: boolean;
  readonly links: readonly Link[];
}

/** What the engine may read between steps. */
export interface StreamView {
  readonly role: "sequencer" | "follower" | "candidate";
  readonly term: Term;
  readonly commitSeq: Seq;
  readonly last: LogPosition;
  readonly sequencer: Endpoint | null;
  readonly voters: readonly NodeId[];
  /** True once an entry of its own term has committed: the sequencer's clocks and membership changes start here. */
  readonly leadsSurely: boolean;
  /** A VOTERS entry may be ordered now (it is a bug to order one otherwise): the last one is committed, and so is an entry of this term. */
  readonly mayChangeVoters: boolean;
  /** Sequencer: counts heartbeats and "confirm" inputs of its term. */
  readonly round: number;
  /** The last round that a majority has answered: a question that came before it began may be answered with the commit seq of then. */
  readonly confirmedRound: number;
  /** This engine's place in the relay tree. */
  readonly tree: TreePlace;
  /** Payloads that did not decode. */
  readonly malformedCount: number;
  /** What this engine itself has promised. */
  readonly oldestSnapshot: Seq;
  /** Sequencer: each endpoint's last ack or status. */
  heardFrom(endpoint: Endpoint): {
    readonly atMs: number;
    readonly durableSeq: Seq;
    readonly matchedSeq: Seq;
    readonly appliedSeq: Seq;
    /** Promised in this term; 0: nothing yet. */
    readonly oldestSnapshot: Seq;
    readonly nodeId: NodeId;
    readonly engine: number;
  } | null;
  /** Bytes ordered and not yet committed (sequencer's backpressure). */
  readonly uncommittedBytes: number;
}
