/**
 * An engine's own proposals, numbered without holes, kept until decided: by their entry or its REFUSED applied, or by the engine's LEAVE
 * (design.md §4 "Proposals"). Sent again, in order, to whoever is the sequencer; it tells duplicates by the number.
 */
import type { ProposalSeq, Seq } from "../base/ids.js";
import { encodeProposal, type Fence, type RefusalReason, type SchemaVersion } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";

export interface Proposal {
  readonly transaction: number;
  readonly snapshot: Seq;
  readonly fences: readonly Fence[];
  readonly schemaVersions: readonly SchemaVersion[];
  /** Encoded (encodeBody). */
  readonly body: Uint8Array;
  /** Called once, when the entry that decides it is applied. */
  readonly onDecided: (outcome: "applied" | RefusalReason, seq: Seq) => void;
}

/** Undecided proposals, in bytes: beyond it transactions wait for their turn. */
export const undecidedBytesMax = 64 * 1024 * 1024;

/** An undecided proposal older than this is sent again: its message may have been lost with a connection. Milliseconds. */
const sendAgainMs = 500;
/** So much of them at once. Reason: the sequencer may have them all and only wait for a majority; what it misses next, it asks for. Bytes. */
const sendAgainBytes = 1024 * 1024;

interface Undecided {
  readonly entry: Buffer;
  readonly onDecided: Proposal["onDecided"];
  sentMs: number;
}

export class ProposalQueue {
  readonly #context: CoreContext;
  readonly #undecided = new Map<ProposalSeq, Undecided>();
  #bytes = 0;
  #last = 0 as ProposalSeq;

  constructor(context: CoreContext) {
    this.#context = context;
  }

  get isFull(): boolean {
    return this.#bytes >= undecidedBytesMax;
  }

  get count(): number {
    return this.#undecided.size;
  }

  propose(proposal: Proposal): ProposalSeq {
    const context = this.#context;
    const { transaction, snapshot, fences, schemaVersions } = proposal;
    this.#last = (this.#last + 1) as ProposalSeq;
    const entry = encodeProposal({ engine: context.engine, proposalSeq: this.#last, transaction, snapshot, fences, schemaVersions }, proposal.body);
    const undecided = { entry, onDecided: proposal.onDecided, sentMs: context.nowMs };
    this.#undecided.set(this.#last, undecided);
    this.#bytes += entry.length;
    this.#send(this.#last, undecided);
    return this.#last;
  }

  #send(proposalSeq: ProposalSeq, undecided: Undecided): void {
    undecided.sentMs = this.#context.nowMs;
    const { sequencer, engine } = this.#context;
    if (sequencer !== null) this.#context.send(sequencer, { kind: "propose", engine, proposalSeq, entry: undecided.entry });
  }

  /** All: a new sequencer has none of them. */
  sendAgain(): void {
    for (const [proposalSeq, undecided] of this.#undecided) this.#send(proposalSeq, undecided);
  }

  /** The sequencer misses this one, and has later ones. */
  fill(from: ProposalSeq): void {
    let left = sendAgainBytes;
    for (const [proposalSeq, undecided] of this.#undecided) {
      if (proposalSeq < from) continue;
      this.#send(proposalSeq, undecided);
      left -= undecided.entry.length;
      if (left <= 0) return;
    }
  }

  tick(): void {
    for (const [proposalSeq, undecided] of this.#undecided) {
      if (this.#context.nowMs - undecided.sentMs >= sendAgainMs) this.fill(proposalSeq);
      return;
    }
  }

  decided(proposalSeq: ProposalSeq, outcome: "applied" | RefusalReason, seq: Seq): void {
    const undecided = this.#undecided.get(proposalSeq);
    if (undecided === undefined) return;
    this.#undecided.delete(proposalSeq);
    this.#bytes -= undecided.entry.length;
    undecided.onDecided(outcome, seq);
  }
}
