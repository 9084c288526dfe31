/** Where a key range is cut into pieces of about equal size: the rule of AtomStore.cuts, for all stores. */

import { sortKeyBytesMax } from "../base/limits.js";
import type { StoredCuts } from "./atom-store.js";

/** Cuts of one answer. Reason: to look at a mebibyte of rows takes some ten milliseconds, and others wait for an answer too; what is left is asked for again. */
export const cutsMax = 16;

export interface PieceCutter {
  /** The next row in key order. `rowBytes`: encoded, without the key. False: it is enough, and the row is of the rest. */
  add(key: Buffer, rowBytes: number): boolean;
  finish(): StoredCuts;
}

export function createPieceCutter(pieceBytes: number): PieceCutter {
  const cuts: Buffer[] = [];
  const pieces: { bytes: number; rows: number }[] = [];
  let piece = { bytes: 0, rows: 0 };
  let previous: Buffer | null = null;
  let isEnough = false;
  return {
    add(key, rowBytes) {
      if (previous !== null && piece.bytes >= pieceBytes && !sharesPrefix(previous, key)) {
        cuts.push(key);
        pieces.push(piece);
        piece = { bytes: 0, rows: 0 };
        isEnough = cuts.length === cutsMax;
        if (isEnough) return false;
      }
      piece.bytes += key.length + rowBytes;
      piece.rows++;
      previous = key;
      return true;
    },
    finish: () => ({ cuts, pieces: isEnough ? pieces : [...pieces, piece] }),
  };
}

/** Keys beyond the limit are a prefix and a hash: their order is not the values' order, and no atom may end among them. */
function sharesPrefix(left: Buffer, right: Buffer): boolean {
  if (left.length < sortKeyBytesMax || right.length < sortKeyBytesMax) return false;
  return left.compare(right, 0, sortKeyBytesMax, 0, sortKeyBytesMax) === 0;
}
