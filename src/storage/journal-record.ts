/**
 * One record of the journal, as bytes.
 *
 *   offset  bytes
 *        0      8  marker: the segment's random salt, so that nothing a user stores can pass for a record
 *        8      1  kind
 *        9      3  zero
 *       12      4  payload length
 *       16      4  write id: random, the same in all records that one write carried
 *       20      6  where the record is in its segment: a copy elsewhere is not a record
 *       26      6  durable end: where the record before this write ended; everything before was durable when this was written
 *       32      6  seq
 *       38      6  term
 *       44      6  commit seq: the largest seq known committed *and* durable here when this was written
 *       50      6  through: what must be repaired before the journal is sound again; 0 if it is
 *       56      8  hash of the previous record's position
 *       64      8  hash of this record's position
 *       72      4  CRC-32 of the 72 bytes before and the payload
 *       76         payload, then zeros up to a multiple of 8
 *
 * Records are never overwritten: a truncation is itself a record. A write begins at a multiple of 512, so that no write touches a sector
 * that holds durable bytes. Integers are big-endian.
 */

import type { ChainHash } from "../base/chain-hash.js";
import type { Seq, Term } from "../base/ids.js";
import { entryBytesMax } from "../base/limits.js";
import type { LogPosition } from "../base/log-entry.js";
import { crc32 } from "./checksum.js";

/** Append-only: the index is the number in the file. */
const recordKinds = ["", "entry", "anchor", "truncate", "repair", "reset"] as const;
/**
 * `entry`: an entry of the stream. The others have a position and no payload: `anchor`, first in a segment, says where the journal has got
 * to; `truncate` gives up what comes after the position; `repair`, an anchor, goes on after the position over damage before it;
 * `reset`, an anchor, makes all older segments void.
 */
export type RecordKind = Exclude<(typeof recordKinds)[number], "">;

export interface JournalRecord {
  readonly kind: RecordKind;
  readonly position: LogPosition;
  readonly previousHash: ChainHash;
  readonly commitSeq: Seq;
  readonly through: Seq;
  readonly writeId: number;
  readonly durableEndBytes: number;
  /** A view. */
  readonly payload: Buffer;
  /** Where the next record of the same write would begin. */
  readonly endBytes: number;
}

export const recordHeaderBytes = 76;
/** The unit that a disk writes whole or not at all. */
export const sectorBytes = 512;
const alignmentBytes = 8;
export const saltBytes = 8;
const checkedBytes = 72;

export function recordBytes(payloadBytes: number): number {
  return alignUp(recordHeaderBytes + payloadBytes, alignmentBytes);
}

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** What all records of one write share. */
export interface WriteHeader {
  readonly salt: Buffer;
  readonly writeId: number;
  readonly durableEndBytes: number;
  readonly through: Seq;
}

export interface RecordContent {
  readonly kind: RecordKind;
  readonly position: LogPosition;
  readonly previousHash: ChainHash;
  readonly commitSeq: Seq;
  readonly payload: Uint8Array;
}

/** Writes the record into `target` at `at`; `offsetBytes` is its place in the segment. Returns where the next one begins in `target`. */
export function encodeRecord(target: Buffer, at: number, offsetBytes: number, write: WriteHeader, record: RecordContent): number {
  write.salt.copy(target, at);
  target.writeUInt32BE(recordKinds.indexOf(record.kind) * 2 ** 24, at + 8);
  target.writeUInt32BE(record.payload.length, at + 12);
  target.writeUInt32BE(write.writeId, at + 16);
  target.writeUIntBE(offsetBytes, at + 20, 6);
  target.writeUIntBE(write.durableEndBytes, at + 26, 6);
  target.writeUIntBE(record.position.seq, at + 32, 6);
  target.writeUIntBE(record.position.term, at + 38, 6);
  target.writeUIntBE(record.commitSeq, at + 44, 6);
  target.writeUIntBE(write.through, at + 50, 6);
  target.write(record.previousHash, at + 56, 8, "hex");
  target.write(record.position.hash, at + 64, 8, "hex");
  const headCheck = crc32(target.subarray(at, at + checkedBytes));
  target.writeUInt32BE(crc32(record.payload, headCheck), at + checkedBytes);
  target.set(record.payload, at + recordHeaderBytes);
  const end = at + recordBytes(record.payload.length);
  target.fill(0, at + recordHeaderBytes + record.payload.length, end);
  return end;
}

/**
 * The record at `at` of `bytes`, whose first byte is byte `originBytes` of the segment. null: there is none. "short": there may be one,
 * and it goes on beyond the end of `bytes`.
 */
export function decodeRecord(bytes: Buffer, at: number, originBytes: number, salt: Buffer): JournalRecord | "short" | null {
  if (at + recordHeaderBytes > bytes.length) return "short";
  if (bytes.compare(salt, 0, saltBytes, at, at + saltBytes) !== 0) return null;
  const kindWord = bytes.readUInt32BE(at + 8);
  const kind = kindWord % 2 ** 24 === 0 ? recordKinds[kindWord / 2 ** 24] : undefined;
  const payloadBytes = bytes.readUInt32BE(at + 12);
  const offsetBytes = originBytes + at;
  if (kind === undefined || kind === "" || payloadBytes > entryBytesMax || bytes.readUIntBE(at + 20, 6) !== offsetBytes) return null;
  const payloadEnd = at + recordHeaderBytes + payloadBytes;
  if (payloadEnd > bytes.length) return "short";
  const payload = bytes.subarray(at + recordHeaderBytes, payloadEnd);
  const check = crc32(payload, crc32(bytes.subarray(at, at + checkedBytes)));
  if (check !== bytes.readUInt32BE(at + checkedBytes)) return null;
  return {
    kind,
    position: {
      seq: bytes.readUIntBE(at + 32, 6) as Seq,
      term: bytes.readUIntBE(at + 38, 6) as Term,
      hash: bytes.toString("hex", at + 64, at + 72) as ChainHash,
    },
    previousHash: bytes.toString("hex", at + 56, at + 64) as ChainHash,
    commitSeq: bytes.readUIntBE(at + 44, 6) as Seq,
    through: bytes.readUIntBE(at + 50, 6) as Seq,
    writeId: bytes.readUInt32BE(at + 16),
    durableEndBytes: bytes.readUIntBE(at + 26, 6),
    payload,
    endBytes: originBytes + at + recordBytes(payloadBytes),
  };
}

/** The next whole record at or after `from`, wherever it is: what recovery looks for behind bytes that it cannot read. */
export function findRecord(segment: Buffer, from: number, salt: Buffer): { readonly record: JournalRecord; readonly at: number } | null {
  for (let at = segment.indexOf(salt, from); at >= 0; at = segment.indexOf(salt, at + 1)) {
    if (at % alignmentBytes !== 0) continue;
    const record = decodeRecord(segment, at, 0, salt);
    if (record !== null && record !== "short") return { record, at };
  }
  return null;
}
