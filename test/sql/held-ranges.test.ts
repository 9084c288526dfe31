import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Seq, SpaceId } from "../../src/base/ids.js";
import { binaryRange, type KeyRange } from "../../src/base/key-ranges.js";
import { HeldRanges } from "../../src/sql/held-ranges.js";
import { IdBlocks } from "../../src/sql/id-blocks.js";

/** Keys of one byte, so that a range is a set of 256 that a test can keep. */
const range = fc
  .tuple(fc.integer({ min: 0, max: 255 }), fc.option(fc.integer({ min: 0, max: 255 })))
  .map(([low, high]): KeyRange => ({ low: low === 0 ? new Uint8Array(0) : Uint8Array.of(low), high: high === null ? null : Uint8Array.of(high) }));

function members(one: KeyRange): number[] {
  const low = one.low[0] ?? 0;
  const high = one.high === null ? 256 : (one.high[0] ?? 0);
  return Array.from({ length: Math.max(0, high - low) }, (_, index) => low + index);
}

describe("held ranges", () => {
  test("are a set of keys, held before joining", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom("hold", "join", "abandon", "drop"), range), { maxLength: 12 }), range, (operations, probe) => {
        const ranges = new HeldRanges();
        const held = new Set<number>();
        const joining = new Set<number>();
        for (const [operation, one] of operations) {
          if (members(one).length === 0) continue;
          if (operation === "hold") ranges.hold(one);
          else if (operation === "drop") ranges.drop(one);
          else if (operation === "join") ranges.beginJoining(one, 1 as Seq);
          else ranges.abandonJoining(one);
          for (const key of members(one)) {
            if (operation === "hold") held.add(key);
            else if (operation === "drop") held.delete(key);
            else if (operation === "join") joining.add(key);
            else joining.delete(key);
          }
        }
        for (let key = 0; key < 256; key++)
          expect(ranges.place(Uint8Array.of(key))).toBe(held.has(key) ? "held" : joining.has(key) ? "joining" : "elsewhere");
        expect(ranges.whole).toBe(held.size === 256);
        const asked = members(probe);
        if (asked.length > 0) expect(ranges.holds(binaryRange(probe))).toBe(asked.every((key) => held.has(key)));
        for (const [index, piece] of ranges.pieces.entries()) {
          const before = ranges.pieces[index - 1];
          if (before !== undefined) expect(before.high !== null && before.high < piece.low).toBe(true);
        }
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  test("a chunk takes its changes, the rest of the range goes on joining", () => {
    const ranges = new HeldRanges();
    ranges.beginJoining({ low: new Uint8Array(0), high: null }, 5 as Seq);
    const change = (seq: number, key: number) => ({ seq: seq as Seq, key: Uint8Array.of(key), row: null });
    for (const one of [change(6, 10), change(7, 200), change(8, 10)]) ranges.buffer(one);
    expect(ranges.takeJoining({ low: Uint8Array.of(5), high: Uint8Array.of(100) }, 6 as Seq)?.map((one) => one.seq)).toEqual([8]);
    expect(ranges.takeJoining({ low: Uint8Array.of(50), high: Uint8Array.of(150) }, 6 as Seq)).toBeNull();
    expect(() => ranges.takeJoining({ low: Uint8Array.of(100), high: null }, 4 as Seq)).toThrow("as of 4");
    expect(ranges.takeJoining({ low: Uint8Array.of(100), high: null }, 5 as Seq)?.map((one) => one.seq)).toEqual([7]);
    expect(ranges.place(Uint8Array.of(1))).toBe("joining");
  });

  test("too many changes end the joining: the chunk finds nothing", () => {
    const ranges = new HeldRanges();
    ranges.beginJoining({ low: new Uint8Array(0), high: null }, 1 as Seq);
    const row = new Uint8Array(8 * 1024 * 1024);
    for (let seq = 2; seq < 12; seq++) ranges.buffer({ seq: seq as Seq, key: Uint8Array.of(seq), row });
    expect(ranges.takeJoining({ low: new Uint8Array(0), high: null }, 1 as Seq)).toBeNull();
  });
});

describe("id blocks", () => {
  const table = 7 as SpaceId;

  test("are used in the order of their grants, and undone to a mark", () => {
    const ids = new IdBlocks();
    ids.grant(table, 10n, 11n);
    ids.grant(table, 5n, 6n);
    const mark = ids.mark();
    const free = (): boolean => false;
    expect([ids.take(table, free), ids.take(table, free), ids.take(table, free)]).toEqual([10n, 11n, 5n]);
    expect(ids.remaining(table)).toEqual([{ first: 6n, last: 6n }]);
    ids.undo(mark);
    expect(ids.take(table, (id) => id < 11n)).toBe(11n);
    expect(ids.take(table, () => true)).toBeNull();
    expect(ids.remaining(table)).toEqual([]);
    ids.grant(table, 100n, 100n);
    expect(ids.take(table, free)).toBe(100n);
  });
});
