/**
 * A segment: one file of the journal, made of zeros ahead of need so that appending never waits for blocks to be found.
 *
 *   offset  bytes
 *        0      8  "ATOMJRNL"
 *        8      4  format version
 *       12      6  index of the segment: 1, 2, 3 …; also its name
 *       18      8  salt: marks this segment's records
 *       26      4  CRC-32 of the 26 bytes before
 *      512         records (journal-record.ts)
 *
 * A segment is made under another name and renamed when whole, so a file with a segment's name has always had a valid header.
 */

import { DatabaseError } from "../base/errors.js";
import { entryBytesMax } from "../base/limits.js";
import { crc32 } from "./checksum.js";
import type { FileSystem, OpenFile } from "./file-system.js";
import { recordBytes, saltBytes, sectorBytes } from "./journal-record.js";

export interface Segment {
  readonly index: number;
  readonly salt: Buffer;
  readonly file: OpenFile;
  readonly sizeBytes: number;
}

export const segmentVersion = 1;
/** Segments are read whole at recovery; larger ones are refused. */
export const segmentBytesMax = 256 * 1024 * 1024;
export const segmentBytesMin = 4096;
export const segmentBytesDefault = 16 * 1024 * 1024;
/** Where records begin. */
export const segmentHeadBytes = sectorBytes;

const magic = Buffer.from("ATOMJRNL");
const headerBytes = 30;
const checkedBytes = 26;
/** Zeros are written in pieces of this size, in bytes: a thread of the pool is never held long. */
const zeroPieceBytes = 1024 * 1024;
const suffix = ".journal";
const temporarySuffix = ".tmp";

export function segmentName(index: number): string {
  return `${index.toString().padStart(12, "0")}${suffix}`;
}

/** null: not a segment's name. */
export function segmentIndexOf(name: string): number | null {
  const match = /^(\d{12,15})\.journal$/.exec(name);
  return match?.[1] === undefined ? null : Number(match[1]);
}

export function isTemporary(name: string): boolean {
  return name.endsWith(temporarySuffix);
}

/** Room for an anchor and one record with this payload, in bytes of file. */
export function segmentBytesFor(payloadBytes: number): number {
  return segmentHeadBytes + Math.ceil((recordBytes(0) + recordBytes(payloadBytes)) / sectorBytes) * sectorBytes;
}

export const segmentFileBytesMax = Math.max(segmentBytesMax, segmentBytesFor(entryBytesMax));

/** Durable when resolved: blocks, header and name. */
export async function createSegment(files: FileSystem, directory: string, index: number, sizeBytes: number, salt: Buffer): Promise<Segment> {
  const path = `${directory}/${segmentName(index)}`;
  const temporary = `${path}${temporarySuffix}`;
  const making = await files.open(temporary, "create");
  try {
    await writeZeros(making, 0, sizeBytes);
    await making.write(encodeHeader(index, salt), 0);
    await making.sync();
  } finally {
    await making.close();
  }
  await files.rename(temporary, path);
  await files.syncDirectory(directory);
  return { index, salt, sizeBytes, file: await files.open(path, "durable") };
}

/** Makes room for a record that is larger than a segment usually is. Its open file stays. */
export async function growSegment(files: FileSystem, directory: string, segment: Segment, sizeBytes: number): Promise<Segment> {
  const file = await files.open(`${directory}/${segmentName(segment.index)}`, "write");
  try {
    await writeZeros(file, segment.sizeBytes, sizeBytes);
    await file.sync();
  } finally {
    await file.close();
  }
  return { ...segment, sizeBytes };
}

/** null: no valid header. Throws where a newer Atomcast wrote it. */
export function decodeSegmentHeader(bytes: Buffer): { readonly index: number; readonly salt: Buffer } | null {
  if (bytes.length < headerBytes || bytes.compare(magic, 0, magic.length, 0, magic.length) !== 0) return null;
  if (crc32(bytes.subarray(0, checkedBytes)) !== bytes.readUInt32BE(checkedBytes)) return null;
  const version = bytes.readUInt32BE(8);
  if (version !== segmentVersion) {
    throw new DatabaseError(
      "ATOMCAST_NEWER_FORMAT",
      `the journal has format ${version}, this Atomcast reads format ${segmentVersion}: run the version that wrote it, or a newer one`,
    );
  }
  return { index: bytes.readUIntBE(12, 6), salt: Buffer.from(bytes.subarray(18, 18 + saltBytes)) };
}

function encodeHeader(index: number, salt: Buffer): Buffer {
  const header = Buffer.alloc(headerBytes);
  magic.copy(header);
  header.writeUInt32BE(segmentVersion, 8);
  header.writeUIntBE(index, 12, 6);
  salt.copy(header, 18);
  header.writeUInt32BE(crc32(header.subarray(0, checkedBytes)), checkedBytes);
  return header;
}

async function writeZeros(file: OpenFile, from: number, to: number): Promise<void> {
  const zeros = Buffer.alloc(Math.min(zeroPieceBytes, to - from));
  for (let at = from; at < to; at += zeros.length) await file.write(zeros.subarray(0, Math.min(zeros.length, to - at)), at);
}
