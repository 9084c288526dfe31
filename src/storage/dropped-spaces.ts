/**
 * What dropped tables and indexes had (design.md §8 "Garbage collector"). Nobody who reads the present sees any of it; who reads as of a seq before the drop does, until
 * the low-water mark has passed it. The rows stay where they were, hidden by a record of the space, and are swept then.
 */
import { ByteReader, ByteWriter } from "../base/bytes.js";
import type { Seq } from "../base/ids.js";

export interface DroppedSpace {
  /** Of the entry that dropped it. */
  readonly seq: Seq;
  /** What its rows weigh, about. */
  readonly bytes: number;
  /** It is an index's that never had all of its entries: its past cannot be told. */
  readonly isIncomplete: boolean;
}

/**
 * What dropped spaces of one store weigh at most. Beyond it those go that were dropped first, and with them what was there before: the floor of versions rises. Reason: a long
 * history in which a large table is made, filled and dropped again and again would fill the disk.
 */
export const droppedBytesMax = 64 * 1024 * 1024 * 1024;

export function encodeDroppedSpace({ seq, bytes, isIncomplete }: DroppedSpace): Buffer {
  return new ByteWriter(24).varint(seq).varint(bytes).bool(isIncomplete).finish();
}

export function decodeDroppedSpace(record: Uint8Array): DroppedSpace {
  const reader = new ByteReader(record);
  const dropped = { seq: reader.varint() as Seq, bytes: reader.varint(), isIncomplete: reader.bool() };
  reader.end();
  return dropped;
}
