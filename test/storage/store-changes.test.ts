import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { largeValueSpace, type Seq, type SpaceId } from "../../src/base/ids.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import type { RowIndex } from "../../src/base/row-index.js";
import type { StoreChange } from "../../src/storage/atom-store.js";
import { readStoreChanges, StoreChangesWriter, storeChangesOf } from "../../src/storage/store-changes.js";

function indexOf(space: number, missing: bigint | Uint8Array | null): RowIndex {
  return { space: space as SpaceId, columns: [{ columnId: space % 7, collation: "NOCASE", descending: space % 2 === 0, missing }] };
}

const lists: readonly (readonly RowIndex[])[] = [[], [indexOf(9, 5n)], [indexOf(9, 5n), indexOf(10, Uint8Array.of(120))], [indexOf(12, null)]];

function randomChange(random: Random, seq: Seq): StoreChange {
  const space = (5 + random.integer(3) * 2 ** 49) as SpaceId;
  const key = Buffer.alloc(1 + random.integer(30), random.integer(256));
  const indexes = lists[random.integer(lists.length)] as readonly RowIndex[];
  switch (random.integer(12)) {
    case 0:
      return { kind: "drop", space, seq, bytes: 12_345 };
    case 1:
      return { kind: "index", space, seq, index: indexOf(random.integer(100), null) };
    case 2:
      return { kind: "value", space: largeValueSpace, hash: Buffer.alloc(32, random.integer(256)), bytes: Buffer.alloc(random.integer(200_000), 7) };
    case 3:
    case 4:
      return { kind: "delete", space, key, seq, indexes };
    default:
      return { kind: "put", space, key, row: Buffer.alloc(random.integer(3000), seq), seq, isNew: random.integer(2) === 0, indexes };
  }
}

/** Bytes by their hash: to compare hundreds of kilobytes one by one takes seconds. */
function told(changes: Iterable<StoreChange>): string[] {
  const text = (_name: string, value: unknown): unknown => (typeof value === "bigint" ? `${value}n` : value);
  return [...changes].map((change) => {
    const bytes = Object.values(change).filter((one) => one instanceof Uint8Array);
    const rest = Object.fromEntries(Object.entries(change).filter(([, one]) => !(one instanceof Uint8Array)));
    return `${JSON.stringify(rest, text)} ${bytes.map((one) => createHash("sha1").update(one).digest("hex"))}`;
  });
}

test("what is read is what was added, batch for batch, also while it is being written", () => {
  const random = seededRandom(3);
  const writer = new StoreChangesWriter();
  let chunkCount = 0;
  for (let round = 0; round < 40; round++) {
    const added: StoreChange[] = [];
    for (let count = random.integer(round % 4 === 0 ? 1000 : 20); count > 0; count--) {
      added.push(randomChange(random, (1 + random.integer(5)) as Seq));
      writer.add(added.at(-1) as StoreChange);
    }
    expect(told(writer.read())).toEqual(told(added));
    const bytes = writer.byteCount;
    const taken = writer.take();
    expect(told(readStoreChanges(taken.chunks))).toEqual(told(added));
    expect([taken.count, taken.byteCount]).toEqual([added.length, bytes]);
    expect(taken.chunks.reduce((sum, { length }) => sum + length, 0)).toBe(bytes);
    // No copy is a long one, however much there is.
    for (const chunk of taken.chunks) expect(chunk.length).toBeLessThan(256 * 1024 + 200_100);
    chunkCount = Math.max(chunkCount, taken.chunks.length);
    expect([writer.count, writer.byteCount, [...writer.read()]]).toEqual([0, 0, []]);
  }
  expect(chunkCount).toBeGreaterThan(5);
});

test("rows that follow each other in one table cost little more than their bytes", () => {
  const rows = Array.from({ length: 1000 }, (_, index): StoreChange => {
    const space = (7 * 2 ** 40) as SpaceId;
    return {
      kind: "put",
      space,
      key: Buffer.alloc(9, index),
      row: Buffer.alloc(40),
      seq: 8 as Seq,
      isNew: true,
      indexes: lists[2] as readonly RowIndex[],
    };
  });
  expect(storeChangesOf(rows).byteCount).toBeLessThan(1000 * (9 + 40 + 3) + 100);
});

test("bytes that are no changes are refused", () => {
  expect(() => [...readStoreChanges([Buffer.from([99])])]).toThrow(/unknown kind/);
  const [chunk] = storeChangesOf([{ kind: "delete", space: 5 as SpaceId, key: Buffer.alloc(9), seq: 1 as Seq }]).chunks;
  expect(() => [...readStoreChanges([(chunk as Uint8Array).subarray(0, -1)])]).toThrow(/bytes wanted/);
});
