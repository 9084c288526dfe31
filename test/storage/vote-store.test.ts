import { describe, expect, test } from "vitest";
import type { NodeId, Term } from "../../src/base/ids.js";
import { crc32 } from "../../src/storage/checksum.js";
import type { FileSystem } from "../../src/storage/file-system.js";
import { createFileVoteStore, openFileVoteStore } from "../../src/storage/file-vote-store.js";
import { createMemoryVoteStore } from "../../src/storage/memory-vote-store.js";
import { type Image, imageFiles } from "./crash-disk.js";

const path = "/v/vote";

async function build(): Promise<{ image: Image; bytes: Buffer }> {
  const image: Image = new Map();
  const store = await createFileVoteStore("/v", imageFiles(image));
  await store.save(3 as Term, 7 as NodeId);
  await store.close();
  return { image, bytes: image.get(path) ?? Buffer.alloc(0) };
}

describe("vote store", () => {
  test("both, one: either slot alone tells the vote, and opening makes both whole again", async () => {
    for (const slot of [0, 4096]) {
      const { image, bytes } = await build();
      bytes.fill(0, slot, slot + 20);
      const store = await openFileVoteStore("/v", imageFiles(image));
      expect([store.term, store.votedFor]).toEqual([3, 7]);
      await store.close();
      const after = image.get(path) ?? Buffer.alloc(0);
      expect(after.subarray(0, 34)).toEqual(after.subarray(4096, 4096 + 34));
    }
  });

  test("none: an error, never a fresh start", async () => {
    const { image, bytes } = await build();
    bytes.fill(0);
    await expect(openFileVoteStore("/v", imageFiles(image))).rejects.toMatchObject({ code: "ATOMCAST_VOTE_DAMAGED" });
    await expect(openFileVoteStore("/w", imageFiles(image))).rejects.toMatchObject({ code: "ATOMCAST_VOTE_DAMAGED" });
    await expect(createFileVoteStore("/v", imageFiles(image))).rejects.toMatchObject({ code: "ATOMCAST_VOTE_EXISTS" });
  });

  test("newer: named", async () => {
    const { image, bytes } = await build();
    bytes.writeUInt32BE(2, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(0, 30)), 30);
    await expect(openFileVoteStore("/v", imageFiles(image))).rejects.toMatchObject({ code: "ATOMCAST_NEWER_FORMAT" });
  });

  test("a vote is never taken back", async () => {
    const { image } = await build();
    for (const store of [await openFileVoteStore("/v", imageFiles(image)), createMemoryVoteStore((complete) => complete())]) {
      await store.save(4 as Term, 0 as NodeId);
      await store.save(4 as Term, 9 as NodeId);
      expect(() => store.save(4 as Term, 8 as NodeId)).toThrow(/second vote/);
      expect(() => store.save(3 as Term, 9 as NodeId)).toThrow(/after term 4/);
      await store.close();
    }
  });

  test("after a failed save every save fails", async () => {
    const { image } = await build();
    let isBroken = false;
    const inner = imageFiles(image);
    const files: FileSystem = {
      ...inner,
      open: async (name, mode) => {
        const file = await inner.open(name, mode);
        return { ...file, write: async (bytes, offset) => (isBroken ? Promise.reject(new Error("EIO")) : file.write(bytes, offset)) };
      },
    };
    const store = await openFileVoteStore("/v", files);
    isBroken = true;
    const first = store.save(5 as Term, 1 as NodeId);
    await expect(first).rejects.toMatchObject({ code: "ATOMCAST_VOTE_FAILED" });
    isBroken = false;
    await expect(store.save(6 as Term, 1 as NodeId)).rejects.toMatchObject({ code: "ATOMCAST_VOTE_FAILED" });
    await store.close();
  });

  test("the twin keeps what is durable, or the save under way", async () => {
    for (const isSaved of [false, true]) {
      const completions: (() => void)[] = [];
      const store = createMemoryVoteStore((complete) => completions.push(complete));
      const first = store.save(1 as Term, 5 as NodeId);
      completions.shift()?.();
      await first;
      void store.save(2 as Term, 6 as NodeId);
      store.crash(isSaved);
      completions.shift()?.();
      expect([store.term, store.votedFor]).toEqual(isSaved ? [2, 6] : [1, 5]);
    }
  });
});
