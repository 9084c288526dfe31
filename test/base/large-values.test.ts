import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedBytesError } from "../../src/base/bytes.js";
import {
  attachValues,
  chunkKeys,
  chunksOf,
  detachValues,
  finderOf,
  hashOfValue,
  largeValueBytes,
  nameOfValue,
  referencesOf,
  rowWeight,
  valueChunkBytes,
} from "../../src/base/large-values.js";
import { decodeRow, encodeRow, MissingValueError, referredBytes, type SqlValue } from "../../src/base/values.js";

function rowOf(...values: readonly SqlValue[]): Buffer {
  return encodeRow(values.map((value, index) => ({ columnId: index + 1, value })));
}

const large = fc
  .tuple(fc.boolean(), fc.integer({ min: largeValueBytes - 2, max: largeValueBytes + 2 }), fc.constantFrom("a", "ä", "\u{1f600}", "\ufeff"))
  .map(
    ([isText, byteCount, letter]): SqlValue =>
      isText ? letter.repeat(Math.ceil(byteCount / Buffer.byteLength(letter))) : Buffer.alloc(byteCount, letter),
  );
const small = fc.oneof(fc.constant(null), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.double(), fc.string(), fc.uint8Array());

describe("large values", () => {
  test("come out of a row, weigh what they did in it, and go back as they were", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof({ weight: 4, arbitrary: small }, { weight: 1, arbitrary: large }), { minLength: 1, maxLength: 6 }), (values) => {
        const row = rowOf(...values);
        const { row: out, values: taken } = detachValues(row);
        const isLarge = (value: SqlValue): boolean =>
          (typeof value === "string" ? Buffer.byteLength(value) : value instanceof Uint8Array ? value.length : 0) > largeValueBytes;
        expect(taken).toHaveLength(values.filter(isLarge).length);
        const bytes = taken.reduce((sum, value) => sum + value.bytes.length, 0);
        expect(referredBytes(out)).toBe(bytes);
        expect(rowWeight(out)).toBe(out.length + bytes);
        expect(Math.abs(rowWeight(out) - row.length)).toBeLessThan(60 * (taken.length + 1));
        expect(referencesOf(out).map(({ hash }) => nameOfValue(hash))).toEqual(taken.map(({ hash }) => nameOfValue(hash)));
        const find = finderOf(new Map(taken.map((value) => [nameOfValue(value.hash), value.bytes])));
        expect(attachValues(out, find).equals(row)).toBe(true);
        expect(detachValues(attachValues(out, find)).row.equals(out)).toBe(true);
        expect(encodeRow(decodeRow(out, find)).equals(row)).toBe(true);
        if (taken.length === 0) return;
        expect(() => decodeRow(out)).toThrow(MissingValueError);
        expect(() => attachValues(out, () => undefined)).toThrow(MissingValueError);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test("equal ones have one name; one of 65,536 bytes stays in its row, one of 65,537 does not", () => {
    const [stays, goes] = [rowOf("x".repeat(largeValueBytes)), rowOf("x".repeat(largeValueBytes + 1), Buffer.alloc(largeValueBytes + 1, "x"))];
    expect(detachValues(stays)).toEqual({ row: stays, values: [] });
    const [text, blob] = detachValues(goes).values;
    expect(text?.hash).toEqual(blob?.hash);
    expect(referencesOf(detachValues(goes).row).map(({ type }) => type)).toEqual(["text", "blob"]);
  });

  test("are kept in chunks between two keys", () => {
    const bytes = Buffer.from(Array.from({ length: 3 * valueChunkBytes + 1 }, (_, index) => index % 251));
    const value = { hash: hashOfValue(bytes), bytes };
    const chunks = chunksOf(value);
    expect(chunks.map((one) => one.bytes.length)).toEqual([valueChunkBytes, valueChunkBytes, valueChunkBytes, 1]);
    expect(Buffer.concat(chunks.map((one) => one.bytes)).equals(bytes)).toBe(true);
    const { low, high } = chunkKeys(value.hash);
    for (const { key } of chunks) expect(Buffer.compare(key, low) >= 0 && Buffer.compare(key, high) < 0).toBe(true);
  });

  test("a row that is cut short within a reference is malformed", () => {
    const { row } = detachValues(rowOf("x".repeat(largeValueBytes + 1)));
    for (let length = 2; length < row.length; length++)
      expect(() => decodeRow(row.subarray(0, length), () => Buffer.alloc(0))).toThrow(MalformedBytesError);
  });

  test("a byte order mark is text", () => {
    expect(decodeRow(rowOf("\ufeffa", "\ufeff"))).toEqual([
      { columnId: 1, value: "\ufeffa" },
      { columnId: 2, value: "\ufeff" },
    ]);
  });
});
