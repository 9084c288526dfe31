/**
 * TLS 1.3 by the database's key alone (design.md §10): no certificates. ChaCha20-Poly1305 is pinned, because a pre-shared key in node is bound to
 * SHA-256, which AES-256-GCM-SHA384 cannot use.
 */
import type { Socket } from "node:net";
import { type ConnectionOptions, createServer, type Server, type TLSSocket, connect as tlsConnect } from "node:tls";
import type { ClusterId } from "../../base/ids.js";
import type { EndpointAddress } from "./endpoint-address.js";

/** From the first byte of a connection to its HELLO, in milliseconds; then it is closed. */
export const handshakeTimeoutMs = 5000;

export interface TlsIdentity {
  readonly clusterId: ClusterId;
  /** From sealing.ts's `tlsKey`. */
  readonly key: Buffer;
}

const common = { ciphers: "TLS_CHACHA20_POLY1305_SHA256", minVersion: "TLSv1.3", maxVersion: "TLSv1.3" } as const;

export function connectTls(identity: TlsIdentity, to: EndpointAddress, localAddress: string): TLSSocket {
  const options: ConnectionOptions & { localAddress: string } = {
    ...common,
    host: to.address,
    port: to.port,
    localAddress,
    rejectUnauthorized: true,
    pskCallback: () => ({ psk: identity.key, identity: identity.clusterId }),
    // Asked only where the peer showed a certificate instead of the key. One from a public authority would otherwise do.
    checkServerIdentity: () => new Error("the peer has a certificate instead of this database's key"),
  };
  return tlsConnect(options);
}

/** Whether the key was used. A handshake with a pre-shared key counts as a resumed session. */
export function provedKey(socket: TLSSocket): boolean {
  return socket.isSessionReused();
}

export interface TlsAcceptor {
  /** Gives it a TCP connection that has come in. */
  accept(socket: Socket): void;
}

export interface TlsAcceptorHandlers {
  onSecure(socket: TLSSocket): void;
  /** The other side has not proved the key. `code`: OpenSSL's or the system's, such as ECONNRESET. */
  onRefused(remote: string, code: string): void;
  onOtherIdentity(remote: string, identity: string): void;
}

/** A TLS server that listens to nothing itself, so that connections can be counted before they cost a handshake. */
export function createTlsAcceptor(identity: TlsIdentity, handlers: TlsAcceptorHandlers): TlsAcceptor {
  const server: Server = createServer({
    ...common,
    handshakeTimeout: handshakeTimeoutMs,
    pskCallback: (socket, claimed) => {
      if (claimed === identity.clusterId) return identity.key;
      handlers.onOtherIdentity(String(socket.remoteAddress), claimed);
      return null;
    },
  });
  server.on("secureConnection", (socket) => handlers.onSecure(socket));
  server.on("tlsClientError", (error: Error & { code?: string }, socket) => {
    handlers.onRefused(String(socket.remoteAddress), error.code ?? error.message);
    socket.destroy();
  });
  return {
    accept(socket) {
      server.emit("connection", socket);
    },
  };
}
