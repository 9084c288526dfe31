/**
 * The first frame of each direction of a connection: HELLO from who opened it, then HELLO or REFUSED from who took it. The first 7 bytes
 * are the same in every format version, so that engines of different versions can at least tell each other so.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "../../base/bytes.js";
import type { ClusterId, Endpoint, Nonce } from "../../base/ids.js";

export type Greeting = Hello | Refused | OtherVersion;

export interface Hello {
  readonly kind: "hello";
  readonly clusterId: ClusterId;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  /** Counts the sender's attempts to open connections, to whomever, from 1. 0 in the HELLO of who took the connection. */
  readonly dialNumber: number;
  /** The newest attempt of the addressee that the sender has taken, and the addressee's nonce at that time; 0 and 0: none remembered. */
  readonly takenDialNumber: number;
  readonly takenDialNonce: number;
}

export interface Refused {
  readonly kind: "refused";
  readonly reason: RefusedReason;
}

/** "duplicate": there is, or will be in a moment, another connection between the two. */
export type RefusedReason = "duplicate" | "other version" | "other cluster" | "too many connections";

export interface OtherVersion {
  readonly kind: "other version";
  readonly version: number;
}

/** A greeting is never longer, in bytes: nobody who has not been greeted makes the other side hold more. */
export const greetingBytesMax = 512;

const magic = 0x41746d63; // "Atmc"
const greetingKinds = ["hello", "refused"] as const;
const refusedReasons: readonly RefusedReason[] = ["duplicate", "other version", "other cluster", "too many connections"];

export function encodeGreeting(greeting: Hello | Refused, version: number): Buffer {
  const writer = new ByteWriter(96).u32(magic).u16(version).u8(greetingKinds.indexOf(greeting.kind));
  if (greeting.kind === "refused") return writer.u8(refusedReasons.indexOf(greeting.reason)).finish();
  writer.raw(Buffer.from(greeting.clusterId, "hex")).u48(greeting.nonce).text(greeting.endpoint);
  return writer.u48(greeting.dialNumber).u48(greeting.takenDialNumber).u48(greeting.takenDialNonce).finish();
}

/** Throws MalformedBytesError. */
export function decodeGreeting(bytes: Uint8Array, version: number): Greeting {
  const reader = new ByteReader(bytes);
  if (reader.u32() !== magic) throw new MalformedBytesError("not a greeting");
  const theirs = reader.u16();
  if (theirs !== version) return { kind: "other version", version: theirs };
  const kind = greetingKinds[reader.u8()];
  if (kind === undefined) throw new MalformedBytesError("greeting of an unknown kind");
  const greeting = kind === "hello" ? readHello(reader) : readRefused(reader);
  reader.end();
  return greeting;
}

function readHello(reader: ByteReader): Hello {
  return {
    kind: "hello",
    clusterId: reader.raw(8).toString("hex") as ClusterId,
    nonce: reader.u48() as Nonce,
    endpoint: reader.text() as Endpoint,
    dialNumber: reader.u48(),
    takenDialNumber: reader.u48(),
    takenDialNonce: reader.u48(),
  };
}

function readRefused(reader: ByteReader): Refused {
  const reason = refusedReasons[reader.u8()];
  if (reason === undefined) throw new MalformedBytesError("refused for an unknown reason");
  return { kind: "refused", reason };
}
