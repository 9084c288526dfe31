/** What an engine needs of the world, so that the simulator can be another one: time, chance, network, disk, local store. */
import type { Endpoint, NodeId, Nonce, Seq, SpaceId } from "../base/ids.js";
import type { Random } from "../base/random.js";
import type { Network, NetworkHandlers } from "../messages/network/network.js";
import type { StreamLimits } from "../messages/stream/stream-node-types.js";
import type { Description, SqlFault } from "../sql/local-store.js";
import type { LocalStoreCall, LocalStoreReply } from "../sql/local-store-calls.js";
import type { StoreWrites } from "../storage/atom-store.js";
import type { JournalHandlers, RecoveredJournal, VoteStore } from "../storage/journal.js";
import type { CatalogLimits, StoreQuestion } from "./core-types.js";

export interface Clock {
  /** Monotonic, in milliseconds. */
  nowMs(): number;
  /** After the inputs that are already waiting: the end of this event-loop turn. */
  soon(act: () => void): void;
  after(delayMs: number, act: () => void): Cancel;
  every(periodMs: number, act: () => void): Cancel;
}

export type Cancel = () => void;

export type Log = (level: "debug" | "info" | "warn" | "error", message: string, fields?: Readonly<Record<string, unknown>>) => void;

export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Omit<StreamLimits, "datagramBytesMax">;
  readonly catalogLimits: CatalogLimits;
  readonly pid: number;
  /** Endpoints of engines of this database, named by the user: asked where multicast does not reach. */
  readonly contacts: readonly Endpoint[];
  readonly log: Log;
  openNetwork(nonce: Nonce, handlers: NetworkHandlers): Promise<Network>;
}

/** An Archive's folder, locked for this process. */
export interface ArchiveDisk {
  readonly nodeId: NodeId;
  /** It made the database: with an empty journal, it is the one voter. */
  readonly founder: boolean;
  openStore(): Promise<StoreWrites>;
  /** Answers other engines from the open store. */
  openServing(clock: Clock, handlers: StorePortHandlers): StorePort;
  openJournal(handlers: JournalHandlers, appliedSeq: Seq): Promise<RecoveredJournal>;
  openVotes(): Promise<VoteStore>;
  /** Gives up the lock. */
  close(): Promise<void>;
}

/** Takes questions; each is answered once, later, or not at all: then its asker asks again. */
export interface StorePort {
  ask(question: StoreQuestion): void;
  /** Nothing is answered any more. */
  close(): Promise<void>;
}

export interface StorePortHandlers {
  onAnswer(to: Endpoint, payload: Buffer): void;
  /** What its asker sent cannot be read. */
  onMalformed(question: Pick<StoreQuestion, "kind" | "to">, message: string): void;
  onFailure(error: Error): void;
}

/** A local store behind a queue: calls are carried out in order, replies come back in order, in batches. */
export interface LocalPort {
  post(call: LocalStoreCall): void;
  /** The turn's calls go out. */
  flush(): void;
  /** A run that was posted, and that nobody wants any more, is ended where it loops. It is answered all the same. */
  cancelRun(run: number): void;
  describe(sql: string, transaction: number | null): Promise<Description | SqlFault>;
  /** Of a table that is held whole (LocalStore.tableHash). */
  tableHash(space: SpaceId): Promise<string | null>;
  close(): Promise<void>;
}

export interface LocalHandlers {
  /** Replies of the kinds that the core knows. */
  onReply(reply: LocalStoreReply): void;
  /** The store has failed (a divergence, a crash of its thread): the engine cannot go on with it. */
  onFailure(error: Error): void;
}
