import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { type ChainHash, chainHash } from "../../src/base/chain-hash.js";
import type { NodeId, Seq, Term } from "../../src/base/ids.js";
import type { LogPosition } from "../../src/base/log-entry.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import { createFileJournal, openFileJournal } from "../../src/storage/file-journal.js";
import { type FileSystem, nodeFileSystem } from "../../src/storage/file-system.js";
import { createFileVoteStore, openFileVoteStore } from "../../src/storage/file-vote-store.js";
import type { Journal, JournalHandlers } from "../../src/storage/journal.js";
import { CrashRecord, type Image, imageFiles } from "./crash-disk.js";
import { readAll } from "./journal-conformance.js";
import { entriesAfter, origin, positionOf } from "./log.js";

/** What was asked of the journal, as the positions it went through, and how far it has said that it is durable. */
interface Story {
  readonly states: { readonly hash: ChainHash; readonly moment: number }[];
  readonly durable: { readonly state: number; readonly seq: number; readonly moment: number }[];
  removedThrough: number;
}

const directory = "/journal";
const failed = (error: Error): never => {
  throw error;
};

/** Appends, truncates, removes and resets at random. `commitSeq` follows what is durable, as an Archive's does. */
async function live(journal: Journal, story: Story, record: CrashRecord, random: Random, steps: number, term: number, committed = 0): Promise<void> {
  const note = (hash: ChainHash): void => void story.states.push({ hash, moment: record.now });
  const durableSeq = (): number => story.durable.at(-1)?.seq ?? journal.base.seq;
  let commitSeq = Math.max(committed, journal.base.seq);
  let termNow = term;
  for (let step = 0; step < steps; step++) {
    const choice = random.integer(40);
    if (choice === 0) {
      const base: LogPosition = {
        seq: (journal.last.seq + 10) as Seq,
        term: termNow as Term,
        hash: chainHash(journal.last.hash, termNow as Term, Buffer.from("reset")),
      };
      note(base.hash);
      await journal.reset(base);
      story.durable.push({ state: story.states.length - 1, seq: base.seq, moment: record.now });
      commitSeq = base.seq;
      story.removedThrough = base.seq;
    } else if (choice < 5 && durableSeq() > journal.base.seq) {
      const seq = Math.min(commitSeq, journal.base.seq + random.integer(30));
      story.removedThrough = Math.max(story.removedThrough, seq);
      await journal.removeThrough(seq as Seq);
    } else {
      const from = choice < 14 && journal.last.seq > commitSeq ? commitSeq + 1 + random.integer(journal.last.seq - commitSeq) : null;
      if (from !== null) termNow++;
      const after = from === null ? journal.last : await positionAt(journal, from - 1);
      const count = random.integer(5);
      const entries = entriesAfter(after, count, termNow, () => (random.integer(25) === 0 ? 9000 : random.integer(700)));
      if (from !== null) note(after.hash);
      for (const entry of entries) note(entry.hash);
      journal.append({ truncateFrom: from as Seq | null, entries, commitSeq: commitSeq as Seq });
    }
    for (let pause = random.integer(4); pause > 0; pause--) await new Promise((resolve) => setImmediate(resolve));
    if (random.integer(3) === 0) commitSeq = Math.max(commitSeq, Math.min(durableSeq(), journal.last.seq) - random.integer(4));
  }
}

async function positionAt(journal: Journal, seq: number): Promise<LogPosition> {
  if (seq === journal.base.seq) return journal.base;
  const entries = await journal.read(seq as Seq, 1);
  return entries === "gone" ? journal.base : positionOf(entries[0]);
}

function handlersOf(story: Story, record: CrashRecord) {
  return {
    onDurable: (position: LogPosition) => {
      const before = story.durable.at(-1)?.state ?? 0;
      const state = story.states.findIndex((one, index) => index >= before && one.hash === position.hash);
      expect(state, `position ${position.seq} was never asked for, or was durable before`).toBeGreaterThanOrEqual(0);
      story.durable.push({ state, seq: position.seq, moment: record.now });
    },
    onFailure: failed,
  };
}

/** The image recovers to a state that was asked for, no older than what was durable; returns the journal to go on with. */
async function expectSound(
  image: Image,
  story: Story,
  moment: number,
  handlers: JournalHandlers = { onDurable: () => {}, onFailure: failed },
  files: FileSystem = imageFiles(image),
) {
  const durable = story.durable.filter((one) => one.moment <= moment).at(-1);
  const recovered = await openFileJournal({ directory, appliedSeq: 0 as Seq, handlers, segmentBytes: 4096, files });
  expect(recovered.damage).toBeNull();
  const { journal } = recovered;
  const state = story.states.findIndex((one, index) => index >= (durable?.state ?? 0) && one.moment <= moment && one.hash === journal.last.hash);
  expect(state, `recovered up to ${journal.last.seq}, durable was ${durable?.seq}`).toBeGreaterThanOrEqual(0);
  expect(journal.base.seq).toBeLessThanOrEqual(story.removedThrough);
  let hash = journal.base.hash;
  for (const entry of await readAll(journal, journal.base.seq + 1)) {
    hash = chainHash(hash, entry.term, entry.bytes);
    expect(entry.hash).toBe(hash);
  }
  expect(hash).toBe(journal.last.hash);
  return { journal, commitSeq: recovered.commitSeq };
}

async function firstLife(seed: number, files: FileSystem, record: CrashRecord, steps: number): Promise<Story> {
  const story: Story = { states: [{ hash: origin.hash, moment: 0 }], durable: [], removedThrough: 0 };
  const journal = await createFileJournal({ directory, base: origin, handlers: handlersOf(story, record), segmentBytes: 4096, files });
  story.durable.push({ state: 0, seq: 0, moment: record.now });
  await live(journal, story, record, seededRandom(seed), steps, 1);
  await journal.close();
  return story;
}

describe("journal: loss of power", () => {
  test("at every moment of a random life, whatever the disk kept of unsynced sectors", async () => {
    let imageCount = 0;
    for (let seed = 1; seed <= 6; seed++) {
      const record = new CrashRecord();
      const story = await firstLife(seed, record.files(imageFiles(new Map())), record, 60);
      const created = story.durable[0]?.moment ?? 0;
      for (let moment = created; moment <= record.now; moment++) {
        const image = record.imageAt(moment, seededRandom(seed * 10_000 + moment));
        const { journal } = await expectSound(image, story, moment).catch((error) => {
          throw new Error(`seed ${seed}, moment ${moment}`, { cause: error });
        });
        await journal.close();
        imageCount++;
      }
    }
    expect(imageCount).toBeGreaterThan(500);
  });

  test("again and again: each life goes on from what the last crash left", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      let record = new CrashRecord();
      const random = seededRandom(seed);
      let story = await firstLife(seed, record.files(imageFiles(new Map())), record, 25);
      let earliest = story.durable[0]?.moment ?? 0;
      for (let life = 2; life <= 5; life++) {
        const moment = earliest + random.integer(record.now - earliest + 1);
        const image = record.imageAt(moment, random);
        record = new CrashRecord(image);
        const before: Story = story;
        const next: Story = { states: [], durable: [], removedThrough: before.removedThrough };
        const files = record.files(imageFiles(image));
        const { journal, commitSeq } = await expectSound(image, before, moment, handlersOf(next, record), files).catch((error) => {
          throw new Error(`seed ${seed}, life ${life}`, { cause: error });
        });
        next.states.push({ hash: journal.last.hash, moment: 0 });
        next.durable.push({ state: 0, seq: journal.last.seq, moment: record.now });
        earliest = record.now;
        await live(journal, next, record, random, 15, life * 1000, commitSeq);
        await journal.close();
        story = next;
      }
    }
  });

  test("after the process was killed: what recovery read from the page cache is on the disk before it counts", async () => {
    const record = new CrashRecord();
    const image: Image = new Map();
    let isKilled = false;
    const inner = imageFiles(image);
    const files: FileSystem = {
      ...inner,
      open: async (path, mode) => {
        const file = await inner.open(path, mode);
        const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
          await file.write(bytes, offset);
          if (isKilled) await new Promise(() => {});
        };
        return { ...file, write };
      },
    };
    const silent: JournalHandlers = { onDurable: () => {}, onFailure: failed };
    const options = { directory, handlers: silent, segmentBytes: 4096, files: record.files(files) };
    const killed = await createFileJournal({ ...options, base: origin });
    const entries = entriesAfter(origin, 5);
    isKilled = true;
    killed.append({ truncateFrom: null, entries, commitSeq: 0 as Seq });
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    isKilled = false;
    record.kill();
    const { journal } = await openFileJournal({ ...options, appliedSeq: 0 as Seq });
    expect(journal.last.seq).toBe(5);
    for (let seed = 0; seed < 40; seed++) {
      const later = record.imageAt(record.now, seededRandom(seed));
      const again = await openFileJournal({ directory, handlers: silent, segmentBytes: 4096, files: imageFiles(later), appliedSeq: 0 as Seq });
      expect(again.journal.last).toEqual(journal.last);
      await again.journal.close();
    }
    await journal.close();
  });

  test("on real files", async () => {
    const root = mkdtempSync(join(tmpdir(), "atomcast-crash-"));
    const record = new CrashRecord();
    // The life itself is on images, as above: in the real disk's own time no run would be like another.
    const story = await firstLife(77, record.files(imageFiles(new Map())), record, 40);
    const created = story.durable[0]?.moment ?? 0;
    for (let count = 0; count < 25; count++) {
      const moment = created + seededRandom(count).integer(record.now - created);
      const folder = join(root, `image${count}`);
      mkdirSync(folder);
      for (const [path, bytes] of record.imageAt(moment, seededRandom(count))) writeFileSync(join(folder, basename(path)), bytes);
      const { journal } = await expectSound(new Map(), story, moment, undefined, relocated(folder));
      await journal.close();
    }
    rmSync(root, { recursive: true });
  });
});

/** `/journal` as a folder of the real disk. */
function relocated(folder: string): FileSystem {
  mkdirSync(folder, { recursive: true });
  const real = (path: string): string => path.replace(directory, folder);
  return {
    open: (path, mode) => nodeFileSystem.open(real(path), mode),
    list: (path) => nodeFileSystem.list(real(path)),
    rename: (from, to) => nodeFileSystem.rename(real(from), real(to)),
    remove: (path) => nodeFileSystem.remove(real(path)),
    syncDirectory: (path) => nodeFileSystem.syncDirectory(real(path)),
  };
}

describe("vote store: loss of power", () => {
  test("at every moment: a vote that was saved is kept, and none is invented", async () => {
    const record = new CrashRecord();
    const store = await createFileVoteStore("/vote", record.files(imageFiles(new Map())));
    const saved: { readonly term: number; readonly moment: number }[] = [{ term: 0, moment: record.now }];
    const created = record.now;
    for (let term = 1; term <= 12; term++) {
      await store.save(term as Term, (term * 7) as NodeId);
      saved.push({ term, moment: record.now });
    }
    await store.close();
    for (let moment = created; moment <= record.now; moment++) {
      for (let seed = 0; seed < 8; seed++) {
        const image = record.imageAt(moment, seededRandom(moment * 100 + seed));
        const recovered = await openFileVoteStore("/vote", imageFiles(image));
        const least = saved.filter((one) => one.moment <= moment).at(-1)?.term ?? 0;
        expect(recovered.term).toBeGreaterThanOrEqual(least);
        expect(recovered.term).toBeLessThanOrEqual(least + 1);
        expect(recovered.votedFor).toBe(recovered.term * 7);
        await recovered.close();
      }
    }
  });
});
