/** Turns queued appends into the bytes of one write: as many whole records as fit the segment and `writeBytesMax`, the oldest first. */

import type { ChainHash } from "../base/chain-hash.js";
import type { Seq } from "../base/ids.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";
import { alignUp, encodeRecord, type RecordKind, recordBytes, sectorBytes, type WriteHeader } from "./journal-record.js";
import { segmentBytesFor } from "./journal-segment.js";

/** One call of `append`, as far as it is not written yet. */
export interface QueuedAppend {
  readonly kind: "append";
  /** The position that entries are given up after, or null. */
  readonly truncateTo: LogPosition | null;
  readonly entries: readonly LogEntry[];
  readonly commitSeq: Seq;
  /** Its truncation is written. */
  isTruncated: boolean;
  /** Entries written. */
  doneCount: number;
}

export interface WriteTarget {
  readonly salt: Buffer;
  /** Where the segment's last record ends. */
  readonly endBytes: number;
  readonly sizeBytes: number;
  /** The segment's first record, where it has none yet. */
  readonly opening: "anchor" | "repair" | "reset" | null;
  /** The position of the last record. */
  readonly durable: LogPosition;
  readonly through: Seq;
}

export interface WrittenRecord {
  readonly kind: RecordKind;
  readonly position: LogPosition;
  readonly offsetBytes: number;
  readonly endBytes: number;
  /** What was appended, where it was an entry. */
  readonly entry: LogEntry | null;
}

export interface WritePlan {
  /** Valid until the next plan is built. Empty: nothing to write. */
  readonly bytes: Buffer;
  readonly offsetBytes: number;
  readonly endBytes: number;
  readonly records: readonly WrittenRecord[];
  /** Appends that are whole with this write. */
  readonly finishedCount: number;
  /** How far the one after those is with this write. */
  readonly partial: { readonly isTruncated: boolean; readonly doneCount: number };
  /** Not 0: not even the next record fits; a segment of this size would take it. */
  readonly needsBytes: number;
}

/**
 * Largest write, in bytes, unless one record is larger. What a disk takes in a few milliseconds: the first of a long queue does not wait
 * for the last.
 */
const writeBytesMax = 4 * 1024 * 1024;
const emptyPayload = new Uint8Array(0);

export class JournalWriteBuilder {
  #buffer = Buffer.alloc(64 * 1024);
  /** Random at first, so that two lives of the process do not share one. */
  #writeId: number;

  constructor(firstWriteId: number) {
    this.#writeId = firstWriteId;
  }

  build(items: readonly QueuedAppend[], target: WriteTarget): WritePlan {
    this.#writeId = (this.#writeId + 1) >>> 0;
    const write: WriteHeader = { salt: target.salt, writeId: this.#writeId, durableEndBytes: target.endBytes, through: target.through };
    const start = alignUp(target.endBytes, sectorBytes);
    const roomBytes = target.sizeBytes - start;
    const records: WrittenRecord[] = [];
    let last = target.durable;
    /** Commit seqs are recorded no further than what is durable here: recovery takes one beyond the end for damage. */
    let confirmedSeq = target.durable.seq;
    let at = 0;
    let neededBytes = 0;
    const put = (kind: RecordKind, position: LogPosition, previousHash: ChainHash, commitSeq: number, entry: LogEntry | null): boolean => {
      const payload = entry === null ? emptyPayload : entry.bytes;
      const end = at + recordBytes(payload.length);
      if (end > roomBytes) {
        neededBytes = segmentBytesFor(payload.length);
        return false;
      }
      if (end > writeBytesMax && records.length > (target.opening === null ? 0 : 1)) return false;
      this.#reserve(alignUp(end, sectorBytes), at);
      const content = { kind, position, previousHash, commitSeq: commitSeq as Seq, payload };
      encodeRecord(this.#buffer, at, start + at, write, content);
      records.push({ kind, position, offsetBytes: start + at, endBytes: start + end, entry });
      at = end;
      last = position;
      return true;
    };
    const commitOf = (item: QueuedAppend): number => Math.min(item.commitSeq, confirmedSeq);
    let isOpen = target.opening === null || put(target.opening, target.durable, target.durable.hash, 0, null);
    let finishedCount = 0;
    let partial: WritePlan["partial"] = { isTruncated: false, doneCount: 0 };
    for (const item of items) {
      if (!isOpen) break;
      let { isTruncated, doneCount } = item;
      if (item.truncateTo !== null && !isTruncated) {
        confirmedSeq = Math.min(confirmedSeq, item.truncateTo.seq) as Seq;
        isOpen = put("truncate", item.truncateTo, last.hash, commitOf(item), null);
        isTruncated = isOpen;
      }
      while (isOpen && doneCount < item.entries.length) {
        const entry = item.entries[doneCount] as LogEntry;
        isOpen = put("entry", { seq: entry.seq, term: entry.term, hash: entry.hash }, last.hash, commitOf(item), entry);
        if (isOpen) doneCount++;
      }
      if (isOpen) finishedCount++;
      else partial = { isTruncated, doneCount };
    }
    const hasContent = finishedCount > 0 || records.length > (target.opening === null ? 0 : 1);
    return {
      bytes: this.#finish(at),
      offsetBytes: start,
      endBytes: at === 0 ? target.endBytes : start + at,
      records,
      finishedCount,
      partial,
      needsBytes: hasContent || items.length === 0 ? 0 : neededBytes,
    };
  }

  #reserve(byteCount: number, used: number): void {
    if (byteCount <= this.#buffer.length) return;
    const larger = Buffer.alloc(Math.max(byteCount, Math.min(this.#buffer.length * 2, writeBytesMax)));
    this.#buffer.copy(larger, 0, 0, used);
    this.#buffer = larger;
  }

  /** Whole sectors, so that no later write touches one of them. A buffer that one large record asked for is not kept. */
  #finish(byteCount: number): Buffer {
    const end = alignUp(byteCount, sectorBytes);
    const bytes = this.#buffer.subarray(0, end);
    bytes.fill(0, byteCount);
    if (this.#buffer.length > writeBytesMax) this.#buffer = Buffer.alloc(64 * 1024);
    return bytes;
  }
}
