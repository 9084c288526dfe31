/** Frames of a connection: a length (u32) and so many bytes. Both halves are pure; tls-transport.ts owns the sockets. */
import { MalformedBytesError } from "../../base/bytes.js";
import { entryBytesMax } from "../../base/limits.js";

export const frameHeaderBytes = 4;

/** Longest message, in bytes: the largest entry and what a message says about it. Longer ones close the connection. */
export const messageBytesMax = entryBytesMax + 64 * 1024;

/** Bytes that may wait for one peer (one message may always); beyond, `sendReliable` refuses. */
export const queueBytesMax = 64 * 1024 * 1024;

/** Puts frames together from whatever pieces a socket gives. */
export class FrameReader {
  /** Longest frame that is accepted now, in bytes. */
  bytesMax: number;
  #chunk: Buffer = Buffer.alloc(0);
  #offset = 0;
  readonly #header = Buffer.alloc(frameHeaderBytes);
  #headerFilled = 0;
  #body: Buffer | null = null;
  #bodyFilled = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** The next piece; `next` must have returned null since the last one. */
  append(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#offset = 0;
  }

  /** null: not whole yet. A frame that came in one piece is a view of it. Throws MalformedBytesError for one that is too long. */
  next(): Buffer | null {
    if (this.#body === null) {
      const bodyBytes = this.#readLength();
      if (bodyBytes === null) return null;
      if (this.#chunk.length - this.#offset >= bodyBytes) {
        const start = this.#offset;
        this.#offset += bodyBytes;
        return this.#chunk.subarray(start, this.#offset);
      }
      this.#body = Buffer.allocUnsafeSlow(bodyBytes);
      this.#bodyFilled = 0;
    }
    const taken = Math.min(this.#body.length - this.#bodyFilled, this.#chunk.length - this.#offset);
    this.#chunk.copy(this.#body, this.#bodyFilled, this.#offset, this.#offset + taken);
    this.#offset += taken;
    this.#bodyFilled += taken;
    if (this.#bodyFilled < this.#body.length) return null;
    const body = this.#body;
    this.#body = null;
    return body;
  }

  #readLength(): number | null {
    while (this.#headerFilled < frameHeaderBytes) {
      const byte = this.#chunk[this.#offset];
      if (byte === undefined) return null;
      this.#header[this.#headerFilled++] = byte;
      this.#offset++;
    }
    this.#headerFilled = 0;
    const length = this.#header.readUInt32BE(0);
    if (length > this.bytesMax) throw new MalformedBytesError(`a message of ${length} bytes, above ${this.bytesMax}`);
    return length;
  }
}

/** Consumed messages that are kept in the array before it is shortened. */
const consumedMax = 1024;

/** Messages that wait for their connection, taken from it as batches of framed bytes. */
export class SendQueue {
  #messages: Uint8Array[] = [];
  #head = 0;
  /** Bytes of the first message's frame that have been taken already. */
  #headTaken = 0;
  #bytes = 0;

  /** Framed bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  push(message: Uint8Array): void {
    this.#messages.push(message);
    this.#bytes += frameHeaderBytes + message.length;
  }

  /** The next bytes of the connection, at most `bytesMax`; a large message goes out in several. */
  take(bytesMax: number): Buffer {
    const batch = Buffer.allocUnsafe(Math.min(bytesMax, this.#bytes));
    let filled = 0;
    while (filled < batch.length) {
      const message = this.#messages[this.#head];
      if (message === undefined) break;
      filled = this.#copyHead(message, batch, filled);
      if (this.#headTaken === frameHeaderBytes + message.length) this.#dropHead();
    }
    this.#bytes -= filled;
    return batch;
  }

  clear(): void {
    this.#messages = [];
    this.#head = 0;
    this.#headTaken = 0;
    this.#bytes = 0;
  }

  #copyHead(message: Uint8Array, batch: Buffer, start: number): number {
    let filled = start;
    while (this.#headTaken < frameHeaderBytes && filled < batch.length) {
      batch[filled++] = (message.length >>> (8 * (frameHeaderBytes - 1 - this.#headTaken++))) & 0xff;
    }
    if (this.#headTaken < frameHeaderBytes) return filled;
    const from = this.#headTaken - frameHeaderBytes;
    const taken = Math.min(message.length - from, batch.length - filled);
    batch.set(taken === message.length ? message : message.subarray(from, from + taken), filled);
    this.#headTaken += taken;
    return filled + taken;
  }

  #dropHead(): void {
    this.#messages[this.#head++] = emptyMessage; // lets go of the bytes
    this.#headTaken = 0;
    if (this.#head < consumedMax && this.#head < this.#messages.length) return;
    this.#messages.splice(0, this.#head);
    this.#head = 0;
  }
}

const emptyMessage = new Uint8Array(0);
