/**
 * Datagrams sealed with the database's key (design.md §10).
 *
 * A sealed datagram is a header in clear {magic, format version, channel, cluster id, sender's nonce, counter}, the payload under
 * AES-256-GCM, and the tag. Each process seals with a key of its own: HKDF-SHA256(secret, salt = cluster id, info = "atomcast udp v1" and the
 * process's nonce). The GCM nonce is the channel and a counter from 0, so under one key none is used twice as long as a process's
 * nonce names one sealer only (node-network.ts asserts it).
 *
 * Authenticated with the header, and not sent, are the source and the destination: a datagram that was meant for one engine cannot be
 * replayed to another (a vote, say), nor be passed off as coming from another endpoint.
 *
 * Unicast and multicast count apart, and have windows of their own: they arrive on two sockets, and a full buffer of one may hold more
 * datagrams than the window does while the other is read.
 *
 * What it does not do: a process that has just started accepts, once, what was recorded for its endpoint and group before. Terms, seqs and
 * engine ids above make that harmless; a duplicate is what any network may deliver.
 *
 * Without the key nothing behind the header is looked at, and nothing is answered.
 */
import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import { assert } from "../../base/errors.js";
import type { ClusterId, Endpoint, Nonce } from "../../base/ids.js";
import { ReplayWindow } from "../../base/replay-window.js";
import { formatVersion } from "../wire/entry.js";
import { endpointAddress, endpointOf } from "./endpoint-address.js";

export type Channel = "unicast" | "multicast";

const headerBytes = 24;
const tagBytes = 16;
export const sealedOverheadBytes = headerBytes + tagBytes;

const magic = 0x4143; // "AC"
const offsets = { magic: 0, version: 2, channel: 3, cluster: 4, nonce: 12, counter: 18 } as const;
const channelNumbers: Record<Channel, number> = { unicast: 0, multicast: 1 };
const addressBytes = 6;
const counterMax = 2 ** 48 - 1;

/** Processes whose keys and replay windows are kept, least recently heard forgotten first: more than any cluster has engines. */
export const sendersMax = 1024;

export interface SealingIdentity {
  readonly clusterId: ClusterId;
  readonly secret: Uint8Array;
  /** Names this process. */
  readonly nonce: Nonce;
}

export interface Sealer {
  /** `destination` as 6 bytes: the peer's endpoint, or the group's address and port. */
  seal(channel: Channel, destination: Uint8Array, payload: Uint8Array): Buffer;
}

/** `source`: this process's endpoint as 6 bytes. `version` is another one in tests only. */
export function createSealer(identity: SealingIdentity, source: Uint8Array, version = formatVersion): Sealer {
  const key = processKey(identity, identity.nonce);
  const template = Buffer.alloc(headerBytes);
  template.writeUInt16BE(magic, offsets.magic);
  template.writeUInt8(version, offsets.version);
  template.write(identity.clusterId, offsets.cluster, "hex");
  template.writeUIntBE(identity.nonce, offsets.nonce, 6);
  const counters: Record<Channel, number> = { unicast: 0, multicast: 0 };
  const associated = Buffer.alloc(headerBytes + 2 * addressBytes);
  const gcmNonce = Buffer.alloc(12);
  associated.set(source, headerBytes);
  return {
    seal(channel, destination, payload) {
      const counter = counters[channel]++;
      assert(counter <= counterMax, "the counter of sealed datagrams has run out");
      const sealed = Buffer.allocUnsafe(sealedOverheadBytes + payload.length);
      sealed.set(template);
      sealed[offsets.channel] = channelNumbers[channel];
      sealed.writeUIntBE(counter, offsets.counter, 6);
      writeGcmNonce(gcmNonce, sealed);
      sealed.copy(associated, 0, 0, headerBytes);
      associated.set(destination, headerBytes + addressBytes);
      const cipher = createCipheriv("aes-256-gcm", key, gcmNonce, { authTagLength: tagBytes });
      cipher.setAAD(associated);
      sealed.set(cipher.update(payload), headerBytes);
      cipher.final();
      sealed.set(cipher.getAuthTag(), headerBytes + payload.length);
      return sealed;
    },
  };
}

export type RefusalReason =
  | "short"
  | "not ours"
  /** Told apart so that an operator learns of a mixed upgrade. */
  | "other version"
  | "other cluster"
  | "wrong channel"
  | "replayed"
  /** The tag does not fit: another key, changed on the way, for another engine, or from another endpoint than the sender's. */
  | "forged";

export type Opened =
  | { readonly kind: "opened"; readonly from: Endpoint; readonly nonce: Nonce; readonly payload: Buffer }
  /** This process's own multicast. */
  | { readonly kind: "own" }
  | { readonly kind: "refused"; readonly reason: RefusalReason };

export interface Opener {
  /** `channel`: of the socket that it came in by; `address` and `port`: whom the system names as its source. */
  open(datagram: Buffer, channel: Channel, address: string, port: number): Opened;
  readonly senderCount: number;
}

/** Whose it is, by a header that nothing proves. */
export function clusterOf(datagram: Buffer): string {
  return datagram.toString("hex", offsets.cluster, offsets.cluster + 8);
}

interface Sender {
  readonly key: KeyObject;
  readonly address: string;
  readonly port: number;
  readonly endpoint: Endpoint;
  readonly sourceBytes: Buffer;
  readonly windows: Record<Channel, ReplayWindow>;
}

const own: Opened = { kind: "own" };

/** `destinations`: this engine's endpoint and its group, as 6 bytes each. */
export function createOpener(identity: SealingIdentity, destinations: Record<Channel, Uint8Array>): Opener {
  const clusterBytes = Buffer.from(identity.clusterId, "hex");
  const senders = new Map<Nonce, Sender>();
  const associated = Buffer.alloc(headerBytes + 2 * addressBytes);
  const gcmNonce = Buffer.alloc(12);

  function remember(nonce: Nonce, sender: Sender): void {
    senders.delete(nonce); // to the young end of the map's order
    senders.set(nonce, sender);
    if (senders.size <= sendersMax) return;
    for (const oldest of senders.keys()) {
      senders.delete(oldest);
      return;
    }
  }

  function decrypt(sender: Sender, channel: Channel, datagram: Buffer): Buffer | null {
    writeGcmNonce(gcmNonce, datagram);
    datagram.copy(associated, 0, 0, headerBytes);
    associated.set(sender.sourceBytes, headerBytes);
    associated.set(destinations[channel], headerBytes + addressBytes);
    const decipher = createDecipheriv("aes-256-gcm", sender.key, gcmNonce, { authTagLength: tagBytes });
    decipher.setAAD(associated);
    decipher.setAuthTag(datagram.subarray(datagram.length - tagBytes));
    const payload = decipher.update(datagram.subarray(headerBytes, datagram.length - tagBytes));
    try {
      decipher.final();
      return payload;
    } catch {
      return null;
    }
  }

  return {
    get senderCount() {
      return senders.size;
    },
    open(datagram, channel, address, port) {
      if (datagram.length < sealedOverheadBytes) return refused("short");
      if (datagram.readUInt16BE(offsets.magic) !== magic) return refused("not ours");
      if (datagram[offsets.version] !== formatVersion) return refused("other version");
      if (clusterBytes.compare(datagram, offsets.cluster, offsets.cluster + 8) !== 0) return refused("other cluster");
      if (datagram[offsets.channel] !== channelNumbers[channel]) return refused("wrong channel");
      const nonce = datagram.readUIntBE(offsets.nonce, 6) as Nonce;
      if (nonce === identity.nonce) return own;
      const counter = datagram.readUIntBE(offsets.counter, 6);
      const known = senders.get(nonce);
      if (known !== undefined && (known.port !== port || known.address !== address)) return refused("forged");
      if (known !== undefined && !known.windows[channel].accepts(counter)) return refused("replayed");
      const sender = known ?? newSender(identity, nonce, address, port);
      const payload = sender === null ? null : decrypt(sender, channel, datagram);
      if (sender === null || payload === null) return refused("forged");
      sender.windows[channel].take(counter);
      remember(nonce, sender);
      return { kind: "opened", from: sender.endpoint, nonce, payload };
    },
  };
}

/** Not remembered before its first datagram has proved authentic, so that forgers cannot push out the senders that count. */
function newSender(identity: SealingIdentity, nonce: Nonce, address: string, port: number): Sender | null {
  const source = endpointAddress(address, port);
  if (source === null) return null;
  return {
    key: processKey(identity, nonce),
    address,
    port,
    endpoint: endpointOf(address, port),
    sourceBytes: source.bytes,
    windows: { unicast: new ReplayWindow(), multicast: new ReplayWindow() },
  };
}

function writeGcmNonce(gcmNonce: Buffer, sealed: Buffer): void {
  gcmNonce[0] = sealed[offsets.channel] ?? 0;
  sealed.copy(gcmNonce, 6, offsets.counter, offsets.counter + 6);
}

function refused(reason: RefusalReason): Opened {
  return { kind: "refused", reason };
}

function processKey(identity: SealingIdentity, nonce: Nonce): KeyObject {
  const info = Buffer.alloc(15 + 6);
  info.write("atomcast udp v1", "latin1");
  info.writeUIntBE(nonce, 15, 6);
  return derivedKey(identity, info);
}

/** The pre-shared key of TLS: apart from the datagrams' keys, so that neither use can weaken the other. */
export function tlsKey(identity: Pick<SealingIdentity, "clusterId" | "secret">): Buffer {
  return derivedKey(identity, Buffer.from("atomcast tls v1", "latin1")).export();
}

function derivedKey(identity: Pick<SealingIdentity, "clusterId" | "secret">, info: Buffer): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync("sha256", identity.secret, Buffer.from(identity.clusterId, "hex"), info, 32)));
}
