import Sqlite from "better-sqlite3";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sortKeyBytesMax } from "../../src/base/limits.js";
import { type Collation, decodeIntegerKey, decodeSortKey, encodeSortKey, encodeSortKeyOf, integerKey } from "../../src/base/sort-key.js";
import type { SqlValue } from "../../src/base/values.js";

const database = new Sqlite(":memory:");
database.defaultSafeIntegers(true);
database.exec("CREATE TABLE binary_t(i INTEGER PRIMARY KEY, a BLOB, b BLOB)");

const edgeIntegers = [0n, 1n, -1n, 5n, 2n ** 53n, 2n ** 62n, 2n ** 63n - 1n, -(2n ** 63n), -(2n ** 53n), 2n ** 48n].flatMap((edge) =>
  [-2n, -1n, 0n, 1n, 2n, 511n, 513n].map((step) => BigInt.asIntN(64, edge + step)),
);
const integer = fc.oneof(fc.constantFrom(...edgeIntegers), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const real = fc.oneof(
  fc.constantFrom(0, -0, 5, 5.5, Infinity, -Infinity, 2 ** 53, 2 ** 53 + 2, 2 ** 63, -(2 ** 63), 2 ** 62, 5e-324, -5e-324, Number.MAX_VALUE),
  fc.double({ noNaN: true }),
  integer.map(Number),
);
const text = fc.oneof(
  fc.constantFrom(
    "",
    "a",
    "A",
    "a ",
    "a  ",
    "a\u0000",
    "a\u0000b",
    "A\u0000c",
    "ab",
    "\u0000",
    "é",
    "É",
    "\u{1F600}",
    "\uFFFD",
    "Z",
    "[",
    "`",
    "z",
    " ",
  ),
  fc.string({ unit: "binary", maxLength: 5 }),
  fc.array(fc.constantFrom("a", "A", "b", " ", "\u0000", "\u{1F600}", "\uE000"), { maxLength: 5 }).map((list) => list.join("")),
);
const blob = fc.oneof(
  fc.uint8Array({ maxLength: 4 }),
  fc.array(fc.constantFrom(0, 1, 255), { maxLength: 4 }).map((list) => Uint8Array.from(list)),
);
const value: fc.Arbitrary<SqlValue> = fc.oneof(fc.constant(null), integer, real, text, blob);
const collation = fc.constantFrom<Collation>("BINARY", "NOCASE", "RTRIM");

function sqliteOrder(
  left: readonly SqlValue[],
  right: readonly SqlValue[],
  orders: readonly { collation: Collation; descending: boolean }[],
): number {
  for (const [index, order] of orders.entries()) {
    const [a, b] = [left[index] ?? null, right[index] ?? null];
    const row = database
      .prepare(
        `SELECT (SELECT group_concat(tag, '') FROM (SELECT 'a' AS tag, ? AS v UNION ALL SELECT 'b', ? ORDER BY v COLLATE ${order.collation}, tag)) AS ab,
                (SELECT group_concat(tag, '') FROM (SELECT 'b' AS tag, ? AS v UNION ALL SELECT 'a', ? ORDER BY v COLLATE ${order.collation}, tag DESC)) AS ba`,
      )
      .get(a, b, b, a) as { ab: string; ba: string };
    if (row.ab === row.ba) return (row.ab === "ab" ? -1 : 1) * (order.descending ? -1 : 1);
  }
  return 0;
}

describe("sort keys", () => {
  test("the order of two keys is SQLite's ORDER BY of the values", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(value, value, collation, fc.boolean()), { minLength: 1, maxLength: 3 }), (columns) => {
        const orders = columns.map(([, , name, descending]) => ({ collation: name, descending }));
        const left = columns.map(([a]) => a);
        const right = columns.map(([, b]) => b);
        const mine = Buffer.compare(encodeSortKeyOf(left, orders), encodeSortKeyOf(right, orders));
        expect(Math.sign(mine)).toBe(sqliteOrder(left, right, orders));
      }),
      { numRuns: 6000, seed: 1 },
    );
  });

  test("numbers compare exactly around 2^53 and 2^63", () => {
    const numbers: (bigint | number)[] = [...edgeIntegers, ...edgeIntegers.map(Number), Infinity, -Infinity, 0.5, -0.5];
    const order = [{ collation: "BINARY" as const, descending: false }];
    for (const a of numbers) {
      for (const b of numbers) {
        const mine = Buffer.compare(encodeSortKeyOf([a], order), encodeSortKeyOf([b], order));
        // JavaScript compares bigint and number exactly.
        expect(Math.sign(mine), `${a} ${b}`).toBe(a < b ? -1 : a > b ? 1 : 0);
      }
    }
  });

  test("5 is 5.0 and −0 is 0", () => {
    expect(encodeSortKey([{ value: 5n }])).toEqual(encodeSortKey([{ value: 5 }]));
    expect(encodeSortKey([{ value: -0 }])).toEqual(encodeSortKey([{ value: 0n }]));
    expect(encodeSortKey([{ value: Number.NaN }])).toEqual(encodeSortKey([{ value: null }]));
  });

  test("integers come back from their keys", () => {
    fc.assert(fc.property(integer, (one) => decodeIntegerKey(integerKey(one)) === one));
  });

  test("decoded values have the key that they came from, where there is one", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(value, collation, fc.boolean()), { minLength: 1, maxLength: 3 }), (columns) => {
        const orders = columns.map(([, name, descending]) => ({ collation: name, descending }));
        const key = encodeSortKeyOf(
          columns.map(([one]) => one),
          orders,
        );
        const decoded = decodeSortKey(key, orders);
        if (decoded === null)
          expect(columns.some(([one, name]) => typeof one === "string" && name === "NOCASE" && one.includes("\u0000"))).toBe(true);
        else expect(encodeSortKeyOf(decoded, orders)).toEqual(key);
      }),
      { numRuns: 2000, seed: 2 },
    );
  });

  test("long keys are cut to a prefix and a hash, and stay apart", () => {
    const long = (end: string): Buffer => encodeSortKey([{ value: `${"x".repeat(5000)}${end}` }]);
    expect(long("a").length).toBe(sortKeyBytesMax);
    expect(long("a")).not.toEqual(long("b"));
    expect(long("a")).toEqual(long("a"));
    expect(encodeSortKey([{ value: "x".repeat(sortKeyBytesMax - 4) }]).length).toBe(sortKeyBytesMax - 1);
    expect(decodeSortKey(long("a"), [{ collation: "BINARY", descending: false }])).toBeNull();
  });
});
