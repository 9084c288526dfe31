/** What is to happen in virtual time: a binary heap by time, and by order of adding where times are equal. */

export interface FabricEvent {
  readonly atMs: number;
  readonly act: () => void;
}

interface Slot extends FabricEvent {
  readonly order: number;
}

export class EventQueue {
  readonly #heap: Slot[] = [];
  #added = 0;

  nextAtMs(): number | null {
    return this.#heap[0]?.atMs ?? null;
  }

  add(atMs: number, act: () => void): void {
    const slot: Slot = { atMs, act, order: this.#added++ };
    let index = this.#heap.length;
    this.#heap.push(slot);
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#heap[parentIndex];
      if (parent === undefined || before(parent, slot)) break;
      this.#heap[index] = parent;
      index = parentIndex;
    }
    this.#heap[index] = slot;
  }

  /** The first event, if it is due. */
  takeDue(nowMs: number): FabricEvent | null {
    const first = this.#heap[0];
    if (first === undefined || first.atMs > nowMs) return null;
    const last = this.#heap.pop();
    if (last !== undefined && last !== first) this.#sink(last);
    return first;
  }

  /** Puts a slot in the place of the first. */
  #sink(slot: Slot): void {
    let index = 0;
    for (;;) {
      const left = this.#heap[2 * index + 1];
      const right = this.#heap[2 * index + 2];
      if (left === undefined) break;
      const takesRight = right !== undefined && before(right, left);
      const child = takesRight ? right : left;
      if (before(slot, child)) break;
      this.#heap[index] = child;
      index = 2 * index + (takesRight ? 2 : 1);
    }
    this.#heap[index] = slot;
  }
}

function before(left: Slot, right: Slot): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}
