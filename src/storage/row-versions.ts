/**
 * What rows were before (design.md §8 "Versions"). A row that is replaced or deleted stays as a version: what its key had from `seq` until `until`, the seq
 * of the entry that replaced it. The row itself has a seq too, so nothing is kept of an insert: what has a seq and replaced nothing was not there before.
 *
 *   snapshot   … 3 │ 4 … 8 │ 9 … 11 │ 12 …
 *   key        none│ row 4 │  none  │ row 12       versions: (row 4, seq 4, until 9); the row: seq 12
 *
 * A version that ended at or below the low-water mark is read by nobody any more, and goes.
 */
import { noSeq, type Seq } from "../base/ids.js";

export interface RowVersion {
  readonly key: Uint8Array;
  /** Of the entry that put it. 0: not known, and never asked for. */
  readonly seq: Seq;
  /** Of the entry that replaced or deleted it. */
  readonly until: Seq;
  readonly row: Uint8Array;
}

/** What a row was before the entry at `seq` changed it. */
export interface StoredImage {
  readonly key: Uint8Array;
  readonly seq: Seq;
  /** null: there was no such row. */
  readonly row: Uint8Array | null;
}

/** Old versions as a store has them. */
export interface KeptVersions {
  readonly count: number;
  /** Of keys and rows. */
  readonly bytes: number;
  /** What was there at this seq and later can be told. */
  readonly floor: Seq;
  /** Removed since the store was opened, with the rows of what was dropped. */
  readonly sweptCount: number;
  readonly sweptBytes: number;
}

export const noVersions: KeptVersions = { count: 0, bytes: 0, floor: noSeq, sweptCount: 0, sweptBytes: 0 };

/**
 * Bytes of versions in one store. Beyond it all that are there are given up, in steps as always: the floor rises to what is applied, and transactions with
 * older snapshots cannot read what they pull from then on. Until they are gone, some more come.
 */
export const versionBytesMax = 1024 * 1024 * 1024;

/** Of the versions of one chunk. With more, the chunk has none: snapshots older than it cannot be told. */
export const imageBytesMax = 1024 * 1024;
/** Versions of a chunk's range that are looked at for it, whatever their size: others wait for an answer too. */
export const imagesLookedAtMax = 4000;

/** Keys that one chunk of the past looks at, whatever there was then: each may cost a search. */
export const pastLookedAtMax = 2000;

/** What rows with these versions were before each change after `since`, in the order of seq. `rows`: those that are there now. */
export function imagesSince(
  since: Seq,
  rows: Iterable<{ readonly key: Uint8Array; readonly seq: Seq }>,
  versions: readonly RowVersion[],
): readonly StoredImage[] {
  const images: StoredImage[] = [];
  const replaced = new Set<string>();
  for (const { key, until, row } of versions) {
    if (until <= since) continue;
    images.push({ key, seq: until, row });
    replaced.add(`${until} ${nameOf(key)}`);
  }
  // What came and replaced nothing.
  const noteCame = (key: Uint8Array, seq: Seq): void => {
    if (seq > since && !replaced.has(`${seq} ${nameOf(key)}`)) images.push({ key, seq, row: null });
  };
  for (const { key, seq, until } of versions) if (until > since) noteCame(key, seq);
  for (const { key, seq } of rows) noteCame(key, seq);
  return images.sort((left, right) => left.seq - right.seq);
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}
