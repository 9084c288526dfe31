/** Reads entries back from segments. What it reads was valid when it was written or recovered: anything else is damage since. */

import { DatabaseError } from "../base/errors.js";
import type { LogEntry } from "../base/log-entry.js";
import type { FileSystem } from "./file-system.js";
import type { Place } from "./journal-index.js";
import { alignUp, decodeRecord, type JournalRecord, recordHeaderBytes, sectorBytes } from "./journal-record.js";
import { segmentName } from "./journal-segment.js";

/** Read beyond what was asked for, in bytes: the distance of marks and the records' own heads. */
const readAheadBytes = 80 * 1024;

/**
 * Entries from `from` on out of one segment, at most `bytesMax` of payload and at least one, none after `lastSeq`. Their bytes are views
 * of one buffer of about that size.
 */
export async function readEntries(
  files: FileSystem,
  directory: string,
  salt: Buffer,
  place: Place,
  from: number,
  lastSeq: number,
  bytesMax: number,
): Promise<LogEntry[]> {
  const file = await files.open(`${directory}/${segmentName(place.segmentIndex)}`, "read");
  try {
    let wantedBytes = Math.min(bytesMax + readAheadBytes, place.endBytes - place.offsetBytes);
    for (;;) {
      const bytes = await file.read(place.offsetBytes, wantedBytes);
      const entries = parse(bytes, salt, place, from, Math.min(lastSeq, place.lastSeq), bytesMax);
      if (entries.length > 0) return entries;
      const canGrow = wantedBytes < place.endBytes - place.offsetBytes && bytes.length === wantedBytes;
      if (!canGrow) throw damaged(place.segmentIndex, from);
      wantedBytes = Math.min(wantedBytes * 4, place.endBytes - place.offsetBytes);
    }
  } finally {
    await file.close();
  }
}

function parse(bytes: Buffer, salt: Buffer, place: Place, from: number, lastSeq: number, bytesMax: number): LogEntry[] {
  const entries: LogEntry[] = [];
  let at = 0;
  let payloadBytes = 0;
  for (let seq = place.fromSeq; seq <= lastSeq; seq++) {
    const record = entryAt(bytes, at, place.offsetBytes, salt, seq);
    if (record === "short") return entries;
    if (record === null) throw damaged(place.segmentIndex, seq);
    at = record.endBytes - place.offsetBytes;
    if (seq < from) continue;
    if (entries.length > 0 && payloadBytes + record.payload.length > bytesMax) return entries;
    payloadBytes += record.payload.length;
    entries.push({ ...record.position, bytes: record.payload });
  }
  return entries;
}

/** The record of `seq` at `at`, or at the beginning of the write that came next. */
function entryAt(bytes: Buffer, at: number, originBytes: number, salt: Buffer, seq: number): JournalRecord | "short" | null {
  for (const place of [at, alignUp(originBytes + at, sectorBytes) - originBytes]) {
    if (place + recordHeaderBytes > bytes.length) return "short";
    const record = decodeRecord(bytes, place, originBytes, salt);
    if (record === "short") return "short";
    if (record !== null && record.kind === "entry" && record.position.seq === seq) return record;
  }
  return null;
}

function damaged(segmentIndex: number, seq: number): DatabaseError {
  return new DatabaseError(
    "ATOMCAST_JOURNAL_DAMAGED",
    `entry ${seq} in segment ${segmentIndex} of the journal has become unreadable: check the disk`,
  );
}
