/**
 * Answers requests for repair from memory, as unicast frames, and passes on to those below in the relay tree what this engine itself has repaired: they
 * miss the same. The sequencer gives out its whole log; every other engine only what is
 * committed, as frames that say so: what is committed is in the log of every later sequencer, so it may be taken from anyone.
 */
import type { Endpoint, Seq } from "../../base/ids.js";
import type { FrameHeader, RepairRequest, StreamMessage } from "../wire/stream-messages.js";
import { packFrame, type SendCursor } from "./frame-packing.js";
import { multicastEntryBytesMax } from "./replication.js";
import type { StreamLog } from "./stream-log.js";
import type { StreamLimits } from "./stream-node-types.js";

/** Requests in hand, and requests that wait, one for each asker; others are not answered, and ask again. */
export const repairsMax = 256;

/** Frames for one request. Reason: what a socket takes in one turn; the asker's next request shows that they arrived. */
export const framesPerRequestMax = 32;

/** All who hear this engine's multicast. */
export const segment = "segment";

interface Repair {
  readonly cursor: SendCursor;
  readonly through: Seq;
  framesLeft: number;
}

export interface RepairOutput {
  send(to: Endpoint, message: StreamMessage): void;
  sendDatagram(to: Endpoint, payload: Buffer): void;
  multicast(payload: Buffer): void;
  frameHeader(): FrameHeader;
}

export class RepairServer {
  readonly #repairs = new Map<Endpoint | typeof segment, Repair>();
  /** For what is not here yet: it is answered when it is. */
  readonly #waiting = new Map<Endpoint, RepairRequest>();
  readonly #log: StreamLog;
  readonly #limits: StreamLimits;
  readonly #output: RepairOutput;

  constructor(log: StreamLog, limits: StreamLimits, output: RepairOutput) {
    this.#log = log;
    this.#limits = limits;
    this.#output = output;
  }

  /** `through`: the last entry that may be given out. */
  onRequest(from: Endpoint, request: RepairRequest, through: Seq): void {
    if (request.from === 0) return;
    this.#waiting.delete(from);
    if (request.from > through) {
      if (this.#waiting.size < repairsMax) this.#waiting.set(from, request);
      return;
    }
    const isFar = this.#log.bytesBetween((request.from - 1) as Seq, through) > this.#limits.catchUpBytes;
    if (isFar || !this.#canPack(request.from)) {
      this.#output.send(from, { kind: "repairRefusal", term: this.#output.frameHeader().term, from: request.from });
      return;
    }
    if (!this.#repairs.has(from) && this.#repairs.size >= repairsMax) return;
    this.#repairs.set(from, {
      cursor: { seq: request.from, offset: request.offset },
      through: Math.min(request.through, through) as Seq,
      framesLeft: framesPerRequestMax,
    });
  }

  /** Something has come: `through` is further on. */
  answerWaiting(through: Seq): void {
    for (const [from, request] of this.#waiting) if (request.from <= through) this.onRequest(from, request, through);
  }

  /** Committed entries, as many as one request would bring. Who asks for others already is left to it. */
  passOn(to: Endpoint | typeof segment, from: Seq, through: Seq): void {
    if (this.#repairs.has(to) || this.#repairs.size >= repairsMax) return;
    this.#repairs.set(to, { cursor: { seq: from, offset: 0 }, through, framesLeft: framesPerRequestMax });
  }

  /** In memory, and small enough for datagrams. */
  #canPack(seq: Seq): boolean {
    const entry = this.#log.entryAt(seq);
    return entry !== undefined && entry.bytes.length <= Math.min(multicastEntryBytesMax, this.#limits.windowBytesMax);
  }

  get isBusy(): boolean {
    return this.#repairs.size > 0;
  }

  /** A new term: what was asked of the former sequencer's log is asked again. */
  clear(): void {
    this.#repairs.clear();
    this.#waiting.clear();
  }

  /** Sends within `budget` datagrams, a frame for each asker in turn. Returns how many are left. */
  sendFrames(budget: number): number {
    let left = budget;
    const header = this.#output.frameHeader();
    while (left > 0 && this.#repairs.size > 0) {
      for (const [to, repair] of this.#repairs) {
        if (left <= 0) break;
        if (!this.#isOpen(repair)) {
          this.#repairs.delete(to);
          continue;
        }
        const payload = packFrame(this.#log, header, repair.cursor, repair.through, this.#limits.datagramBytesMax);
        if (to === segment) this.#output.multicast(payload);
        else this.#output.sendDatagram(to, payload);
        repair.framesLeft--;
        left--;
      }
    }
    return left;
  }

  /** The entry may have been dropped since, and the asker may have named bytes that the entry does not have. */
  #isOpen(repair: Repair): boolean {
    const { cursor, through, framesLeft } = repair;
    const entry = this.#log.entryAt(cursor.seq);
    if (entry === undefined || framesLeft <= 0 || cursor.seq > through || !this.#canPack(cursor.seq)) return false;
    return cursor.offset === 0 || cursor.offset < entry.bytes.length;
  }
}
