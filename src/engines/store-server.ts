/**
 * Answers what other engines ask of an Archive's store: rows and entries of indexes, cuts, parts of the whole. Reads may wait for the disk, so that in production
 * it has a thread of its own (worker-store-port.ts); the simulator calls it at once.
 */
import { atomBytesTarget } from "../atoms/atom.js";
import { asBuffer, MalformedBytesError } from "../base/bytes.js";
import { noSeq, type Seq } from "../base/ids.js";
import { type EngineMessage, encodeEngineMessage, type PullRequestMessage } from "../messages/wire/engine-messages.js";
import type { StoreReads, StoreTransfer } from "../storage/atom-store.js";
import type { StoreQuestion } from "./core-types.js";
import type { Clock, StorePort, StorePortHandlers } from "./environment.js";

/** Transfers of the whole store that may be open; each keeps one read transaction. A further one is told to come back. */
const transfersMax = 4;
const transferIdleMs = 60_000;
export const transferLookMs = 10_000;
const transferPartBytes = 512 * 1024;
/** Of rows in one chunk, whatever is asked for. */
const chunkBytesMax = 4 * 1024 * 1024;

interface OpenTransfer {
  readonly transfer: StoreTransfer;
  usedMs: number;
}

export class StoreServer {
  readonly #store: StoreReads;
  readonly #transfers = new Map<number, OpenTransfer>();
  #nextTransfer = 1;

  constructor(store: StoreReads) {
    this.#store = store;
  }

  /** An encoded message for `question.to`; null: nothing now. Throws MalformedBytesError: keys and cursors are a peer's. */
  answer(question: StoreQuestion, nowMs: number): Buffer | null {
    const message = this.#answer(question, nowMs);
    return message === null ? null : encodeEngineMessage(message);
  }

  #answer(question: StoreQuestion, nowMs: number): EngineMessage | null {
    if (question.kind === "serveRows") return this.#rows(question.request, question.sameThrough);
    if (question.kind === "serveTransfer") return this.#transfer(question.transfer, question.cursor, nowMs);
    const { atom, space, low, high } = question.request;
    const { cuts, pieces } = this.#store.cuts(space, low, high, atomBytesTarget);
    return { kind: "cutsReply", atom, low: asBuffer(low), cuts, pieces };
  }

  /** null: of an index that is still being made. Who asks will ask again, here or elsewhere. */
  #rows(request: PullRequestMessage, sameThrough: Seq): EngineMessage | null {
    if (request.asOf !== noSeq) return this.#past(request);
    const { pull, space, low, high, since, bytesMax } = request;
    const read = this.#store.readRows(space, low, high, Math.min(bytesMax, chunkBytesMax), since);
    if (read === null) return null;
    const { next, imagesFrom } = read;
    const seq = Math.max(read.seq, sameThrough) as Seq;
    const rows = read.rows.map(({ key, row }) => ({ key: asBuffer(key), row: asBuffer(row) }));
    const images = read.images.map((image) => ({ seq: image.seq, key: asBuffer(image.key), row: image.row === null ? null : asBuffer(image.row) }));
    return { kind: "pullReply", pull, seq, rows, next, images, imagesFrom };
  }

  /** null: likewise. */
  #past({ pull, space, low, high, bytesMax, asOf }: PullRequestMessage): EngineMessage | null {
    const read = this.#store.readPast(space, low, high, Math.min(bytesMax, chunkBytesMax), asOf);
    if (read === null) return null;
    if (read === "gone") return { kind: "pullRefused", pull, reason: "gone" };
    const rows = read.rows.map(({ key, row }) => ({ key: asBuffer(key), row: asBuffer(row) }));
    return { kind: "pullReply", pull, seq: asOf, rows, next: read.next, images: [], imagesFrom: asOf };
  }

  /** An open one keeps the store's old pages from being used again: the file would grow for ever. */
  closeIdle(nowMs: number): void {
    for (const [id, open] of this.#transfers) {
      if (nowMs - open.usedMs < transferIdleMs) continue;
      open.transfer.close();
      this.#transfers.delete(id);
    }
  }

  #transfer(id: number, cursor: string, nowMs: number): EngineMessage {
    this.closeIdle(nowMs);
    let transferId = id;
    if (id === 0 && this.#transfers.size < transfersMax) {
      transferId = this.#nextTransfer++;
      this.#transfers.set(transferId, { transfer: this.#store.openTransfer(), usedMs: nowMs });
    }
    const open = this.#transfers.get(transferId);
    if (open === undefined) return { kind: "transferReply", transfer: 0, position: this.#store.position, cursor, part: Buffer.alloc(0), next: "" };
    open.usedMs = nowMs;
    const read = open.transfer.read(cursor, transferPartBytes);
    const { position } = open.transfer;
    if (read === null) {
      open.transfer.close();
      this.#transfers.delete(transferId);
    }
    return { kind: "transferReply", transfer: transferId, position, cursor, part: read?.part ?? Buffer.alloc(0), next: read?.next ?? "" };
  }

  close(): void {
    for (const { transfer } of this.#transfers.values()) transfer.close();
    this.#transfers.clear();
  }
}

/** On the caller's thread, at once: where reads wait for no disk. */
export function openStorePortHere(store: StoreReads, clock: Clock, handlers: StorePortHandlers): StorePort {
  const server = new StoreServer(store);
  const cancel = clock.every(transferLookMs, () => server.closeIdle(clock.nowMs()));
  let isClosed = false;
  return {
    ask(question) {
      if (isClosed) return;
      try {
        const payload = server.answer(question, clock.nowMs());
        if (payload !== null) handlers.onAnswer(question.to, payload);
      } catch (error) {
        if (!(error instanceof MalformedBytesError)) throw error;
        handlers.onMalformed(question, error.message);
      }
    },
    async close() {
      isClosed = true;
      cancel();
      server.close();
    },
  };
}
