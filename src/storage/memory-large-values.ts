/** Large values of the memory twin (lmdb-large-values.ts): counted alike, and gone at the end of the batch after which nobody refers to them. */
import { emptyBytes } from "../base/bytes.js";
import { chunksOf, nameOfValue, type ValueName } from "../base/large-values.js";
import type { FindValue } from "../base/values.js";
import type { KeptValues } from "./atom-store.js";
import { countedTo, keptForVersions, type References, StagedValues } from "./staged-values.js";

interface Value extends References {
  readonly hash: Buffer;
  readonly bytes: Uint8Array;
  readonly byteCount: number;
}

/** How a store keeps chunks; null: gone. */
export type SetChunk = (key: Buffer, chunk: Buffer | null) => void;

export class MemoryLargeValues {
  readonly #values = new Map<ValueName, Value>();
  readonly #staged = new StagedValues();

  /** Another one where it has changed. */
  kept: KeptValues = { count: 0, bytes: 0 };

  readonly find: FindValue = ({ hash }) => {
    return this.#staged.get(hash)?.bytes ?? this.#values.get(nameOfValue(hash))?.bytes;
  };

  put(hash: Uint8Array, bytes: Uint8Array): void {
    this.#staged.put(hash, Buffer.from(bytes));
  }

  refer(row: Uint8Array, rows: number, versions: number): void {
    this.#staged.refer(row, rows, versions);
  }

  /** At a batch's end. Returns by how many bytes more is kept for versions alone, and how to take all of it back (but for the chunks). */
  finish(setChunk: SetChunk): { readonly keptMore: number; readonly undo: () => void } {
    const before = new Map<ValueName, Value | null>();
    let keptMore = 0;
    for (const [name, staged] of this.#staged) {
      const known = this.#values.get(name) ?? null;
      before.set(name, known);
      const bytes = known?.bytes ?? staged.bytes ?? emptyBytes;
      const counts = countedTo(known, staged, known !== null || staged.bytes !== null);
      const value = { hash: staged.hash, bytes, byteCount: bytes.length, ...counts };
      keptMore += keptForVersions(value) - keptForVersions(known);
      const isUsed = value.rows + value.versions > 0;
      if (isUsed) this.#values.set(name, value);
      else this.#values.delete(name);
      if (isUsed !== (known !== null)) for (const chunk of chunksOf(value)) setChunk(chunk.key, isUsed ? Buffer.from(chunk.bytes) : null);
    }
    this.#staged.clear();
    if (before.size > 0) this.#weigh();
    const undo = (): void => {
      for (const [name, value] of before) {
        if (value === null) this.#values.delete(name);
        else this.#values.set(name, value);
      }
      if (before.size > 0) this.#weigh();
    };
    return { keptMore, undo };
  }

  #weigh(): void {
    let bytes = 0;
    for (const value of this.#values.values()) bytes += value.bytes.length;
    this.kept = { count: this.#values.size, bytes };
  }
}
