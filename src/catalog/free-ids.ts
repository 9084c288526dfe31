/**
 * Ids of a table's sequence that an engine had of its blocks and never used, and gave back with its LEAVE: they are handed out again, before
 * new ones. There is no row in a free range, so whoever takes it holds it without a pull.
 *
 * | entry | the list |
 * |---|---|
 * | leave, with ids | they are added at the end; beyond `freeRangesMax` they are not, and no row ever gets them |
 * | split that hands ids out | they are taken out |
 * | a row is put at a free id, which somebody has named | its range is given up: it has a row, or had one |
 */
import type { ByteReader, ByteWriter } from "../base/bytes.js";
import { binaryKey } from "../base/key-ranges.js";
import { integerKey } from "../base/sort-key.js";

/** Ids first ≤ id < next. */
export interface FreeIds {
  readonly first: bigint;
  readonly next: bigint;
  /** The keys of rows with these ids, low ≤ key < high. */
  readonly low: string;
  readonly high: string;
}

/** Free ranges of one table. Reason: an engine leaves one or two, and the next takers use them up. */
export const freeRangesMax = 64;

function freeIds(first: bigint, next: bigint): FreeIds {
  return { first, next, low: binaryKey(integerKey(first)), high: binaryKey(integerKey(next)) };
}

/** `sequenceNext`: no id from there on was ever in a block. */
export function withFreeIds(list: readonly FreeIds[], first: bigint, next: bigint, sequenceNext: bigint): readonly FreeIds[] {
  const isOther = list.every((one) => next <= one.first || one.next <= first);
  return first < next && next <= sequenceNext && isOther && list.length < freeRangesMax ? [...list, freeIds(first, next)] : list;
}

export function areFree(list: readonly FreeIds[], first: bigint, next: bigint): boolean {
  return list.some((one) => one.first <= first && next <= one.next);
}

export function withoutFreeIds(list: readonly FreeIds[], first: bigint, next: bigint): readonly FreeIds[] {
  if (!list.some((one) => one.first < next && first < one.next)) return list;
  return list.flatMap((one) => {
    if (next <= one.first || one.next <= first) return [one];
    const rest = [freeIds(one.first, first), freeIds(next, one.next)];
    return rest.filter((piece) => piece.first < piece.next);
  });
}

/** A row was put at this key. */
export function withoutFreeKey(list: readonly FreeIds[], key: string): readonly FreeIds[] {
  return list.some((one) => one.low <= key && key < one.high) ? list.filter((one) => key < one.low || one.high <= key) : list;
}

export function writeFreeIds(writer: ByteWriter, list: readonly FreeIds[]): void {
  writer.varint(list.length);
  for (const one of list) writer.i64(one.first).i64(one.next);
}

export function readFreeIds(reader: ByteReader): readonly FreeIds[] {
  return reader.list((r) => freeIds(r.i64(), r.i64()), 16);
}
