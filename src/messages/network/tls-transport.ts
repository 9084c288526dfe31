/**
 * Reliable messages: one TLS connection per pair of engines, opened when there is something to say, used in both directions.
 *
 * Guaranteed to the layer above: messages of one connection arrive in order and once; onConnected comes before the first of them and
 * onDisconnected after the last; every connection that was announced, or that messages waited for, ends with one onDisconnected, and what
 * was not delivered by then is lost. Not guaranteed: to learn of a peer that is silent (the layer above asks, and calls `disconnect`).
 *
 * Opening: TCP, TLS by the database's key, HELLO of who opens, HELLO of who takes it (connection-choice.ts decides). All within 5 s.
 * Sending: messages of one event-loop turn leave as one write; a large one leaves piece by piece, so that sealing 64 MiB never holds up
 * the event loop, and a message sent to another peer meanwhile goes out at once.
 */
import type { TLSSocket } from "node:tls";
import { MalformedBytesError } from "../../base/bytes.js";
import { assert } from "../../base/errors.js";
import type { ClusterId, Endpoint, Nonce } from "../../base/ids.js";
import { formatVersion } from "../wire/entry.js";
import { chooseConnection, type Held } from "./connection-choice.js";
import { type EndpointAddress, parseEndpoint } from "./endpoint-address.js";
import { FrameReader, frameHeaderBytes, messageBytesMax, queueBytesMax, SendQueue } from "./frame-codec.js";
import { decodeGreeting, encodeGreeting, type Greeting, greetingBytesMax, type Hello, type RefusedReason } from "./hello.js";
import type { LimitedLog } from "./limited-log.js";
import type { NetworkCounters, NetworkHandlers } from "./network.js";
import type { TlsListener } from "./tls-listener.js";
import { connectTls, handshakeTimeoutMs, provedKey, type TlsIdentity } from "./tls-sockets.js";

/** Open connections; further peers are refused. Above the largest cluster that one stream serves. */
const connectionsMax = 1024;

/** One write, in bytes: four TLS records. */
const writeBytes = 64 * 1024;

/** Bytes given to a socket and not yet taken by the system: enough to keep it busy, little enough to seal in a millisecond. */
const writeAheadBytes = 256 * 1024;

/** Until a refused duplicate tries again, in milliseconds: the connection that it was refused for is there by then. */
const duplicateRetryMs = 20;

/** For queued messages to leave at close, in milliseconds. */
const closeGraceMs = 500;

/** Peers whose newest taken connection is remembered, oldest forgotten first; forgetting costs a retry. */
const takenMax = 1024;

export interface TlsTransportOptions {
  readonly clusterId: ClusterId;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  readonly interfaceAddress: string;
  readonly identity: TlsIdentity;
  readonly listener: TlsListener;
  readonly handlers: Pick<NetworkHandlers, "onReliable" | "onConnected" | "onDisconnected">;
  readonly counters: Pick<NetworkCounters, "bytesSent" | "bytesReceived">;
  readonly log: LimitedLog;
}

/** One socket, from its opening to its end. */
interface Wire {
  readonly socket: TLSSocket;
  readonly reader: FrameReader;
  readonly openedByUs: boolean;
  phase: "greeting" | "open" | "ended";
  helloSent: boolean;
  dialNumber: number;
  nonce: Nonce;
  /** null: who it is has not been said yet. */
  peer: Peer | null;
}

interface Peer {
  readonly endpoint: Endpoint;
  readonly address: EndpointAddress;
  readonly queue: SendQueue;
  /** The connection, or the attempt to open one. null with `giveUp` set: an attempt that waits to be repeated. */
  wire: Wire | null;
  /** Ends an attempt. null: there is none. */
  giveUp: NodeJS.Timeout | null;
  retry: NodeJS.Timeout | null;
}

export class TlsTransport {
  readonly #options: TlsTransportOptions;
  readonly #peers = new Map<Endpoint, Peer>();
  readonly #taken = new Map<Endpoint, { readonly nonce: Nonce; readonly dialNumber: number }>();
  readonly #unflushed = new Set<Peer>();
  #flushScheduled = false;
  #dials = 0;
  #openCount = 0;
  #closed = false;

  constructor(options: TlsTransportOptions) {
    this.#options = options;
    options.listener.start((socket) => this.#watch(newWire(socket, false, 0, null)));
  }

  send(to: Endpoint, payload: Uint8Array): boolean {
    assert(payload.length <= messageBytesMax, `a message of ${payload.length} bytes, above ${messageBytesMax}`);
    if (this.#closed) return false;
    const peer = this.#peerOf(to);
    if (peer === null) {
      process.nextTick(() => this.#notifyDisconnected(to, "not an IPv4 address and port"));
      return true;
    }
    const waiting = this.queuedBytes(to);
    if (waiting > 0 && waiting + frameHeaderBytes + payload.length > queueBytesMax) return false;
    peer.queue.push(payload);
    if (peer.wire === null && peer.giveUp === null) this.#startDial(peer);
    else this.#flushLater(peer);
    return true;
  }

  queuedBytes(to: Endpoint): number {
    const peer = this.#peers.get(to);
    if (peer === undefined) return 0;
    return peer.queue.bytes + (peer.wire?.phase === "open" ? peer.wire.socket.writableLength : 0);
  }

  disconnect(endpoint: Endpoint): void {
    const peer = this.#peers.get(endpoint);
    if (peer === undefined || this.#closed) return;
    this.#forget(peer);
    // Not from within: the caller may be in the middle of a step.
    process.nextTick(() => this.#notifyDisconnected(endpoint, "disconnected by this engine"));
  }

  /** What is queued gets half a second to leave. No handler is called from now on. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const leaving: Promise<void>[] = [];
    for (const peer of this.#peers.values()) {
      stopTimers(peer);
      const { wire } = peer;
      if (wire === null) continue;
      if (wire.phase === "open") leaving.push(this.#leave(peer, wire.socket));
      else wire.socket.destroy();
    }
    await Promise.all(leaving);
    await this.#options.listener.close();
  }

  async #leave(peer: Peer, socket: TLSSocket): Promise<void> {
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    const tooLate = setTimeout(() => socket.destroy(), closeGraceMs);
    this.#flush(peer);
    if (peer.queue.bytes === 0) socket.end();
    await closed;
    clearTimeout(tooLate);
  }

  #peerOf(endpoint: Endpoint): Peer | null {
    const known = this.#peers.get(endpoint);
    if (known !== undefined) return known;
    const address = parseEndpoint(endpoint);
    if (address === null || endpoint === this.#options.endpoint) return null;
    const peer: Peer = { endpoint, address, queue: new SendQueue(), wire: null, giveUp: null, retry: null };
    this.#peers.set(endpoint, peer);
    return peer;
  }

  /** Ends whatever there is with the peer, without a word. */
  #forget(peer: Peer): void {
    stopTimers(peer);
    const { wire } = peer;
    peer.wire = null;
    peer.queue.clear();
    this.#peers.delete(peer.endpoint);
    this.#unflushed.delete(peer);
    if (wire !== null) this.#drop(wire);
  }

  #drop(wire: Wire): void {
    if (wire.phase === "open") this.#openCount--;
    wire.phase = "ended";
    wire.socket.destroy();
  }

  #notifyDisconnected(endpoint: Endpoint, reason: string): void {
    if (!this.#closed) this.#options.handlers.onDisconnected(endpoint, reason);
  }

  // Opening

  #startDial(peer: Peer): void {
    const fail = (): void => this.#fail(peer, `no connection within ${handshakeTimeoutMs} ms`);
    peer.giveUp = setTimeout(fail, handshakeTimeoutMs);
    this.#dial(peer);
  }

  #dial(peer: Peer): void {
    const { identity, interfaceAddress } = this.#options;
    const socket = connectTls(identity, peer.address, interfaceAddress);
    socket.setNoDelay(true);
    const wire = newWire(socket, true, ++this.#dials, peer);
    peer.wire = wire;
    this.#watch(wire);
    socket.once("secureConnect", () => {
      if (wire.phase !== "greeting") return;
      if (!provedKey(socket)) {
        this.#end(wire, "the peer has not proved this database's key");
        return;
      }
      wire.helloSent = true;
      this.#greet(wire, this.#hello(peer.endpoint, wire.dialNumber));
    });
  }

  #hello(to: Endpoint, dialNumber: number): Hello {
    const { clusterId, nonce, endpoint } = this.#options;
    const taken = this.#taken.get(to);
    const takenDial = { takenDialNumber: taken?.dialNumber ?? 0, takenDialNonce: taken?.nonce ?? 0 };
    return { kind: "hello", clusterId, nonce, endpoint, dialNumber, ...takenDial };
  }

  #greet(wire: Wire, greeting: Hello | { readonly kind: "refused"; readonly reason: RefusedReason }): void {
    wire.socket.write(framed(encodeGreeting(greeting, formatVersion)));
  }

  #fail(peer: Peer, reason: string): void {
    this.#forget(peer);
    this.#notifyDisconnected(peer.endpoint, reason);
  }

  // Receiving

  #watch(wire: Wire): void {
    const { socket } = wire;
    let failure: (Error & { code?: string }) | null = null;
    socket.on("error", (error) => {
      failure = error;
    });
    socket.on("data", (chunk: Buffer) => this.#onData(wire, chunk));
    socket.on("end", () => this.#end(wire, "the peer closed the connection"));
    socket.on("close", () => this.#end(wire, failure === null ? "the connection was closed" : reasonOf(failure)));
  }

  #onData(wire: Wire, chunk: Buffer): void {
    this.#options.counters.bytesReceived += chunk.length;
    wire.reader.append(chunk);
    while (wire.phase !== "ended" && !this.#closed) {
      const frame = this.#nextFrame(wire);
      if (frame === null) return;
      if (wire.phase === "greeting") this.#onGreeting(wire, frame);
      else if (wire.peer !== null) this.#options.handlers.onReliable(wire.peer.endpoint, wire.nonce, frame);
    }
  }

  #nextFrame(wire: Wire): Buffer | null {
    try {
      return wire.reader.next();
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.#end(wire, error.message);
      return null;
    }
  }

  #onGreeting(wire: Wire, frame: Buffer): void {
    const greeting = this.#readGreeting(wire, frame);
    if (greeting === null) return;
    if (greeting.kind === "hello" && greeting.clusterId === this.#options.clusterId) {
      if (wire.openedByUs) this.#onAnswer(wire, greeting);
      else this.#onHello(wire, greeting);
      return;
    }
    const told = greeting.kind === "refused" ? greeting.reason : greeting.kind === "hello" ? "other cluster" : "other version";
    if (told === "duplicate" && wire.openedByUs) {
      this.#dialAgain(wire);
      return;
    }
    const reason = refusalText(told, greeting);
    this.#options.log(told, `${nameOf(wire)}: ${reason}`);
    if (wire.openedByUs || greeting.kind === "refused") this.#end(wire, reason);
    else this.#refuse(wire, told);
  }

  #readGreeting(wire: Wire, frame: Buffer): Greeting | null {
    try {
      return decodeGreeting(frame, formatVersion);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.#end(wire, `greeting that cannot be read: ${error.message}`);
      return null;
    }
  }

  /** The answer to our HELLO: the connection is there. */
  #onAnswer(wire: Wire, hello: Hello): void {
    const { peer } = wire;
    if (peer === null || hello.endpoint !== peer.endpoint) {
      this.#end(wire, `the engine there calls itself ${hello.endpoint}`);
      return;
    }
    this.#open(wire, peer, hello);
    this.#options.handlers.onConnected(peer.endpoint, hello.nonce);
    this.#flush(peer);
  }

  #onHello(wire: Wire, hello: Hello): void {
    const peer = this.#peerOf(hello.endpoint);
    if (peer === null) {
      this.#end(wire, `${hello.endpoint} is no endpoint of a peer`);
      return;
    }
    const choice = chooseConnection(this.#options, heldOf(peer), hello);
    if (!choice.take) this.#refuse(wire, "duplicate");
    else if (this.#openCount >= connectionsMax && peer.wire?.phase !== "open") {
      if (peer.wire === null && peer.giveUp === null) this.#peers.delete(peer.endpoint);
      this.#options.log("connections", `more than ${connectionsMax} engines want connections`);
      this.#refuse(wire, "too many connections");
    } else this.#take(wire, peer, hello, choice.row);
  }

  /** What waits for our own attempt goes to the connection that came in; what waits for a former connection is lost with it. */
  #take(wire: Wire, peer: Peer, hello: Hello, row: string): void {
    const former = peer.wire;
    const formerWasOpen = former?.phase === "open";
    if (former !== null) this.#drop(former);
    if (formerWasOpen) peer.queue.clear();
    wire.dialNumber = hello.dialNumber;
    this.#remember(hello);
    this.#greet(wire, this.#hello(hello.endpoint, 0));
    // In force before the end of the former one is told: what is sent from within onDisconnected goes to this one.
    this.#open(wire, peer, hello);
    if (formerWasOpen) this.#notifyDisconnected(peer.endpoint, `another connection has replaced it (${row})`);
    if (peer.wire !== wire || this.#closed) return; // ended from within the handler
    this.#options.handlers.onConnected(peer.endpoint, hello.nonce);
    this.#flushLater(peer);
  }

  #open(wire: Wire, peer: Peer, hello: Hello): void {
    stopTimers(peer);
    wire.phase = "open";
    wire.nonce = hello.nonce;
    wire.peer = peer;
    wire.reader.bytesMax = messageBytesMax;
    peer.wire = wire;
    this.#openCount++;
    if (!wire.openedByUs) this.#options.listener.greeted(wire.socket);
  }

  #remember(hello: Hello): void {
    this.#taken.delete(hello.endpoint);
    this.#taken.set(hello.endpoint, { nonce: hello.nonce, dialNumber: hello.dialNumber });
    if (this.#taken.size <= takenMax) return;
    for (const oldest of this.#taken.keys()) {
      this.#taken.delete(oldest);
      return;
    }
  }

  // Ending

  #refuse(wire: Wire, reason: RefusedReason): void {
    wire.phase = "ended"; // its slot among the handshakes, and their time limit, hold until the socket has closed
    wire.socket.end(framed(encodeGreeting({ kind: "refused", reason }, formatVersion)));
  }

  /** Another connection with the peer is there or on its way: it comes in, or this is tried again. */
  #dialAgain(wire: Wire): void {
    const { peer } = wire;
    this.#drop(wire);
    if (peer === null || peer.wire !== wire) return;
    peer.wire = null;
    peer.retry = setTimeout(() => this.#dial(peer), duplicateRetryMs);
  }

  #end(wire: Wire, reason: string): void {
    if (wire.phase === "ended") return;
    this.#drop(wire);
    const { peer } = wire;
    if (wire.openedByUs && reason.startsWith(keyRefused)) this.#options.log("key", `${nameOf(wire)}: ${reason}`);
    if (peer === null || peer.wire !== wire) return;
    this.#fail(peer, reason);
  }

  // Sending

  #flushLater(peer: Peer): void {
    if (peer.wire?.phase !== "open") return;
    this.#unflushed.add(peer);
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    setImmediate(() => {
      this.#flushScheduled = false;
      for (const one of this.#unflushed) this.#flush(one);
      this.#unflushed.clear();
    });
  }

  #flush(peer: Peer): void {
    const { queue, wire } = peer;
    if (wire?.phase !== "open") return;
    const { socket } = wire;
    while (queue.bytes > 0 && socket.writableLength < writeAheadBytes && socket.writable) {
      const batch = queue.take(writeBytes);
      this.#options.counters.bytesSent += batch.length;
      socket.write(batch, () => this.#onWritten(peer));
    }
  }

  #onWritten(peer: Peer): void {
    if (peer.queue.bytes > 0) this.#flush(peer);
    if (this.#closed && peer.queue.bytes === 0) peer.wire?.socket.end();
  }
}

const keyRefused = "TLS was refused";

function newWire(socket: TLSSocket, openedByUs: boolean, dialNumber: number, peer: Peer | null): Wire {
  const reader = new FrameReader(greetingBytesMax);
  return { socket, reader, openedByUs, phase: "greeting", helloSent: false, dialNumber, nonce: 0 as Nonce, peer };
}

function heldOf(peer: Peer): Held {
  const { wire } = peer;
  if (wire === null) return { kind: "nothing" };
  const { dialNumber, helloSent, nonce, openedByUs } = wire;
  return wire.phase === "open" ? { kind: "connection", nonce, openedByUs, dialNumber } : { kind: "dial", dialNumber, helloSent };
}

function stopTimers(peer: Peer): void {
  if (peer.giveUp !== null) clearTimeout(peer.giveUp);
  if (peer.retry !== null) clearTimeout(peer.retry);
  peer.giveUp = null;
  peer.retry = null;
}

function framed(payload: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  frame.writeUInt32BE(payload.length);
  payload.copy(frame, frameHeaderBytes);
  return frame;
}

function nameOf(wire: Wire): string {
  return wire.peer?.endpoint ?? `${wire.socket.remoteAddress}:${wire.socket.remotePort}`;
}

function refusalText(reason: RefusedReason, greeting: Greeting): string {
  if (greeting.kind === "other version")
    return `speaks format version ${greeting.version}, this engine ${formatVersion}: run the same version everywhere`;
  if (greeting.kind === "hello") return `belongs to cluster ${greeting.clusterId}, not to this one`;
  return `refused this engine's connection: ${reason}`;
}

function reasonOf(error: Error & { code?: string }): string {
  const code = error.code ?? "";
  if (code === "ECONNREFUSED") return "nothing listens there";
  if (code === "ECONNRESET") return "the connection was reset";
  if (code.startsWith("ERR_SSL")) return `${keyRefused} (${code}): the key or the cluster id differs, or it is no engine`;
  return error.message;
}
