/** One test for each row of the decision tables in journal-recovery.ts, by its label. */
import { describe, expect, test } from "vitest";
import { chainHash } from "../../src/base/chain-hash.js";
import type { Seq, Term } from "../../src/base/ids.js";
import type { LogEntry } from "../../src/base/log-entry.js";
import { crc32 } from "../../src/storage/checksum.js";
import { createFileJournal, openFileJournal } from "../../src/storage/file-journal.js";
import type { FileSystem } from "../../src/storage/file-system.js";
import type { Journal, JournalHandlers, RecoveredJournal } from "../../src/storage/journal.js";
import { encodeRecord, findRecord, type JournalRecord } from "../../src/storage/journal-record.js";
import { createSegment, decodeSegmentHeader, segmentHeadBytes, segmentName } from "../../src/storage/journal-segment.js";
import { type Image, imageFiles } from "./crash-disk.js";
import { readAll } from "./journal-conformance.js";
import { entriesAfter, hashes, origin, positionOf } from "./log.js";

const directory = "/journal";
const silent: JournalHandlers = {
  onDurable: () => {},
  onFailure: (error) => {
    throw error;
  },
};

async function appendEach(journal: Journal, entries: readonly LogEntry[]): Promise<void> {
  for (const entry of entries) {
    journal.append({ truncateFrom: null, entries: [entry], commitSeq: 0 as Seq });
    // Each in a write of its own.
    for (let turn = 0; turn < 60; turn++) await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A closed journal of entries 1 to `count`, each written alone: one sector each. */
async function build(count: number): Promise<{ image: Image; entries: LogEntry[] }> {
  const image: Image = new Map();
  const journal = await createFileJournal({ directory, base: origin, handlers: silent, segmentBytes: 4096, files: imageFiles(image) });
  const entries = entriesAfter(origin, count);
  await appendEach(journal, entries);
  await journal.close();
  return { image, entries };
}

function open(image: Image, appliedSeq = 0, files: FileSystem = imageFiles(image)): Promise<RecoveredJournal> {
  return openFileJournal({ directory, handlers: silent, appliedSeq: appliedSeq as Seq, segmentBytes: 4096, files });
}

async function expectEntries(image: Image, entries: readonly LogEntry[]): Promise<void> {
  const recovered = await open(image);
  expect(recovered.damage).toBeNull();
  expect(hashes(await readAll(recovered.journal, 1))).toEqual(hashes(entries));
  await recovered.journal.close();
}

const pathOf = (index: number): string => `${directory}/${segmentName(index)}`;

function segment(image: Image, index: number): Buffer {
  const bytes = image.get(pathOf(index));
  if (bytes === undefined) throw new Error(`no segment ${index}`);
  return bytes;
}

function recordsOf(bytes: Buffer): { record: JournalRecord; at: number }[] {
  const salt = decodeSegmentHeader(bytes)?.salt ?? Buffer.alloc(8);
  const found: { record: JournalRecord; at: number }[] = [];
  for (let next = findRecord(bytes, segmentHeadBytes, salt); next !== null; next = findRecord(bytes, next.record.endBytes, salt)) found.push(next);
  return found;
}

/** Where the record of an entry is. */
function placeOf(image: Image, seq: number): { index: number; bytes: Buffer; at: number } {
  for (const path of [...image.keys()].sort()) {
    const bytes = image.get(path) ?? Buffer.alloc(0);
    const found = recordsOf(bytes).find(({ record }) => record.kind === "entry" && record.position.seq === seq);
    if (found !== undefined) return { index: Number(/(\d+)\./.exec(path)?.[1]), bytes, at: found.at };
  }
  throw new Error(`no record of ${seq}`);
}

function spoil(bytes: Buffer, at: number): void {
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x40, at);
}

function indexes(image: Image): number[] {
  return [...image.keys()].map((path) => Number(/(\d+)\.journal$/.exec(path)?.[1])).sort((left, right) => left - right);
}

describe("journal recovery: going on from the last good record", () => {
  test("next, end: everything that was written, and then zeros", async () => {
    const { image, entries } = await build(4);
    await expectEntries(image, entries);
  });

  test("torn: an unreadable end is cut", async () => {
    const { image, entries } = await build(4);
    const { bytes, at } = placeOf(image, 4);
    spoil(bytes, at + 100);
    await expectEntries(image, entries.slice(0, 3));
  });

  test("torn: later sectors of the torn write may have reached the disk before its first", async () => {
    const { image, entries } = await build(2);
    const { journal } = await open(image);
    journal.append({ truncateFrom: null, entries: entriesAfter(journal.last, 3), commitSeq: 0 as Seq });
    await journal.close();
    const { bytes, at } = placeOf(image, 3);
    bytes.fill(0, at, at + 100);
    await expectEntries(image, entries);
  });

  test("old content: valid records of a write that was cut stay behind new ones, and count for nothing", async () => {
    const { image, entries } = await build(2);
    const first = await open(image);
    const lost = entriesAfter(first.journal.last, 3, 1, () => 600);
    first.journal.append({ truncateFrom: null, entries: lost, commitSeq: 0 as Seq });
    await first.journal.close();
    const { bytes, at } = placeOf(image, 3);
    spoil(bytes, at + 90);
    const second = await open(image);
    expect(second.damage).toBeNull();
    expect(second.journal.last.seq).toBe(2);
    const fresh = entriesAfter(second.journal.last, 1, 2, () => 20);
    second.journal.append({ truncateFrom: null, entries: fresh, commitSeq: 0 as Seq });
    await second.journal.close();
    expect(placeOf(image, 4).at).toBeGreaterThan(placeOf(image, 3).at);
    await expectEntries(image, [...entries, ...fresh]);
  });

  test("rotten: an unreadable record before one that was written later is damage, and nothing is cut", async () => {
    const { image } = await build(5);
    const { bytes, at } = placeOf(image, 3);
    spoil(bytes, at + 80);
    const before = new Map([...image].map(([path, content]) => [path, Buffer.from(content)]));
    const recovered = await open(image);
    expect(recovered.damage).toMatchObject({ from: 3, through: 5 });
    expect(recovered.journal.last.seq).toBe(2);
    await recovered.journal.close();
    expect(image).toEqual(before);
  });
});

describe("journal recovery: a segment as a whole", () => {
  test("anchored: segments go on from one another", async () => {
    const { image, entries } = await build(40);
    expect(indexes(image).length).toBeGreaterThan(4);
    await expectEntries(image, entries);
  });

  test("blank: the newest, whose first write was torn, is used again", async () => {
    const { image, entries } = await build(10);
    const last = placeOf(image, 10);
    for (const index of indexes(image)) if (index > last.index) image.delete(pathOf(index));
    const first = recordsOf(last.bytes).find(({ record }) => record.kind === "entry")?.record.position.seq ?? 0;
    // Only the segment's first write, and of that not the anchor.
    last.bytes.fill(0, segmentHeadBytes + 512);
    spoil(last.bytes, segmentHeadBytes + 60);
    const kept = entries.slice(0, first - 1);
    await expectEntries(image, kept);
    const { journal } = await open(image);
    const more = entriesAfter(positionOf(kept.at(-1)), 12, 2);
    await appendEach(journal, more);
    await journal.close();
    await expectEntries(image, [...kept, ...more]);
  });

  test("headless: the newest, all zeros, is made anew", async () => {
    const { image, entries } = await build(3);
    const newest = indexes(image).at(-1) ?? 0;
    segment(image, newest).fill(0);
    const { journal, damage } = await open(image);
    expect(damage).toBeNull();
    const more = entriesAfter(journal.last, 20);
    await appendEach(journal, more);
    await journal.close();
    await expectEntries(image, [...entries, ...more]);
  });

  test("unreadable: a segment whose header or anchor has rotted is damage", async () => {
    for (const at of [20, segmentHeadBytes + 30]) {
      const { image } = await build(30);
      const first = recordsOf(segment(image, 3)).find(({ record }) => record.kind === "entry")?.record.position.seq ?? 0;
      spoil(segment(image, 3), at);
      const { journal, damage } = await open(image);
      expect(damage).toMatchObject({ from: first, through: 30 });
      expect(journal.last.seq).toBe(first - 1);
      await journal.close();
    }
  });

  test("missing: a segment that is not there is damage", async () => {
    const { image } = await build(30);
    const first = recordsOf(segment(image, 2)).find(({ record }) => record.kind === "entry")?.record.position.seq ?? 0;
    image.delete(pathOf(2));
    expect((await open(image)).damage).toMatchObject({ from: first, through: 30 });
  });

  test("gap: an anchor that names more than was read is damage", async () => {
    const { image } = await build(30);
    const bytes = segment(image, 2);
    const last = recordsOf(bytes).at(-1);
    bytes.fill(0, last?.at);
    expect((await open(image)).damage).toMatchObject({ from: last?.record.position.seq, through: 30 });
  });

  test("reset: older segments are void, their damage too, and removed", async () => {
    const { image } = await build(30);
    spoil(segment(image, 2), segmentHeadBytes + 30);
    const old = new Map(image);
    const { journal, damage } = await open(image);
    expect(damage).not.toBeNull();
    const base = positionOf(entriesAfter(origin, 90, 4).at(-1));
    await journal.reset(base);
    const entries = entriesAfter(base, 5, 4);
    await appendEach(journal, entries);
    await journal.close();
    for (const [path, bytes] of old) if (!image.has(path)) image.set(path, bytes);
    const recovered = await open(image, 90);
    expect(recovered.damage).toBeNull();
    expect(recovered.journal.base).toEqual(base);
    expect(hashes(await readAll(recovered.journal, 91))).toEqual(hashes(entries));
    expect(image.has(pathOf(2))).toBe(false);
    await recovered.journal.close();
  });

  test("repaired, unfinished: a repair goes on over the damage, and counts when it has reached what was there", async () => {
    const { image, entries } = await build(30);
    spoil(segment(image, 2), placeOf(image, 9).at + 80);
    const first = await open(image);
    expect(first.damage).toMatchObject({ from: 9, through: 30 });
    await appendEach(first.journal, entries.slice(8, 14));
    await first.journal.removeThrough(14 as Seq);
    expect(first.journal.base.seq).toBe(0);
    await first.journal.close();
    const second = await open(image);
    expect(second.damage).toMatchObject({ from: 15, through: 30 });
    expect(hashes(await readAll(second.journal, 1))).toEqual(hashes(entries.slice(0, 14)));
    await appendEach(second.journal, entries.slice(14));
    await second.journal.close();
    await expectEntries(image, entries);
    const third = await open(image);
    await third.journal.removeThrough(30 as Seq);
    expect(third.journal.base.seq).toBeGreaterThan(14);
    await third.journal.close();
  });
});

describe("journal recovery: at the end", () => {
  test("sound: the commit seq that was recorded comes back", async () => {
    const { image, entries } = await build(4);
    const { journal } = await open(image);
    const more = entriesAfter(journal.last, 2);
    journal.append({ truncateFrom: null, entries: more, commitSeq: 6 as Seq });
    await journal.close();
    const recovered = await open(image);
    // No further than what was durable when it was written.
    expect(recovered.commitSeq).toBe(4);
    expect(hashes(await readAll(recovered.journal, 1))).toEqual(hashes([...entries, ...more]));
    await recovered.journal.close();
  });

  test("below commit: a record names a commit seq beyond the end", async () => {
    const image: Image = new Map();
    const salt = Buffer.from("saltsalt");
    const made = await createSegment(imageFiles(image), directory, 1, 4096, salt);
    const bytes = Buffer.alloc(512);
    const write = { salt, writeId: 1, durableEndBytes: segmentHeadBytes, through: 0 as Seq };
    const anchor = { kind: "anchor", position: origin, previousHash: origin.hash, commitSeq: 0 as Seq, payload: Buffer.alloc(0) } as const;
    const [entry] = entriesAfter(origin, 1);
    if (entry === undefined) throw new Error("no entry");
    const at = encodeRecord(bytes, 0, segmentHeadBytes, write, anchor);
    const record = { kind: "entry", position: positionOf(entry), previousHash: origin.hash, commitSeq: 5 as Seq, payload: entry.bytes } as const;
    encodeRecord(bytes, at, segmentHeadBytes + at, write, record);
    await made.file.write(bytes, segmentHeadBytes);
    expect((await open(image)).damage).toMatchObject({ from: 2, through: 5 });
  });

  test("below store: the atom store has applied beyond the end", async () => {
    const { image } = await build(4);
    expect((await open(image, 4)).damage).toBeNull();
    expect((await open(image, 7)).damage).toMatchObject({ from: 5, through: 7 });
  });

  test("baseless: without a readable beginning there is nothing to go on from", async () => {
    const { image } = await build(4);
    spoil(segment(image, 1), segmentHeadBytes + 30);
    await expect(open(image)).rejects.toMatchObject({ code: "ATOMCAST_JOURNAL_DAMAGED" });
    await expect(open(new Map())).rejects.toMatchObject({ code: "ATOMCAST_JOURNAL_DAMAGED" });
  });

  test("a newer format is named, and nothing is touched", async () => {
    const { image } = await build(4);
    const bytes = segment(image, 1);
    bytes.writeUInt32BE(2, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(0, 26)), 26);
    await expect(open(image)).rejects.toMatchObject({ code: "ATOMCAST_NEWER_FORMAT" });
  });
});

describe("journal on disk: what users and disks do", () => {
  test("an entry that holds records of this very segment is not taken for them when it is torn", async () => {
    const image: Image = new Map();
    const files = imageFiles(image);
    const journal = await createFileJournal({ directory, base: origin, handlers: silent, segmentBytes: 65_536, files });
    const entries = entriesAfter(origin, 2);
    await appendEach(journal, entries);
    const forged = Buffer.alloc(4096);
    const salt = decodeSegmentHeader(segment(image, 1))?.salt ?? Buffer.alloc(8);
    const write = { salt, writeId: 1, durableEndBytes: 60_000, through: 0 as Seq };
    const record = { kind: "truncate", position: origin, previousHash: origin.hash, commitSeq: 2 as Seq, payload: Buffer.alloc(0) } as const;
    // Wherever its payload begins, these are where a record might be; each says that it is somewhere else.
    for (let at = 4; at + 80 < forged.length; at += 80) encodeRecord(forged, at, at, write, record);
    const bytes = Buffer.from(forged);
    const hash = chainHash(journal.last.hash, 1 as Term, bytes);
    journal.append({ truncateFrom: null, entries: [{ seq: 3 as Seq, term: 1 as Term, hash, bytes }], commitSeq: 0 as Seq });
    await journal.close();
    spoil(segment(image, 1), placeOf(image, 3).at + 20);
    expect(segment(image, 1).indexOf(salt, 4000)).toBeGreaterThan(0);
    await expectEntries(image, entries);
  });

  test("entries larger than a segment have one of their own", async () => {
    const image: Image = new Map();
    const journal = await createFileJournal({ directory, base: origin, handlers: silent, segmentBytes: 4096, files: imageFiles(image) });
    const entries = entriesAfter(origin, 9, 1, (seq) => (seq % 3 === 0 ? 100_000 : 100));
    await appendEach(journal, entries);
    expect(hashes(await readAll(journal, 1, 10))).toEqual(hashes(entries));
    await journal.close();
    await expectEntries(image, entries);
  });

  test("a full disk, or one that fails, is told once; nothing is durable after it, and what was stays", async () => {
    for (const code of ["ENOSPC", "EIO"]) {
      const image: Image = new Map();
      let isBroken = false;
      const inner = imageFiles(image);
      const files: FileSystem = {
        ...inner,
        open: async (path, mode) => {
          const file = await inner.open(path, mode);
          const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
            if (isBroken) throw Object.assign(new Error(code), { code });
            await file.write(bytes, offset);
          };
          return { ...file, write };
        },
      };
      const durable: number[] = [];
      const failures: Error[] = [];
      const handlers: JournalHandlers = { onDurable: (position) => durable.push(position.seq), onFailure: (error) => failures.push(error) };
      const journal = await createFileJournal({ directory, base: origin, handlers, segmentBytes: 4096, files });
      const entries = entriesAfter(origin, 6);
      await appendEach(journal, entries.slice(0, 3));
      isBroken = true;
      await appendEach(journal, entries.slice(3, 4));
      isBroken = false;
      await appendEach(journal, entries.slice(4));
      expect(durable.at(-1)).toBe(3);
      expect(failures).toHaveLength(1);
      expect(failures[0]).toMatchObject({ code: "ATOMCAST_JOURNAL_FAILED" });
      await expect(journal.reset(origin)).rejects.toBe(failures[0]);
      await journal.close();
      await expectEntries(image, entries.slice(0, 3));
    }
  });

  test("what is queued while a write is under way goes with the next write", async () => {
    const image: Image = new Map();
    const writes: number[] = [];
    const inner = imageFiles(image);
    const files: FileSystem = {
      ...inner,
      open: async (path, mode) => {
        const file = await inner.open(path, mode);
        const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
          if (mode === "durable") writes.push(bytes.length);
          await new Promise((resolve) => setTimeout(resolve, mode === "durable" ? 3 : 0));
          await file.write(bytes, offset);
        };
        return { ...file, write };
      },
    };
    const journal = await createFileJournal({ directory, base: origin, handlers: silent, segmentBytes: 1 << 20, files });
    writes.length = 0;
    const entries = entriesAfter(origin, 101);
    for (const entry of entries.slice(0, 1)) journal.append({ truncateFrom: null, entries: [entry], commitSeq: 0 as Seq });
    await new Promise((resolve) => setTimeout(resolve, 1));
    for (const entry of entries.slice(1)) journal.append({ truncateFrom: null, entries: [entry], commitSeq: 0 as Seq });
    await journal.close();
    expect(writes.length).toBe(2);
    await expectEntries(image, entries);
  });
});
