/** What one transaction of a store does to large values, added up before it is written: for the store on disk and its twin in memory. */
import { BugError } from "../base/errors.js";
import { nameOfValue, referencesOf, type ValueName } from "../base/large-values.js";

/** References that rows and versions have to a value. */
export interface References {
  readonly rows: number;
  readonly versions: number;
}

export interface StagedValue {
  readonly hash: Buffer;
  /** So many references more. */
  rows: number;
  versions: number;
  /** Put by it. */
  bytes: Uint8Array | null;
}

export class StagedValues {
  readonly #values = new Map<ValueName, StagedValue>();

  get size(): number {
    return this.#values.size;
  }

  [Symbol.iterator](): IterableIterator<[ValueName, StagedValue]> {
    return this.#values[Symbol.iterator]();
  }

  get(hash: Uint8Array): StagedValue | undefined {
    return this.#values.get(nameOfValue(hash));
  }

  /** Before the rows that refer to it. `bytes` are kept as they are given. */
  put(hash: Uint8Array, bytes: Uint8Array): void {
    this.touch(hash).bytes ??= bytes;
  }

  /** So many rows and versions more refer to what the row refers to. */
  refer(row: Uint8Array, rows: number, versions: number): void {
    for (const { hash } of referencesOf(row)) {
      const staged = this.touch(hash);
      staged.rows += rows;
      staged.versions += versions;
    }
  }

  /** It is looked at in the end, whether or not anything else is done to it. */
  touch(hash: Uint8Array): StagedValue {
    const known = this.get(hash);
    if (known !== undefined) return known;
    const made = { hash: Buffer.from(hash), rows: 0, versions: 0, bytes: null };
    this.#values.set(nameOfValue(hash), made);
    return made;
  }

  clear(): void {
    this.#values.clear();
  }
}

/** The references after the transaction; `before` null: the value was not there. Throws BugError where they cannot be right. */
export function countedTo(before: References | null, staged: StagedValue, isHere: boolean): References {
  if (!isHere) throw new BugError("a row refers to a large value that is not in the store");
  const after = { rows: (before?.rows ?? 0) + staged.rows, versions: (before?.versions ?? 0) + staged.versions };
  if (after.rows < 0 || after.versions < 0) throw new BugError("a large value has fewer references than were counted");
  return after;
}

/** The bytes of a value that versions alone keep; 0: rows do, or nobody. */
export function keptForVersions(counts: (References & { readonly byteCount: number }) | null): number {
  return counts !== null && counts.rows === 0 && counts.versions > 0 ? counts.byteCount : 0;
}
