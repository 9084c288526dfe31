/** Which of a sender's newest counters have been heard: each is taken once, and what is older than the window never (RFC 6479). */

/**
 * Counters below the highest one heard that are still told apart. One sender's datagrams to one socket swap places by few; a process whose
 * datagrams come later than 2,048 younger ones is asked to repeat them anyway. A multiple of 32.
 */
export const replayWindowCounters = 2048;

export class ReplayWindow {
  readonly #bits = new Uint32Array(replayWindowCounters / 32);
  #highest = -1;

  /** Whether the counter is new. Changes nothing: a forged counter must not move the window. */
  accepts(counter: number): boolean {
    if (counter > this.#highest) return true;
    if (counter <= this.#highest - replayWindowCounters) return false;
    return ((this.#word(counter) >>> (counter % 32)) & 1) === 0;
  }

  /** Takes a counter that `accepts`, once its datagram has proved authentic. */
  take(counter: number): void {
    if (counter > this.#highest) {
      if (counter - this.#highest >= replayWindowCounters) this.#bits.fill(0);
      else for (let passed = this.#highest + 1; passed < counter; passed++) this.#set(passed, 0);
      this.#highest = counter;
    }
    this.#set(counter, 1);
  }

  #index(counter: number): number {
    return Math.floor((counter % replayWindowCounters) / 32);
  }

  #word(counter: number): number {
    return this.#bits[this.#index(counter)] ?? 0;
  }

  #set(counter: number, bit: 0 | 1): void {
    const mask = (1 << (counter % 32)) >>> 0;
    const word = this.#word(counter);
    this.#bits[this.#index(counter)] = bit === 1 ? word | mask : word & ~mask;
  }
}
