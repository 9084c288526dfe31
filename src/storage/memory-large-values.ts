/** Large values of the memory twin (lmdb-large-values.ts): counted alike, and gone at the end of the batch after which nobody refers to them. */
import { BugError } from "../base/errors.js";
import { chunksOf, nameOfValue, referencesOf, type ValueName } from "../base/large-values.js";
import type { FindValue } from "../base/values.js";
import type { KeptValues } from "./atom-store.js";

interface Value {
  readonly hash: Buffer;
  readonly bytes: Uint8Array;
  readonly rows: number;
  readonly versions: number;
}

interface Staged {
  readonly hash: Buffer;
  bytes: Uint8Array | null;
  rows: number;
  versions: number;
}

/** How a store keeps chunks; null: gone. */
export type SetChunk = (key: Buffer, chunk: Buffer | null) => void;

export class MemoryLargeValues {
  #values = new Map<ValueName, Value>();
  #staged = new Map<ValueName, Staged>();

  /** Another one where it has changed. */
  kept: KeptValues = { count: 0, bytes: 0 };

  readonly find: FindValue = ({ hash }) => {
    const name = nameOfValue(hash);
    return this.#staged.get(name)?.bytes ?? this.#values.get(name)?.bytes;
  };

  put(hash: Uint8Array, bytes: Uint8Array): void {
    const staged = this.#stage(hash);
    staged.bytes ??= Buffer.from(bytes);
  }

  refer(row: Uint8Array, rows: number, versions: number): void {
    for (const { hash } of referencesOf(row)) {
      const staged = this.#stage(hash);
      staged.rows += rows;
      staged.versions += versions;
    }
  }

  #stage(hash: Uint8Array): Staged {
    const name = nameOfValue(hash);
    const known = this.#staged.get(name);
    if (known !== undefined) return known;
    const made = { hash: Buffer.from(hash), bytes: null, rows: 0, versions: 0 };
    this.#staged.set(name, made);
    return made;
  }

  /** At a batch's end. Returns by how many bytes more is kept for versions alone, and how to take all of it back (but for the chunks). */
  finish(setChunk: SetChunk): { readonly keptForVersions: number; readonly undo: () => void } {
    const before = new Map<ValueName, Value | undefined>();
    let keptForVersions = 0;
    for (const [name, staged] of this.#staged) {
      const known = this.#values.get(name);
      before.set(name, known);
      const bytes = known?.bytes ?? staged.bytes;
      if (bytes === null) throw new BugError("a row refers to a large value that is not in the store");
      const value = { hash: staged.hash, bytes, rows: (known?.rows ?? 0) + staged.rows, versions: (known?.versions ?? 0) + staged.versions };
      if (value.rows < 0 || value.versions < 0) throw new BugError("a large value has fewer references than were counted");
      keptForVersions += forVersions(value) - forVersions(known);
      const isUsed = value.rows + value.versions > 0;
      if (isUsed) this.#values.set(name, value);
      else this.#values.delete(name);
      if (isUsed !== (known !== undefined)) for (const chunk of chunksOf(value)) setChunk(chunk.key, isUsed ? Buffer.from(chunk.bytes) : null);
    }
    this.#staged = new Map();
    if (before.size > 0) this.#weigh();
    const undo = (): void => {
      for (const [name, value] of before) {
        if (value === undefined) this.#values.delete(name);
        else this.#values.set(name, value);
      }
      if (before.size > 0) this.#weigh();
    };
    return { keptForVersions, undo };
  }

  #weigh(): void {
    let bytes = 0;
    for (const value of this.#values.values()) bytes += value.bytes.length;
    this.kept = { count: this.#values.size, bytes };
  }
}

function forVersions(value: Value | undefined): number {
  return value !== undefined && value.rows === 0 && value.versions > 0 ? value.bytes.length : 0;
}
