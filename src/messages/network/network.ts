/**
 * The only way between engines: sealed datagrams (unicast and multicast) and reliable, ordered messages over TLS. `node-network.ts` is the
 * real one; the simulator's has the same contract. Payloads are opaque bytes; only peers that know the database's key are ever heard.
 */
import type { ClusterId, Endpoint, Nonce } from "../../base/ids.js";

export interface Network {
  /** Where this process is reached. */
  readonly endpoint: Endpoint;
  /** Best effort. Larger than `datagramBytesMax` is a bug. */
  sendDatagram(to: Endpoint, payload: Uint8Array): void;
  /** Whether `multicast` may reach anybody: false where it was not wanted, or could not be opened. */
  readonly hasMulticast: boolean;
  /** To every engine of the group, this one left out. Best effort; nothing happens where there is no multicast. */
  multicast(payload: Uint8Array): void;
  /**
   * In order, at most once, over one connection per pair, opened on demand. What was not delivered when the connection ends is lost, and
   * `onDisconnected` says so. False: the peer's queue (64 MiB) is full, or the network is closed; the message was not taken.
   */
  sendReliable(to: Endpoint, payload: Uint8Array): boolean;
  /** Bytes that wait to be sent to this peer. */
  queuedBytes(to: Endpoint): number;
  /** Whether something accepts connections there: false as soon as it is refused, or after `timeoutMs`. */
  probe(endpoint: Endpoint, timeoutMs: number): Promise<boolean>;
  disconnect(endpoint: Endpoint): void;
  readonly datagramBytesMax: number;
  readonly counters: NetworkCounters;
  close(): Promise<void>;
}

export interface NetworkCounters {
  datagramsSent: number;
  datagramsReceived: number;
  bytesSent: number;
  bytesReceived: number;
  /** Not sealed with this database's key, replayed, cut short, of another format. */
  datagramsRefused: number;
  /** Lost in the kernel's receive buffer, where the system tells. */
  kernelDrops: number;
}

export interface NetworkHandlers {
  /** `from` is the peer's endpoint, also for multicast. The payload may be kept. */
  onDatagram(from: Endpoint, nonce: Nonce, payload: Buffer, byMulticast: boolean): void;
  onReliable(from: Endpoint, nonce: Nonce, payload: Buffer): void;
  onConnected(endpoint: Endpoint, nonce: Nonce): void;
  /** The connection ended, for whatever reason; also when one could not be opened. */
  onDisconnected(endpoint: Endpoint, reason: string): void;
}

export interface NetworkOptions {
  readonly clusterId: ClusterId;
  readonly secret: Buffer;
  readonly nonce: Nonce;
  /** IPv4 address of the interface; 127.x: TTL 0, nothing leaves the machine. */
  readonly interfaceAddress: string;
  readonly groupAddress: string;
  readonly groupPort: number;
  /** False: none is sent, nor listened for. Default: true. */
  readonly multicast?: boolean;
  readonly handlers: NetworkHandlers;
}
