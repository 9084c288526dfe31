import fc from "fast-check";
import { expect, test } from "vitest";
import { type BinaryRange, KeyRanges, overlap, rangeOfKey, wholeRange } from "../../src/base/key-ranges.js";

/** Keys of one byte, so that a range is a set of 256 that a test can keep. */
const range = fc
  .tuple(fc.integer({ min: 0, max: 255 }), fc.option(fc.integer({ min: 0, max: 255 })))
  .map(([low, high]): BinaryRange => ({ low: low === 0 ? "" : String.fromCharCode(low), high: high === null ? null : String.fromCharCode(high) }));

function members({ low, high }: BinaryRange): number[] {
  const first = low === "" ? 0 : low.charCodeAt(0);
  return Array.from({ length: Math.max(0, (high === null ? 256 : high.charCodeAt(0)) - first) }, (_, index) => first + index);
}

test("ranges are a set of keys, in as few pieces as can be", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom("add", "remove"), range), { maxLength: 12 }), range, (operations, probe) => {
      const ranges = new KeyRanges();
      const keys = new Set<number>();
      for (const [operation, one] of operations) {
        if (members(one).length === 0) continue;
        if (operation === "add") ranges.add(one);
        else ranges.remove(one);
        for (const key of members(one)) operation === "add" ? keys.add(key) : keys.delete(key);
      }
      for (let key = 0; key < 256; key++) expect(ranges.at(String.fromCharCode(key)) !== undefined).toBe(keys.has(key));
      expect(ranges.isWhole).toBe(keys.size === 256);
      for (const [index, piece] of ranges.pieces.entries()) {
        const before = ranges.pieces[index - 1];
        if (before !== undefined) expect(before.high !== null && before.high < piece.low).toBe(true);
        expect(ranges.after(before?.low ?? "")).toBe(before === undefined && piece.low === "" ? ranges.pieces[1] : piece);
      }
      const asked = members(probe);
      if (asked.length === 0) return;
      expect(ranges.holds(probe)).toBe(asked.every((key) => keys.has(key)));
      expect(ranges.within(probe).flatMap(members)).toEqual(asked.filter((key) => keys.has(key)));
      expect(ranges.pieces.some((piece) => overlap(piece, probe))).toBe(asked.some((key) => keys.has(key)));
      expect(new KeyRanges(ranges.pieces).pieces).toEqual(ranges.pieces);
    }),
    { seed: 5, numRuns: 500 },
  );
});

test("the range of one key has no other", () => {
  const ranges = new KeyRanges([wholeRange]);
  ranges.remove(rangeOfKey("b"));
  expect(["a", "b", "b\0", "ba", "c"].map((key) => ranges.at(key) !== undefined)).toEqual([true, false, true, true, true]);
});
