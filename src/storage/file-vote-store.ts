/**
 * Term and vote on disk: a file of two slots, 4 KiB apart so that no write touches both.
 *
 *   offset  bytes
 *        0      8  "ATOMVOTE"
 *        8      4  format version
 *       12      6  counter: one more with each save
 *       18      6  term
 *       24      6  voted for
 *       30      4  CRC-32 of the 30 bytes before
 *
 * A save writes the one slot, then the other, each on the disk before the next step; so whatever a crash tears, one slot is whole, and a
 * slot that rots later takes no vote with it.
 *
 *   both       two valid slots                        the larger counter counts (equal: they are the same)
 *   one        one valid slot                         it counts: the other was being written, or has rotted since
 *   none       no valid slot                          an error: this node may have voted and does not know for whom
 *   newer      a valid slot of a newer format         an error
 *
 * What was read is written to both slots before it counts, so the next crash finds two again.
 */

import { assert, DatabaseError } from "../base/errors.js";
import { type NodeId, noNode, noTerm, type Term } from "../base/ids.js";
import { assertChecksumAvailable, crc32 } from "./checksum.js";
import { type FileSystem, isMissing, nodeFileSystem, type OpenFile, replaceFile } from "./file-system.js";
import type { VoteStore } from "./journal.js";

export const voteFileName = "vote";

const slotDistanceBytes = 4096;
const slotBytes = 34;
const checkedBytes = 30;
const formatVersion = 1;
const magic = Buffer.from("ATOMVOTE");

interface Vote {
  readonly counter: number;
  readonly term: Term;
  readonly votedFor: NodeId;
}

/** Makes the file `vote` in the folder, with term 0 and no vote; durable when resolved. */
export async function createFileVoteStore(directory: string, files: FileSystem = nodeFileSystem): Promise<VoteStore> {
  assertChecksumAvailable();
  if ((await files.list(directory)).includes(voteFileName)) {
    throw new DatabaseError("ATOMCAST_VOTE_EXISTS", `${directory} holds a vote already`);
  }
  const image = Buffer.alloc(2 * slotDistanceBytes);
  const vote: Vote = { counter: 1, term: noTerm, votedFor: noNode };
  for (const slot of [0, 1]) encodeSlot(vote).copy(image, slot * slotDistanceBytes);
  await replaceFile(files, directory, voteFileName, image);
  return new FileVoteStore(await files.open(`${directory}/${voteFileName}`, "durable"), vote);
}

export async function openFileVoteStore(directory: string, files: FileSystem = nodeFileSystem): Promise<VoteStore> {
  assertChecksumAvailable();
  const file = await openVoteFile(directory, files);
  try {
    const image = await file.read(0, 2 * slotDistanceBytes);
    const slots = [0, 1].map((slot) => decodeSlot(image.subarray(slot * slotDistanceBytes)));
    const vote = slots.reduce((best, one) => (best === null || (one !== null && one.counter > best.counter) ? one : best), null);
    if (vote === null) throw unreadable(directory, undefined);
    const store = new FileVoteStore(file, vote);
    await store.save(vote.term, vote.votedFor);
    return store;
  } catch (error) {
    await file.close();
    throw error;
  }
}

class FileVoteStore implements VoteStore {
  readonly #file: OpenFile;
  #asked: Vote;
  #saving: Promise<void> = Promise.resolve();
  #failure: unknown = null;

  constructor(file: OpenFile, vote: Vote) {
    this.#file = file;
    this.#asked = vote;
  }

  get term(): Term {
    return this.#asked.term;
  }

  get votedFor(): NodeId {
    return this.#asked.votedFor;
  }

  /** Saves are made in the order of the calls. After one has failed, what is on the disk is not known, and all fail. */
  save(term: Term, votedFor: NodeId): Promise<void> {
    assertVoteAllowed(this.#asked, term, votedFor);
    const vote: Vote = { counter: this.#asked.counter + 1, term, votedFor };
    this.#asked = vote;
    const saved = this.#saving.then(() => this.#write(vote));
    this.#saving = saved.catch(() => {});
    return saved;
  }

  async #write(vote: Vote): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    try {
      const bytes = encodeSlot(vote);
      await this.#file.write(bytes, 0);
      await this.#file.write(bytes, slotDistanceBytes);
    } catch (cause) {
      this.#failure = new DatabaseError("ATOMCAST_VOTE_FAILED", `the vote cannot be written: ${String(cause)}`, { cause });
      throw this.#failure;
    }
  }

  async close(): Promise<void> {
    await this.#saving;
    await this.#file.close();
  }
}

/** A vote is never taken back: terms rise, and a term has one vote. */
export function assertVoteAllowed(before: { readonly term: Term; readonly votedFor: NodeId }, term: Term, votedFor: NodeId): void {
  assert(term >= before.term, `term ${term} after term ${before.term}`);
  assert(term > before.term || before.votedFor === noNode || votedFor === before.votedFor, `a second vote in term ${term}`);
}

async function openVoteFile(directory: string, files: FileSystem): Promise<OpenFile> {
  try {
    return await files.open(`${directory}/${voteFileName}`, "durable");
  } catch (cause) {
    throw isMissing(cause) ? unreadable(directory, cause) : cause;
  }
}

function unreadable(directory: string, cause: unknown): DatabaseError {
  const message = `the vote in ${directory} cannot be read: this node may have voted and does not know for whom. Remove its folder and let it join anew`;
  return new DatabaseError("ATOMCAST_VOTE_DAMAGED", message, { cause });
}

function encodeSlot(vote: Vote): Buffer {
  const bytes = Buffer.alloc(slotBytes);
  magic.copy(bytes);
  bytes.writeUInt32BE(formatVersion, 8);
  bytes.writeUIntBE(vote.counter, 12, 6);
  bytes.writeUIntBE(vote.term, 18, 6);
  bytes.writeUIntBE(vote.votedFor, 24, 6);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, checkedBytes)), checkedBytes);
  return bytes;
}

function decodeSlot(bytes: Buffer): Vote | null {
  if (bytes.length < slotBytes || !bytes.subarray(0, magic.length).equals(magic)) return null;
  if (crc32(bytes.subarray(0, checkedBytes)) !== bytes.readUInt32BE(checkedBytes)) return null;
  const version = bytes.readUInt32BE(8);
  if (version !== formatVersion) {
    const message = `the vote has format ${version}, this Atomcast reads format ${formatVersion}: run the version that wrote it, or a newer one`;
    throw new DatabaseError("ATOMCAST_NEWER_FORMAT", message);
  }
  return { counter: bytes.readUIntBE(12, 6), term: bytes.readUIntBE(18, 6) as Term, votedFor: bytes.readUIntBE(24, 6) as NodeId };
}
