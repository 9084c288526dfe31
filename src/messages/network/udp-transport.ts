/**
 * Sealed datagrams on two UDP sockets. One, bound to the engine's endpoint, sends everything (multicast too), so that the source address of
 * every datagram is the endpoint of who sent it, and receives unicast. The other receives the group's multicast. On loopback the time to
 * live is 0: nothing leaves the machine.
 *
 * Everything here is best effort: a datagram that cannot be sent is a lost datagram, told in the log and repaired above.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { assert } from "../../base/errors.js";
import type { Endpoint, Nonce } from "../../base/ids.js";
import { loopbackFrameBytesMax, networkFrameBytesMax } from "../../base/limits.js";
import type { DatagramFaults } from "./datagram-faults.js";
import { type EndpointAddress, endpointAddress, endpointOf, isLoopback, parseEndpoint } from "./endpoint-address.js";
import { type GroupMembership, joinGroup, keepMembership, rejoinEveryMs } from "./group-membership.js";
import { kernelDrops } from "./kernel-drops.js";
import type { LimitedLog } from "./limited-log.js";
import type { NetworkCounters, NetworkOptions } from "./network.js";
import { type Channel, clusterOf, createOpener, createSealer, type RefusalReason, sealedOverheadBytes } from "./sealing.js";

/** Asked of the system for each socket, in bytes (design.md §4): some 40 ms of a full stream while the event loop is busy. */
export const socketBufferBytes = 4 * 1024 * 1024;

/** Waiting in the process because the system's send buffer is full, in bytes; beyond, datagrams are dropped like in any full queue. */
const sendQueueBytesMax = 4 * 1024 * 1024;

/** Destinations whose parsed form is kept; all are forgotten at once beyond. */
const destinationsMax = 4096;

/** Hops of multicast on a network: the segment and no further; other segments are the relays' work. */
const segmentTtl = 1;

export interface UdpTransportOptions extends Omit<NetworkOptions, "handlers"> {
  readonly port: number;
  readonly onDatagram: (from: Endpoint, nonce: Nonce, payload: Buffer, byMulticast: boolean) => void;
  readonly counters: Omit<NetworkCounters, "kernelDrops">;
  readonly log: LimitedLog;
  readonly onRefused?: (reason: RefusalReason, from: Endpoint) => void;
  readonly nowMs: () => number;
  readonly faults?: DatagramFaults;
  readonly rejoinEveryMs?: number;
}

export interface UdpTransport {
  readonly hasMulticast: boolean;
  send(to: Endpoint, payload: Uint8Array): void;
  multicast(payload: Uint8Array): void;
  kernelDrops(): number;
  close(): Promise<void>;
}

export function datagramBytesMaxOf(interfaceAddress: string): number {
  return isLoopback(interfaceAddress) ? loopbackFrameBytesMax : networkFrameBytesMax;
}

/** Rejects (EADDRINUSE, EADDRNOTAVAIL) where the endpoint cannot be bound. Without multicast it opens all the same, and says so. */
export async function openUdpTransport(options: UdpTransportOptions): Promise<UdpTransport> {
  const self = endpointAddress(options.interfaceAddress, options.port);
  const group = endpointAddress(options.groupAddress, options.groupPort);
  assert(self !== null && group !== null, "the interface and the group must be IPv4 addresses");
  const unicast = newSocket();
  try {
    await bind(unicast, { address: self.address, port: self.port, exclusive: true }, options.log);
  } catch (error) {
    await closeSocket(unicast);
    throw error;
  }
  const membership = options.multicast === false ? null : await openGroupSocket(unicast, self, group, options.log);
  const sockets = membership === null ? [unicast] : [unicast, membership.receiver];
  for (const socket of sockets) askForBuffers(socket, options.log);
  listen(unicast, "unicast", self, group, options);
  if (membership === null) return transport(sockets, unicast, self, group, () => {}, options);
  listen(membership.receiver, "multicast", self, group, options);
  const leave = keepMembership(membership, options.rejoinEveryMs ?? rejoinEveryMs, options.log);
  return transport(sockets, unicast, self, group, leave, options);
}

function transport(
  sockets: readonly Socket[],
  unicast: Socket,
  self: EndpointAddress,
  group: EndpointAddress,
  onClose: () => void,
  options: UdpTransportOptions,
): UdpTransport {
  const { counters, log } = options;
  const datagramBytesMax = datagramBytesMaxOf(options.interfaceAddress);
  const sealer = createSealer(options, self.bytes);
  const destinations = new Map<Endpoint, EndpointAddress>();
  const drops = kernelDrops([self, group], options.nowMs);
  let closed = false;

  function destinationOf(to: Endpoint): EndpointAddress | null {
    const known = destinations.get(to);
    if (known !== undefined) return known;
    const parsed = parseEndpoint(to);
    if (parsed === null) return null;
    if (destinations.size >= destinationsMax) destinations.clear();
    destinations.set(to, parsed);
    return parsed;
  }

  const onSent = (error: Error | null): void => {
    if (error !== null && !closed) log("send", `a datagram was not sent: ${error.message}`);
  };

  function transmit(channel: Channel, to: EndpointAddress, payload: Uint8Array): void {
    assert(payload.length <= datagramBytesMax, `a datagram of ${payload.length} bytes, above ${datagramBytesMax}`);
    if (closed) return;
    if (unicast.getSendQueueSize() > sendQueueBytesMax) {
      log("send queue", "datagrams are dropped: the system does not take them as fast as they are made");
      return;
    }
    const sealed = sealer.seal(channel, to.bytes, payload);
    counters.datagramsSent++;
    counters.bytesSent += sealed.length;
    unicast.send(sealed, to.port, to.address, onSent);
  }

  return {
    send(to, payload) {
      const destination = destinationOf(to);
      if (destination === null) log("endpoint", `no datagram can be sent to ${JSON.stringify(to)}: not an IPv4 address and port`);
      else transmit("unicast", destination, payload);
    },
    hasMulticast: sockets.length > 1,
    multicast(payload) {
      if (sockets.length > 1) transmit("multicast", group, payload);
    },
    kernelDrops: () => drops.latest(),
    async close() {
      if (closed) return;
      closed = true;
      onClose();
      await Promise.all(sockets.map(closeSocket));
    },
  };
}

/** Addresses here are numbers already: without this, node asks its resolver (and waits a turn) for each datagram. */
function newSocket(reuseAddr = false): Socket {
  return createSocket({ type: "udp4", reuseAddr, lookup: (hostname, _options, callback) => callback(null, hostname, 4) });
}

async function bind(socket: Socket, to: { address: string; port: number; exclusive: boolean }, log: LimitedLog): Promise<void> {
  const listening = once(socket, "listening"); // rejects at "error"
  socket.bind(to);
  await listening;
  socket.on("error", (error) => log("socket", `UDP socket of ${to.address}:${to.port}: ${error.message}`));
}

async function closeSocket(socket: Socket): Promise<void> {
  await new Promise<void>((resolve) => socket.close(() => resolve()));
}

/** null: there is no multicast here (most clouds, some containers). */
async function openGroupSocket(sender: Socket, self: EndpointAddress, group: EndpointAddress, log: LimitedLog): Promise<GroupMembership | null> {
  const loopback = isLoopback(self.address);
  const interfaceAddress = loopback ? "127.0.0.1" : self.address;
  const receiver = newSocket(true);
  const membership = { sender, receiver, groupAddress: group.address, interfaceAddress };
  try {
    sender.setMulticastTTL(loopback ? 0 : segmentTtl);
    sender.setMulticastLoopback(true); // engines of one machine hear each other
    // Bound to the group's address, Linux and the BSDs deliver this group only; Windows binds to no multicast address.
    const address = process.platform === "win32" ? "0.0.0.0" : group.address;
    await bind(receiver, { address, port: group.port, exclusive: false }, log);
    joinGroup(membership);
    return membership;
  } catch (error) {
    await closeSocket(receiver);
    const message = error instanceof Error ? error.message : String(error);
    log("multicast", `no multicast on ${self.address} (group ${group.address}:${group.port}): ${message}`);
    return null;
  }
}

function askForBuffers(socket: Socket, log: LimitedLog): void {
  try {
    socket.setRecvBufferSize(socketBufferBytes);
    socket.setSendBufferSize(socketBufferBytes);
  } catch {
    // Some systems refuse what they will not grant; what counts is checked below.
  }
  // Linux doubles what was asked, for its own bookkeeping, and answers with the double.
  const share = process.platform === "linux" ? 2 : 1;
  const receive = socket.getRecvBufferSize() / share;
  const send = socket.getSendBufferSize() / share;
  if (receive < socketBufferBytes) log("receive buffer", tooSmall("receive", receive, "net.core.rmem_max"));
  if (send < socketBufferBytes) log("send buffer", tooSmall("send", send, "net.core.wmem_max"));
}

function tooSmall(which: string, bytes: number, setting: string): string {
  const asked = socketBufferBytes / 1024;
  return `the system gives UDP ${which} buffers of ${Math.floor(bytes / 1024)} KiB where ${asked} KiB were asked for: bursts will be lost and repaired, which costs speed. Raise it with: sysctl -w ${setting}=${socketBufferBytes}`;
}

/** Other databases in the group that are told of, each once. */
const strangersMax = 16;

const refusalLines: Partial<Record<RefusalReason, string>> = {
  "other version": "sends datagrams of another format version than this engine's: engines of one database must run the same version",
  forged: "sends datagrams that this database's key does not open: is another key in use there?",
};

function listen(socket: Socket, channel: Channel, self: EndpointAddress, group: EndpointAddress, options: UdpTransportOptions): void {
  const { counters, log, faults, onDatagram } = options;
  // A window per socket is a window per channel, since each socket takes only its own channel's datagrams.
  const opener = createOpener(options, { unicast: self.bytes, multicast: group.bytes });
  const bytesMax = sealedOverheadBytes + datagramBytesMaxOf(options.interfaceAddress);
  const strangers = new Set<string>();
  const deliver = faults === undefined ? onDatagram : withFaults(faults, onDatagram);
  socket.on("message", (datagram, source) => {
    if (datagram.length > bytesMax) {
      counters.datagramsRefused++;
      return;
    }
    const opened = opener.open(datagram, channel, source.address, source.port);
    if (opened.kind === "own") return;
    if (opened.kind === "refused") {
      counters.datagramsRefused++;
      options.onRefused?.(opened.reason, endpointOf(source.address, source.port));
      const line = refusalLines[opened.reason];
      if (line !== undefined) log(opened.reason, `${source.address}:${source.port} ${line}`);
      if (opened.reason !== "other cluster" || channel !== "multicast" || !isNewStranger(strangers, clusterOf(datagram))) return;
      const told = `another database (${clusterOf(datagram)}) uses this multicast group, from ${source.address} among others: two of one name? They do each other no harm`;
      log("other database", `${told}; another --database or --group spares each the other's datagrams`);
      return;
    }
    counters.datagramsReceived++;
    counters.bytesReceived += datagram.length;
    deliver(opened.from, opened.nonce, opened.payload, channel === "multicast");
  });
}

/** Two databases of one name use one group, if nobody says otherwise. */
function isNewStranger(strangers: Set<string>, cluster: string): boolean {
  if (strangers.has(cluster) || strangers.size >= strangersMax) return false;
  strangers.add(cluster);
  return true;
}

function withFaults(faults: DatagramFaults, onDatagram: UdpTransportOptions["onDatagram"]): UdpTransportOptions["onDatagram"] {
  return (from, nonce, payload, byMulticast) => {
    if (faults.drop(payload, from)) return;
    const times = faults.duplicate?.(payload, from) === true ? 2 : 1;
    for (let time = 0; time < times; time++) {
      const delayMs = faults.delayMs?.(payload, from) ?? 0;
      if (delayMs > 0) setTimeout(onDatagram, delayMs, from, nonce, payload, byMulticast).unref();
      else onDatagram(from, nonce, payload, byMulticast);
    }
  };
}
