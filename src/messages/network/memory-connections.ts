/**
 * Connections of the memory fabric. Each process sees at most one per peer; the two ends of one may see it begin and end at different times,
 * as they do in life. A connection is in one of these states, and `#progress` is the only way on:
 *
 * | state     | waits for                                       | then                                                       |
 * |-----------|-------------------------------------------------|------------------------------------------------------------|
 * | knocking  | the way there uncut, the peer there and awake   | the peer has it open → answering; no peer → told as refused |
 * | answering | the way back uncut, the opener awake            | the opener has it open → open                              |
 * | open      |                                                 |                                                            |
 * | leaving   | one end has gone; the way to the other uncut    | the other is told → ended                                  |
 * | ended     |                                                 |                                                            |
 */
import type { Endpoint } from "../../base/ids.js";
import type { FabricConditions, MemoryProcess } from "./memory-fabric-types.js";

export interface ConnectionsHost {
  conditions(): FabricConditions;
  delayMs(): number;
  nowMs(): number;
  after(delayMs: number, act: () => void): void;
  isCut(from: Endpoint, to: Endpoint): boolean;
  /** The living process there. */
  process(endpoint: Endpoint): MemoryProcess | null;
}

interface Message {
  readonly atMs: number;
  readonly payload: Buffer;
}

interface End {
  readonly endpoint: Endpoint;
  /** null: nobody there knows of it yet. */
  process: MemoryProcess | null;
  /** Its process has been told that it is connected. */
  open: boolean;
  /** Its process has gone, or has disconnected: nothing reaches it any more. */
  left: boolean;
  /** What it has sent and the other end has not received. Arrives in order. */
  readonly outgoing: Message[];
  /** Sent before it was open. */
  readonly waiting: Buffer[];
  outgoingBytes: number;
  lastAtMs: number;
}

interface Connection {
  readonly opener: End;
  readonly acceptor: End;
  state: "knocking" | "answering" | "open" | "leaving" | "ended";
  /** Why, once it leaves. */
  reason: string;
}

export class MemoryConnections {
  readonly #host: ConnectionsHost;
  /** What the process at the first endpoint has for the second. */
  readonly #views = new Map<string, Connection>();
  readonly #all = new Set<Connection>();

  constructor(host: ConnectionsHost) {
    this.#host = host;
  }

  send(process: MemoryProcess, to: Endpoint, payload: Uint8Array, queueBytesMax: number): boolean {
    const from = process.options.endpoint;
    const waiting = this.queuedBytes(from, to);
    if (waiting > 0 && waiting + payload.length > queueBytesMax) return false;
    const connection = this.#views.get(viewName(from, to)) ?? this.#join(process, to) ?? this.#create(process, to);
    const { near } = ends(connection, from);
    const copy = Buffer.from(payload);
    near.outgoingBytes += copy.length;
    if (near.open) this.#depart(connection, near, copy);
    else near.waiting.push(copy);
    return true;
  }

  queuedBytes(from: Endpoint, to: Endpoint): number {
    const connection = this.#views.get(viewName(from, to));
    return connection === undefined ? 0 : ends(connection, from).near.outgoingBytes;
  }

  disconnect(process: MemoryProcess, to: Endpoint): void {
    const from = process.options.endpoint;
    const connection = this.#views.get(viewName(from, to));
    if (connection === undefined || !process.alive) return;
    const { near } = ends(connection, from);
    this.#host.after(0, () => tell(process, () => process.options.handlers.onDisconnected(to, "disconnected by this engine")));
    this.#leave(connection, near);
  }

  /** The process there has been killed or closed. */
  onGone(endpoint: Endpoint): void {
    for (const connection of [...this.#all]) {
      const { near } = ends(connection, endpoint);
      if (near.endpoint === endpoint && near.process !== null && !near.process.alive && !near.left) this.#leave(connection, near);
    }
  }

  onHeal(from: Endpoint, to: Endpoint): void {
    for (const connection of this.#all) {
      if (!isOf(connection, from) || !isOf(connection, to)) continue;
      this.#host.after(this.#host.delayMs(), () => this.#progress(connection));
    }
  }

  onResume(endpoint: Endpoint): void {
    for (const connection of this.#all) {
      if (isOf(connection, endpoint)) this.#host.after(0, () => this.#progress(connection));
    }
  }

  breakPair(from: Endpoint, to: Endpoint, reason: string): void {
    for (const connection of [...this.#all]) {
      if (isOf(connection, from) && isOf(connection, to)) this.#end(connection, reason);
    }
  }

  // Opening

  /** The peer is opening one already, and has not reached this side yet. */
  #join(process: MemoryProcess, to: Endpoint): Connection | null {
    const from = process.options.endpoint;
    const theirs = this.#views.get(viewName(to, from));
    if (theirs?.state !== "knocking") return null;
    theirs.acceptor.process = process;
    this.#views.set(viewName(from, to), theirs);
    return theirs;
  }

  #create(process: MemoryProcess, to: Endpoint): Connection {
    const from = process.options.endpoint;
    const connection: Connection = { opener: newEnd(from, process), acceptor: newEnd(to, null), state: "knocking", reason: "" };
    this.#all.add(connection);
    this.#views.set(viewName(from, to), connection);
    const { openTimeoutMs } = this.#host.conditions();
    this.#host.after(this.#host.delayMs(), () => this.#progress(connection));
    this.#host.after(openTimeoutMs, () => {
      if (!connection.opener.open) this.#end(connection, `no connection within ${openTimeoutMs} ms`);
    });
    return connection;
  }

  #progress(connection: Connection): void {
    const { opener, acceptor } = connection;
    switch (connection.state) {
      case "knocking":
        if (!this.#host.isCut(opener.endpoint, acceptor.endpoint)) this.#knock(connection);
        break;
      case "answering":
        if (!this.#host.isCut(acceptor.endpoint, opener.endpoint) && opener.process?.paused === false) this.#answer(connection, opener.process);
        break;
      case "leaving":
        if (!this.#isCutFromGone(connection)) this.#end(connection, connection.reason);
        break;
      case "open":
      case "ended":
        break;
    }
    this.#deliver(connection, opener, acceptor);
    this.#deliver(connection, acceptor, opener);
  }

  #knock(connection: Connection): void {
    const { opener, acceptor } = connection;
    const process = this.#host.process(acceptor.endpoint);
    const caller = opener.process;
    if (caller === null || process?.paused === true) return;
    if (process === null || !knowEachOther(process, caller)) {
      const reason = process === null ? "nothing listens there" : "the key or the cluster id differs";
      this.#host.after(this.#host.delayMs(), () => {
        if (connection.state === "knocking" && !this.#host.isCut(acceptor.endpoint, opener.endpoint)) this.#end(connection, reason);
      });
      return;
    }
    const former = this.#views.get(viewName(acceptor.endpoint, opener.endpoint));
    if (former !== undefined && former !== connection) this.#end(former, "another connection has replaced it");
    if (connection.state !== "knocking" || !process.alive) return; // changed from within the handler
    connection.state = "answering";
    acceptor.process = process;
    this.#views.set(viewName(acceptor.endpoint, opener.endpoint), connection);
    this.#host.after(this.#host.delayMs(), () => this.#progress(connection));
    this.#announce(connection, acceptor, process, caller);
  }

  #answer(connection: Connection, process: MemoryProcess): void {
    const { opener, acceptor } = connection;
    connection.state = "open";
    if (acceptor.process !== null) this.#announce(connection, opener, process, acceptor.process);
  }

  #announce(connection: Connection, end: End, process: MemoryProcess, peer: MemoryProcess): void {
    end.open = true;
    process.options.handlers.onConnected(peer.options.endpoint, peer.options.nonce);
    for (const payload of end.waiting.splice(0)) this.#depart(connection, end, payload);
  }

  // Messages

  #depart(connection: Connection, sender: End, payload: Buffer): void {
    const atMs = Math.max(sender.lastAtMs, this.#host.nowMs() + this.#host.delayMs());
    sender.lastAtMs = atMs;
    sender.outgoing.push({ atMs, payload });
    const bytes = payload.length;
    if (sender.process !== null) sender.process.counters.bytesSent += bytes;
    const { opener, acceptor } = connection;
    const receiver = sender === opener ? acceptor : opener;
    this.#host.after(atMs - this.#host.nowMs(), () => this.#deliver(connection, sender, receiver));
  }

  #deliver(connection: Connection, sender: End, receiver: End): void {
    for (;;) {
      const { process } = receiver;
      const message = sender.outgoing[0];
      if (message === undefined || message.atMs > this.#host.nowMs()) return;
      if (connection.state === "ended" || process === null || !receiver.open || receiver.left || process.paused) return;
      if (this.#host.isCut(sender.endpoint, receiver.endpoint) || sender.process === null) return;
      sender.outgoing.shift();
      sender.outgoingBytes -= message.payload.length;
      process.counters.bytesReceived += message.payload.length;
      process.options.handlers.onReliable(sender.endpoint, sender.process.options.nonce, message.payload);
    }
  }

  // Ending

  #leave(connection: Connection, end: End): void {
    const { near, far } = ends(connection, end.endpoint);
    near.left = true;
    this.#views.delete(viewName(near.endpoint, far.endpoint));
    if (connection.state === "ended") return;
    connection.state = "leaving";
    connection.reason = "the peer closed the connection";
    if (far.left || far.process === null) this.#end(connection, connection.reason);
    else this.#host.after(this.#host.delayMs(), () => this.#progress(connection));
  }

  #isCutFromGone(connection: Connection): boolean {
    const { opener, acceptor } = connection;
    return opener.left ? this.#host.isCut(opener.endpoint, acceptor.endpoint) : this.#host.isCut(acceptor.endpoint, opener.endpoint);
  }

  /** What was in flight is lost; each process that has it, or waits for it, is told. */
  #end(connection: Connection, reason: string): void {
    if (connection.state === "ended") return;
    connection.state = "ended";
    this.#all.delete(connection);
    for (const [end, peer] of [
      [connection.opener, connection.acceptor],
      [connection.acceptor, connection.opener],
    ] as const) {
      const { process } = end;
      if (end.left || process === null) continue;
      const name = viewName(end.endpoint, peer.endpoint);
      if (this.#views.get(name) === connection) this.#views.delete(name);
      tell(process, () => process.options.handlers.onDisconnected(peer.endpoint, reason));
    }
  }
}

/** A paused process learns of it when it goes on. */
function tell(process: MemoryProcess, say: () => void): void {
  if (!process.alive) return;
  if (process.paused) process.kept.push(() => tell(process, say));
  else say();
}

function knowEachOther(left: MemoryProcess, right: MemoryProcess): boolean {
  return left.options.clusterId === right.options.clusterId && left.options.secret.equals(right.options.secret);
}

function newEnd(endpoint: Endpoint, process: MemoryProcess | null): End {
  return { endpoint, process, open: false, left: false, outgoing: [], waiting: [], outgoingBytes: 0, lastAtMs: 0 };
}

function isOf(connection: Connection, endpoint: Endpoint): boolean {
  return connection.opener.endpoint === endpoint || connection.acceptor.endpoint === endpoint;
}

/** `near`: the end at that endpoint (the acceptor's where it is neither). */
function ends(connection: Connection, endpoint: Endpoint): { readonly near: End; readonly far: End } {
  const { opener, acceptor } = connection;
  return opener.endpoint === endpoint ? { near: opener, far: acceptor } : { near: acceptor, far: opener };
}

function viewName(from: Endpoint, to: Endpoint): string {
  return `${from}>${to}`;
}
