/** Entries into frames: as many as fit one payload, or a part of one that does not fit. */
import { ByteWriter } from "../../base/bytes.js";
import type { ChainHash } from "../../base/chain-hash.js";
import { assert } from "../../base/errors.js";
import type { Seq } from "../../base/ids.js";
import type { LogEntry } from "../../base/log-entry.js";
import {
  encodeStreamMessage,
  type FrameHeader,
  fragmentHeadBytesMax,
  frameEntryBytes,
  startFrame,
  writeEntriesTag,
  writeFragment,
  writeFrameEntry,
} from "../wire/stream-messages.js";

/** Where entries to pack come from: the log in memory, or what was read from a journal. */
export interface EntrySource {
  entryAt(seq: Seq): LogEntry | undefined;
  hashAt(seq: Seq): ChainHash | undefined;
}

/** The next byte to send: `offset` bytes of the entry `seq` have gone. */
export interface SendCursor {
  seq: Seq;
  offset: number;
}

/** A payload must have room for its header and some of an entry. */
export const payloadBytesMin = 256;

/**
 * Packs one frame from the cursor on, entries up to `through` at most, and moves the cursor behind it. `payloadBytesMax` at least
 * payloadBytesMin. The entry at the cursor and the one before it must be in the source. Entry bytes are copied here, once.
 */
export function packFrame(source: EntrySource, header: FrameHeader, cursor: SendCursor, through: Seq, payloadBytesMax: number): Buffer {
  const first = source.entryAt(cursor.seq);
  const prevHash = source.hashAt((cursor.seq - 1) as Seq);
  assert(first !== undefined && prevHash !== undefined, `entry ${cursor.seq} cannot be packed: it or the one before is not in the source`);
  const writer = new ByteWriter(payloadBytesMax);
  startFrame(writer, header, cursor.seq, prevHash);
  const room = payloadBytesMax - writer.length - 1;
  if (cursor.offset > 0 || frameEntryBytes(header.term, first) > room) {
    const end = Math.min(first.bytes.length, cursor.offset + room - fragmentHeadBytesMax);
    const bytes = first.bytes.subarray(cursor.offset, end);
    writeFragment(writer, header.term, { term: first.term, totalBytes: first.bytes.length, offset: cursor.offset, bytes });
    cursor.offset = end;
    if (end === first.bytes.length) advance(cursor);
    return writer.finish();
  }
  writeEntriesTag(writer);
  let entry: LogEntry | undefined = first;
  while (entry !== undefined && entry.seq <= through && writer.length + frameEntryBytes(header.term, entry) <= payloadBytesMax) {
    writeFrameEntry(writer, header.term, entry);
    advance(cursor);
    entry = source.entryAt(cursor.seq);
  }
  return writer.finish();
}

function advance(cursor: SendCursor): void {
  cursor.seq = (cursor.seq + 1) as Seq;
  cursor.offset = 0;
}

/** A frame without entries: a heartbeat, or a new commit seq that must not wait for entries. */
export function packEmptyFrame(header: FrameHeader): Buffer {
  const firstSeq = (header.last.seq + 1) as Seq;
  return encodeStreamMessage({ kind: "frame", ...header, firstSeq, prevHash: header.last.hash, content: { kind: "entries", entries: [] } });
}
