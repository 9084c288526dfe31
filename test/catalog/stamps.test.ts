/** design.md §8, "`AS OF` reads": a time names one seq, on every engine and for good. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Seq } from "../../src/base/ids.js";
import { Stamps, stampsMax } from "../../src/catalog/stamps.js";

function stamped(...stamps: readonly (readonly [seq: number, timeMs: number])[]): Stamps {
  const all = new Stamps();
  for (const [seq, timeMs] of stamps) all.add(seq as Seq, timeMs, 0);
  return all;
}

test("a time names the last stamp at or before it, once a later one has come", () => {
  const stamps = stamped([10, 1000], [20, 2000], [30, 3000]);
  expect([999, 1000, 1999, 2000, 2999, 3000, 9999].map((time) => stamps.named(time))).toEqual(["not any more", 10, 10, 20, 20, "not yet", "not yet"]);
  expect(new Stamps().named(5)).toBe("not yet");
});

test("times rise, whatever a sequencer's clock says", () => {
  const stamps = stamped([10, 5000], [20, 400], [30, 5001]);
  expect(stamps.all.map(({ timeMs }) => timeMs)).toEqual([5000, 5001, 5002]);
});

test("the mark drops what is below it", () => {
  const stamps = stamped([10, 1000], [20, 2000], [30, 3000]);
  expect(stamps.dropBelow(20 as Seq)).toEqual([10]);
  expect([stamps.named(1500), stamps.named(2500)]).toEqual(["not any more", 20]);
  expect(stamps.dropBelow(99 as Seq)).toEqual([20, 30]);
  expect(stamps.newest).toBeNull();
});

test("they are as many as the spacing wants, and the last before a quiet time is one", () => {
  const stamps = new Stamps();
  for (let second = 1; second <= 10_000; second++) stamps.add(second as Seq, second * 1000, 60_000);
  expect(stamps.all.length).toBeLessThan((2 * 10_000) / 60);
  stamps.add(20_000 as Seq, 20_000_000, 60_000);
  expect(stamps.named(19_000_000)).toBe(10_000);
});

test("beyond their number the oldest go", () => {
  const stamps = new Stamps();
  let gone = 0;
  for (let seq = 1; seq <= stampsMax + 10; seq++) gone += stamps.add(seq as Seq, seq, 0).length;
  expect([gone, stamps.all.length, stamps.named(10), stamps.named(11)]).toEqual([10, stampsMax, "not any more", 11]);
});

test("what a time has once named it names for good; a copy tells the same", () => {
  const step = fc.record({ seqs: fc.integer({ min: 1, max: 9 }), ms: fc.integer({ min: -50, max: 400 }) });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 0, max: 500 }),
      fc.array(fc.integer({ min: 0, max: 9000 }), { maxLength: 8 }),
      (steps, spacingMs, times) => {
        const stamps = new Stamps();
        const known = new Map<number, Seq>();
        let [seq, nowMs] = [0, 1000];
        for (const one of steps) {
          seq += one.seqs;
          nowMs += one.ms;
          const gone = stamps.add(seq as Seq, nowMs, spacingMs);
          for (const lost of gone) expect([...known.values()]).not.toContain(lost);
          for (const time of times) {
            const named = stamps.named(time);
            if (known.has(time)) expect(named).toBe(known.get(time));
            else if (typeof named === "number") known.set(time, named);
          }
        }
        const copy = new Stamps();
        for (const one of [...stamps.all].reverse()) copy.load(one.seq, one.timeMs);
        expect(copy.all).toEqual(stamps.all);
      },
    ),
  );
});
