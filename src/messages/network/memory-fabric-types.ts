/** What the memory fabric's parts share. */
import type { ClusterId, Endpoint, Nonce } from "../../base/ids.js";
import type { NetworkCounters, NetworkHandlers } from "./network.js";

/** What the wire does; may be changed at any time, for what is sent from then on. Chances are in 1,000. */
export interface FabricConditions {
  readonly delayMsMin: number;
  readonly delayMsMax: number;
  readonly lossPerMille: number;
  readonly duplicatePerMille: number;
  /** Datagrams that take `reorderDelayMs` longer than the rest, and so are overtaken. */
  readonly reorderPerMille: number;
  readonly reorderDelayMs: number;
  /** A cut that lasts so long ends the connections over it. */
  readonly cutBreaksAfterMs: number;
  /** From a connection's first message to its failure where the peer does not answer. */
  readonly openTimeoutMs: number;
}

export const calmConditions: FabricConditions = {
  delayMsMin: 0.05,
  delayMsMax: 0.2,
  lossPerMille: 0,
  duplicatePerMille: 0,
  reorderPerMille: 0,
  reorderDelayMs: 3,
  cutBreaksAfterMs: 15_000,
  openTimeoutMs: 5000,
};

export interface MemoryNetworkOptions {
  readonly clusterId: ClusterId;
  readonly secret: Buffer;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  /** Engines of one group hear each other's multicast; null: there is none. */
  readonly group: string | null;
  readonly handlers: NetworkHandlers;
  /** Default: loopback's. */
  readonly datagramBytesMax?: number;
}

/** A process on the fabric. */
export interface MemoryProcess {
  readonly options: MemoryNetworkOptions;
  readonly counters: NetworkCounters;
  /** Whom its multicast reaches just now. */
  group: string | null;
  alive: boolean;
  paused: boolean;
  /** `resume` has been called, and takes effect with the next `due`. */
  resuming: boolean;
  /** Deliveries that wait for `resume`. */
  kept: (() => void)[];
}
