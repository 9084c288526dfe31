/** What an engine sends to its own endpoint: delivered later, in order, without sockets and without loss. Both networks use it. */
import { assert } from "../../base/errors.js";
import type { Endpoint, Nonce } from "../../base/ids.js";
import type { NetworkHandlers } from "./network.js";

export interface SelfDeliveryLimits {
  readonly datagramBytesMax: number;
  readonly messageBytesMax: number;
  readonly queueBytesMax: number;
}

export class SelfDelivery {
  #waiting: { readonly reliable: boolean; readonly payload: Buffer }[] = [];
  #queuedBytes = 0;

  /** `later` calls back once, after the current turn. */
  constructor(
    private readonly endpoint: Endpoint,
    private readonly nonce: Nonce,
    private readonly handlers: Pick<NetworkHandlers, "onDatagram" | "onReliable">,
    private readonly limits: SelfDeliveryLimits,
    private readonly later: (deliver: () => void) => void,
  ) {}

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  sendDatagram(payload: Uint8Array): void {
    assert(payload.length <= this.limits.datagramBytesMax, `a datagram of ${payload.length} bytes, above ${this.limits.datagramBytesMax}`);
    if (this.#queuedBytes + payload.length <= this.limits.queueBytesMax) this.#push(false, payload);
  }

  /** False: the queue is full. */
  sendReliable(payload: Uint8Array): boolean {
    assert(payload.length <= this.limits.messageBytesMax, `a message of ${payload.length} bytes, above ${this.limits.messageBytesMax}`);
    if (this.#queuedBytes > 0 && this.#queuedBytes + payload.length > this.limits.queueBytesMax) return false;
    this.#push(true, payload);
    return true;
  }

  #push(reliable: boolean, payload: Uint8Array): void {
    if (this.#waiting.length === 0) this.later(() => this.#deliver());
    this.#waiting.push({ reliable, payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength) });
    this.#queuedBytes += payload.length;
  }

  #deliver(): void {
    const due = this.#waiting;
    this.#waiting = [];
    for (const { reliable, payload } of due) {
      this.#queuedBytes -= payload.length;
      if (reliable) this.handlers.onReliable(this.endpoint, this.nonce, payload);
      else this.handlers.onDatagram(this.endpoint, this.nonce, payload, false);
    }
  }
}
