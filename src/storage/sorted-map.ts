/** Byte keys in order: a list of small sorted blocks. Good to a million keys; each change moves one block's items at most. */

interface Block<V> {
  readonly keys: Buffer[];
  readonly values: V[];
}

/** A block that reaches this splits in two. */
const blockItemsMax = 256;

export class SortedMap<V> {
  /** None is empty. */
  readonly #blocks: Block<V>[] = [];

  get(key: Buffer): V | undefined {
    const block = this.#blocks[this.#blockOf(key)];
    if (block === undefined) return undefined;
    const at = lowerBound(block.keys, key);
    return block.keys[at]?.equals(key) === true ? block.values[at] : undefined;
  }

  set(key: Buffer, value: V): void {
    const index = this.#blockOf(key);
    const block = this.#blocks[index];
    if (block === undefined) {
      this.#blocks.push({ keys: [key], values: [value] });
      return;
    }
    const at = lowerBound(block.keys, key);
    if (block.keys[at]?.equals(key) === true) {
      block.values[at] = value;
      return;
    }
    block.keys.splice(at, 0, key);
    block.values.splice(at, 0, value);
    if (block.keys.length < blockItemsMax) return;
    const half = blockItemsMax / 2;
    this.#blocks.splice(index + 1, 0, { keys: block.keys.splice(half), values: block.values.splice(half) });
  }

  delete(key: Buffer): void {
    const index = this.#blockOf(key);
    const block = this.#blocks[index];
    if (block === undefined) return;
    const at = lowerBound(block.keys, key);
    if (block.keys[at]?.equals(key) !== true) return;
    block.keys.splice(at, 1);
    block.values.splice(at, 1);
    if (block.keys.length === 0) this.#blocks.splice(index, 1);
  }

  /** low ≤ key < high (null: to the end). The map must not change meanwhile. */
  *range(low: Buffer, high: Buffer | null): Generator<readonly [Buffer, V]> {
    for (let index = this.#blockOf(low), isFirst = true; index < this.#blocks.length; index++, isFirst = false) {
      const block = this.#blocks[index] as Block<V>;
      for (let at = isFirst ? lowerBound(block.keys, low) : 0; at < block.keys.length; at++) {
        const key = block.keys[at] as Buffer;
        if (high !== null && key.compare(high) >= 0) return;
        yield [key, block.values[at] as V];
      }
    }
  }

  /** The last block that begins at or before the key, or the first. */
  #blockOf(key: Buffer): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const first = this.#blocks[middle]?.keys[0];
      if (first !== undefined && first.compare(key) <= 0) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

function lowerBound(keys: readonly Buffer[], key: Buffer): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as Buffer).compare(key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
