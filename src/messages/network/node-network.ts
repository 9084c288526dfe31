/**
 * The network of a real process: sealed UDP datagrams and TLS connections, on one port number. Pieces: sealing.ts (keys, replay),
 * udp-transport.ts, tls-transport.ts (tls-listener.ts, connection-choice.ts, hello.ts, frame-codec.ts).
 */
import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { assert, DatabaseError } from "../../base/errors.js";
import type { Endpoint } from "../../base/ids.js";
import type { DatagramFaults } from "./datagram-faults.js";
import { endpointAddress, endpointOf, parseEndpoint } from "./endpoint-address.js";
import { messageBytesMax, queueBytesMax } from "./frame-codec.js";
import { limitedLog, type NetworkLog } from "./limited-log.js";
import type { Network, NetworkCounters, NetworkHandlers, NetworkOptions } from "./network.js";
import { type RefusalReason, tlsKey } from "./sealing.js";
import { SelfDelivery } from "./self-delivery.js";
import { openTlsListener, type TlsListener } from "./tls-listener.js";
import { TlsTransport } from "./tls-transport.js";
import { datagramBytesMaxOf, openUdpTransport, type UdpTransport } from "./udp-transport.js";

/** Ports tried until one is free for UDP and TCP alike. */
const portAttemptsMax = 64;

export interface NodeNetworkOptions extends NetworkOptions {
  /** 0 or none: any that is free. */
  readonly port?: number;
  /** What an operator should know: refused peers, small buffers, no multicast. */
  readonly log?: NetworkLog;
  /** Of a datagram that was not opened: why, and from where. */
  readonly onRefused?: (reason: RefusalReason, from: Endpoint) => void;
  /** For tests. */
  readonly faults?: DatagramFaults;
  /** For tests; how often the multicast group is joined again. */
  readonly rejoinEveryMs?: number;
}

/** A nonce names one network of one process: a second use would repeat GCM nonces. Grows by one name per opened network. */
const usedNonces = new Set<string>();

/**
 * Handlers are called from the moment that the promise is settled to the call of `close`. Throws ATOMCAST_ADDRESS where the interface or the
 * port cannot be bound.
 */
export async function openNodeNetwork(options: NodeNetworkOptions): Promise<Network> {
  const name = `${options.clusterId}:${options.nonce}`;
  assert(!usedNonces.has(name), "a network's nonce must be new");
  const { address } = checkedInterface(options.interfaceAddress);
  usedNonces.add(name);
  const nowMs = (): number => performance.now();
  const log = limitedLog(options.log, nowMs);
  const identity = { clusterId: options.clusterId, key: tlsKey(options) };
  const state = { open: false };
  const handlers = guarded(options.handlers, state);
  const counters = { datagramsSent: 0, datagramsReceived: 0, bytesSent: 0, bytesReceived: 0, datagramsRefused: 0 };
  const { onDatagram } = handlers;
  const { listener, udp } = await bindBoth(
    (port) => openTlsListener(address, port, identity, log),
    (port) => openUdpTransport({ ...options, port, counters, log, nowMs, onDatagram }),
    options,
  ).catch((error: unknown) => {
    usedNonces.delete(name); // nothing was sent
    throw error;
  });
  const endpoint = endpointOf(address, listener.port);
  const { clusterId, nonce, interfaceAddress } = options;
  const tls = new TlsTransport({ clusterId, nonce, endpoint, interfaceAddress, identity, listener, handlers, counters, log });
  state.open = true;
  return networkOf(options, endpoint, udp, tls, handlers, counters, state);
}

function networkOf(
  options: NodeNetworkOptions,
  endpoint: Endpoint,
  udp: UdpTransport,
  tls: TlsTransport,
  handlers: NetworkHandlers,
  counters: Omit<NetworkCounters, "kernelDrops">,
  state: { open: boolean },
): Network {
  const datagramBytesMax = datagramBytesMaxOf(options.interfaceAddress);
  const self = new SelfDelivery(endpoint, options.nonce, handlers, { datagramBytesMax, messageBytesMax, queueBytesMax }, setImmediate);
  const allCounters = Object.defineProperty(counters, "kernelDrops", { get: () => udp.kernelDrops(), enumerable: true }) as NetworkCounters;
  return {
    endpoint,
    datagramBytesMax,
    counters: allCounters,
    sendDatagram(to, payload) {
      if (to === endpoint) self.sendDatagram(payload);
      else udp.send(to, payload);
    },
    hasMulticast: udp.hasMulticast,
    multicast: (payload) => udp.multicast(payload),
    sendReliable: (to, payload) => (to === endpoint ? state.open && self.sendReliable(payload) : tls.send(to, payload)),
    queuedBytes: (to) => (to === endpoint ? self.queuedBytes : tls.queuedBytes(to)),
    probe: (to, timeoutMs) => probeTcp(to, timeoutMs, options.interfaceAddress),
    disconnect: (to) => tls.disconnect(to),
    async close() {
      state.open = false;
      await Promise.all([udp.close(), tls.close()]);
    },
  };
}

function checkedInterface(address: string): { readonly address: string } {
  const parsed = endpointAddress(address, 0);
  const first = parsed?.bytes[0] ?? 0;
  if (parsed !== null && first !== 0 && first < 224) return parsed;
  throw new DatabaseError("ATOMCAST_ADDRESS", `${JSON.stringify(address)} is not the IPv4 address of an interface: name one, such as 127.0.0.1`);
}

/** Nothing is heard before the caller has the network, nor after its close. */
function guarded(handlers: NetworkHandlers, state: { readonly open: boolean }): NetworkHandlers {
  return {
    onDatagram: (from, nonce, payload, byMulticast) => state.open && handlers.onDatagram(from, nonce, payload, byMulticast),
    onReliable: (from, nonce, payload) => state.open && handlers.onReliable(from, nonce, payload),
    onConnected: (endpoint, nonce) => state.open && handlers.onConnected(endpoint, nonce),
    onDisconnected: (endpoint, reason) => state.open && handlers.onDisconnected(endpoint, reason),
  };
}

async function bindBoth(
  openListener: (port: number) => Promise<TlsListener>,
  openUdp: (port: number) => Promise<UdpTransport>,
  options: NodeNetworkOptions,
): Promise<{ listener: TlsListener; udp: UdpTransport }> {
  const wantedPort = options.port ?? 0;
  for (let attempt = 1; ; attempt++) {
    let listener: TlsListener | null = null;
    try {
      listener = await openListener(wantedPort);
      return { listener, udp: await openUdp(listener.port) };
    } catch (cause) {
      await listener?.close();
      const taken = cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE";
      if (taken && wantedPort === 0 && attempt < portAttemptsMax) continue;
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new DatabaseError("ATOMCAST_ADDRESS", `no port of ${options.interfaceAddress} could be opened: ${message}`, { cause });
    }
  }
}

/** A plain TCP connection: whether a process listens there, not whether it has the key. */
function probeTcp(endpoint: Endpoint, timeoutMs: number, localAddress: string): Promise<boolean> {
  const to = parseEndpoint(endpoint);
  if (to === null) return Promise.resolve(false);
  return new Promise((resolve) => {
    const socket = connect({ host: to.address, port: to.port, localAddress });
    const settle = (reached: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reached);
    };
    const timer = setTimeout(settle, timeoutMs, false);
    socket.once("connect", () => settle(true));
    socket.on("error", () => settle(false));
  });
}
