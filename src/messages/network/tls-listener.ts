/** Connections that come in, until they have proved the key: few at a time, and not for long. */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { LimitedLog } from "./limited-log.js";
import { createTlsAcceptor, handshakeTimeoutMs, type TlsIdentity } from "./tls-sockets.js";

/** Connections that have not been greeted yet; further ones are closed at once, and their owners try again. */
export const handshakesMax = 256;

export interface TlsListener {
  readonly port: number;
  /** From now on connections are taken; before, they are closed. */
  start(onSecure: (socket: TLSSocket) => void): void;
  /** The connection has said its HELLO: the time limit is off. */
  greeted(socket: TLSSocket): void;
  close(): Promise<void>;
}

/** `port` 0: the system chooses. Rejects (EADDRINUSE, EADDRNOTAVAIL) where it cannot be bound. */
export async function openTlsListener(address: string, port: number, identity: TlsIdentity, log: LimitedLog): Promise<TlsListener> {
  let onSecure: ((socket: TLSSocket) => void) | null = null;
  const sockets = new Set<Socket>();
  const handshakes = new Map<string, NodeJS.Timeout>();
  const acceptor = createTlsAcceptor(identity, {
    onSecure: (socket) => {
      if (onSecure === null) socket.destroy();
      else onSecure(socket);
    },
    onRefused: (remote, code) => {
      if (code.startsWith("ERR_SSL")) log("refused", `a connection from ${remote} has not proved this database's key (${code})`);
    },
    onOtherIdentity: (remote, claimed) =>
      log("other cluster", `${remote} wants to join cluster ${JSON.stringify(claimed.slice(0, 16))}, not this one`),
  });

  function endHandshake(name: string): void {
    clearTimeout(handshakes.get(name));
    handshakes.delete(name);
  }

  const server = createServer({ noDelay: true }, (socket) => {
    const name = remoteName(socket);
    socket.on("error", () => socket.destroy());
    if (onSecure === null || name === null || handshakes.size >= handshakesMax) {
      if (handshakes.size >= handshakesMax) log("handshakes", `more than ${handshakesMax} connections have not proved this database's key`);
      socket.destroy();
      return;
    }
    sockets.add(socket);
    handshakes.set(
      name,
      setTimeout(() => socket.destroy(), handshakeTimeoutMs),
    );
    socket.on("close", () => {
      sockets.delete(socket);
      endHandshake(name);
    });
    acceptor.accept(socket);
  });
  await listen(server, address, port);
  server.on("error", (error) => log("listener", `TCP listener of ${address}: ${error.message}`));
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === "object" ? bound.port : port,
    start(handler) {
      onSecure = handler;
    },
    greeted(socket) {
      const name = remoteName(socket);
      if (name !== null) endHandshake(name);
    },
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function listen(server: Server, address: string, port: number): Promise<void> {
  const listening = once(server, "listening"); // rejects at "error"
  server.listen({ host: address, port, exclusive: true });
  await listening;
}

/** The other end's address and port: one connection has it at a time. null: the connection has ended already. */
function remoteName(socket: Socket): string | null {
  return socket.remoteAddress === undefined ? null : `${socket.remoteAddress}:${socket.remotePort}`;
}
