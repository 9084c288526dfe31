/**
 * Answers requests for repair from memory, as unicast frames. The sequencer gives out its whole log; every other engine only what is
 * committed, as frames that say so: what is committed is in the log of every later sequencer, so it may be taken from anyone.
 */
import type { Endpoint, Seq } from "../../base/ids.js";
import type { FrameHeader, RepairRequest, StreamMessage } from "../wire/stream-messages.js";
import { packFrame, type SendCursor } from "./frame-packing.js";
import { multicastEntryBytesMax } from "./replication.js";
import type { StreamLog } from "./stream-log.js";
import type { StreamLimits } from "./stream-node-types.js";

/** Requests in hand, one for each asker; others are not answered, and ask again. */
export const repairsMax = 256;

/** Frames for one request. Reason: what a socket takes in one turn; the asker's next request shows that they arrived. */
export const framesPerRequestMax = 32;

interface Repair {
  readonly cursor: SendCursor;
  readonly through: Seq;
  framesLeft: number;
}

export interface RepairOutput {
  send(to: Endpoint, message: StreamMessage): void;
  sendDatagram(to: Endpoint, payload: Buffer): void;
  frameHeader(): FrameHeader;
}

export class RepairServer {
  readonly #repairs = new Map<Endpoint, Repair>();
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
    if (request.from > through || request.from === 0) return;
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
  }

  /** Sends within `budget` datagrams, a frame for each asker in turn. Returns how many are left. */
  sendFrames(budget: number): number {
    let left = budget;
    const header = this.#output.frameHeader();
    while (left > 0 && this.#repairs.size > 0) {
      for (const [endpoint, repair] of this.#repairs) {
        if (left <= 0) break;
        if (!this.#isOpen(repair)) {
          this.#repairs.delete(endpoint);
          continue;
        }
        this.#output.sendDatagram(endpoint, packFrame(this.#log, header, repair.cursor, repair.through, this.#limits.datagramBytesMax));
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
