/** Inputs and effects of EngineCore: an engine's protocol as one pure state machine over stream, catalog, ownership and transactions. */
import type { Endpoint, EngineId, EngineKind, NodeId, Nonce, Seq, Term } from "../base/ids.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";
import type { CutsRequestMessage, PullRequestMessage } from "../messages/wire/engine-messages.js";
import type { SessionSettings, Step, StepOutcome } from "../sql/local-store.js";
import type { LocalStoreCall, LocalStoreReply } from "../sql/local-store-calls.js";
import type { KeptValues, StoreBatch } from "../storage/atom-store.js";
import type { KeptVersions } from "../storage/row-versions.js";

/** What a store of the past is known by, within one core. */
export type PastId = number;

export type CoreInput =
  /** About every 5 ms. */
  | { readonly kind: "tick"; readonly nowMs: number }
  | { readonly kind: "message"; readonly nowMs: number; readonly from: Endpoint; readonly payload: Buffer; readonly byMulticast?: boolean }
  | { readonly kind: "connected"; readonly nowMs: number; readonly endpoint: Endpoint }
  | { readonly kind: "disconnected"; readonly nowMs: number; readonly endpoint: Endpoint }
  | { readonly kind: "probed"; readonly nowMs: number; readonly endpoint: Endpoint; readonly alive: boolean }
  | { readonly kind: "journaled"; readonly nowMs: number; readonly position: LogPosition }
  | { readonly kind: "voteSaved"; readonly nowMs: number; readonly term: Term; readonly votedFor: NodeId }
  | { readonly kind: "journalRead"; readonly nowMs: number; readonly requestId: number; readonly entries: readonly LogEntry[] | "gone" }
  /** Archive: a storeBatch is visible. */
  | { readonly kind: "stored"; readonly nowMs: number; readonly seq: Seq }
  /** Archive: old versions of rows in the store, once a second where they have changed. */
  | { readonly kind: "versions"; readonly nowMs: number; readonly versions: KeptVersions; readonly values: KeptValues }
  /** Cache: the local store carried out calls, in order. */
  | { readonly kind: "local"; readonly nowMs: number; readonly reply: LocalStoreReply }
  /** Cache: likewise, a store of the past. */
  | { readonly kind: "past"; readonly nowMs: number; readonly past: PastId; readonly reply: LocalStoreReply }
  /** Cache: a client's statements. Answered by one "answer" effect. */
  /** `open`: the session's transaction, as the answer to its last batch told it. A transaction that this one leaves open is known by `request`. */
  | {
      readonly kind: "batch";
      readonly nowMs: number;
      readonly request: number;
      readonly steps: readonly Step[];
      readonly settings: SessionSettings;
      readonly open: number | null;
    }
  /** A session ends with a transaction open. */
  | { readonly kind: "endTransaction"; readonly nowMs: number; readonly transaction: number }
  /** The client no longer waits: what has not been proposed is given up. */
  | { readonly kind: "cancel"; readonly nowMs: number; readonly request: number }
  | { readonly kind: "removeVoter"; readonly nowMs: number; readonly request: number; readonly nodeId: NodeId }
  /** Clean shutdown: the LEAVE is asked for; "left" follows when it is applied. */
  | { readonly kind: "leave"; readonly nowMs: number }
  | { readonly kind: "turnEnd"; readonly nowMs: number };

export type CoreEffect =
  | { readonly kind: "send"; readonly to: Endpoint; readonly channel: "datagram" | "reliable"; readonly payload: Buffer }
  | { readonly kind: "multicast"; readonly payload: Buffer }
  | { readonly kind: "probe"; readonly endpoint: Endpoint }
  | { readonly kind: "append"; readonly truncateFrom: Seq | null; readonly entries: readonly LogEntry[]; readonly commitSeq: Seq }
  | { readonly kind: "saveVote"; readonly term: Term; readonly votedFor: NodeId }
  | { readonly kind: "readJournal"; readonly requestId: number; readonly from: Seq; readonly bytesMax: number }
  | { readonly kind: "storeBatch"; readonly batch: StoreBatch }
  /** Archive: read and answer a peer. */
  | {
      readonly kind: "serveRows";
      readonly to: Endpoint;
      readonly request: PullRequestMessage;
      /** What the store has of the range is as of here, though it has not come as far: nothing of the range has changed since. */
      readonly sameThrough: Seq;
    }
  | { readonly kind: "serveCuts"; readonly to: Endpoint; readonly request: CutsRequestMessage }
  | { readonly kind: "serveTransfer"; readonly to: Endpoint; readonly transfer: number; readonly cursor: string }
  /** `past`: null: the local store. */
  | { readonly kind: "local"; readonly past: PastId | null; readonly call: LocalStoreCall }
  /** Cache: at once, whatever was posted behind it. */
  | { readonly kind: "cancelRun"; readonly past: PastId | null; readonly run: number }
  /** Cache: another store beside the local one, for reads of the past; and its end. */
  | { readonly kind: "openPast"; readonly past: PastId }
  | { readonly kind: "closePast"; readonly past: PastId }
  | { readonly kind: "answer"; readonly request: number; readonly answer: BatchAnswer }
  | { readonly kind: "voterRemoved"; readonly request: number; readonly refusal: string }
  /** Its BOOT is applied: it is a member under this id. */
  | { readonly kind: "member"; readonly engine: EngineId }
  /** A clean LEAVE is applied. */
  | { readonly kind: "left" }
  /** It was evicted, or is too far behind: the engine starts over with a new core. `needsState`: what it has leads nowhere; take a peer's. */
  | { readonly kind: "startOver"; readonly reason: string; readonly needsState: boolean }
  /** Another process there has this Archive's data folder, or a copy: this one stops for good. */
  | { readonly kind: "twin"; readonly endpoint: Endpoint }
  | { readonly kind: "role"; readonly sequencer: Endpoint | null; readonly isSequencer: boolean; readonly term: Term }
  /** Work is left: another turnEnd soon, please. */
  | { readonly kind: "again" }
  | { readonly kind: "log"; readonly level: "debug" | "info" | "warn"; readonly message: string; readonly fields: Readonly<Record<string, unknown>> };

/** What another engine asks of an Archive's store. */
export type StoreQuestion = Extract<CoreEffect, { kind: "serveRows" | "serveCuts" | "serveTransfer" }>;

export type BatchAnswer =
  /** `open`: the transaction that the local store keeps for the session's next batch. */
  | { readonly kind: "done"; readonly outcomes: readonly StepOutcome[]; readonly settings: SessionSettings; readonly open: number | null }
  /** The engine failed the whole request; `code` as in DatabaseError. */
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

/** How catalogs are taken by Caches, and looked after. */
export interface CatalogLimits {
  /** Of records in one part, in bytes: what an Archive encodes at once. */
  readonly partBytes: number;
  /**
   * Of a range of a space's catalog so many atoms at least, with those behind it: who needs one key's may well need its neighbours'. After some questions
   * about the space it is twice as many, and so on: the first queries wait for little, and who goes on asking soon knows all.
   */
  readonly rangeAtomsMin: number;
  /** So many atoms a Cache may know in any case, however small its memory (catalog-eviction.ts). */
  readonly knownAtomsMin: number;
  /** Entries kept while catalogs are pulled, in bytes. Beyond it the pulls begin again. */
  readonly keptBytesMax: number;
  /** From one round of the search for atoms to MERGE to the next: what is merged was left alone for so long. Milliseconds. */
  readonly mergeEveryMs: number;
  /** From one MARK to the next, at least: each is an entry that all engines journal or apply. Milliseconds. */
  readonly markEveryMs: number;
}

/** What a core is told about its own process. */
export interface Self {
  readonly kind: EngineKind;
  readonly nodeId: NodeId;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  readonly http: string;
  readonly pid: number;
}
