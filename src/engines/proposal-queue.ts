/**
 * An engine's own proposals, numbered without holes, kept until decided: by their entry or its REFUSED applied, or by the engine's LEAVE
 * (design.md §4 "Proposals"). Sent again, in order, to whoever is the sequencer; it tells duplicates by the number.
 *
 * Transactions that are ready within one turn share a proposal: one entry to order, hash, journal and decide instead of many. They are committed
 * together or not at all, which none of them can see: each has its permissions, so no two touch the same keys.
 *
 * | label | a transaction comes, and the group that is open | then |
 * |---|---|---|
 * | G1 | has room, the same snapshot, and nothing else of an atom or a table | it joins |
 * | G2 | differs in one of these | the group is proposed; it begins another |
 * | G3 | is there, and another kind of proposal comes | the group is proposed first: what was granted before a SPLIT is ordered before it |
 * | G4 | is refused as malformed, and has several members | each is proposed alone: one that nobody can read takes no other with it |
 */
import type { AtomId, ProposalSeq, Seq, SpaceId } from "../base/ids.js";
import { encodeProposal, type Fence, type RefusalReason, type SchemaVersion } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";

/** Called once, when the entry that decides it is applied. */
export type OnDecided = (outcome: "applied" | RefusalReason, seq: Seq) => void;

export interface TransactionProposal {
  readonly transaction: number;
  readonly snapshot: Seq;
  readonly fences: readonly Fence[];
  readonly schemaVersions: readonly SchemaVersion[];
  /** An encoded TransactionBody. */
  readonly body: Uint8Array;
  /** Whether it may share an entry with others. */
  readonly mayJoin: boolean;
  readonly onDecided: OnDecided;
}

/** Undecided proposals, in bytes: beyond it transactions wait for their turn. */
export const undecidedBytesMax = 64 * 1024 * 1024;
/** Transactions in one proposal, and their bodies' bytes. Reason: what is refused is refused together; and beyond a few frames nothing is saved. */
export const groupMembersMax = 256;
const groupBytesMax = 64 * 1024;

/** An undecided proposal older than this is sent again: its message may have been lost with a connection. Milliseconds. */
const sendAgainMs = 500;
/** So much of them at once. Reason: the sequencer may have them all and only wait for a majority; what it misses next, it asks for. Bytes. */
const sendAgainBytes = 1024 * 1024;

interface Undecided {
  readonly entry: Buffer;
  readonly onDecided: OnDecided;
  sentMs: number;
}

interface Group {
  readonly snapshot: Seq;
  readonly members: TransactionProposal[];
  readonly fences: Map<AtomId, Fence>;
  readonly versions: Map<SpaceId, SchemaVersion>;
  bytes: number;
}

export class ProposalQueue {
  readonly #context: CoreContext;
  readonly #undecided = new Map<ProposalSeq, Undecided>();
  #group: Group | null = null;
  #bytes = 0;
  #last = 0 as ProposalSeq;
  readonly counters = { proposals: 0, transactions: 0 };

  constructor(context: CoreContext) {
    this.#context = context;
  }

  get isFull(): boolean {
    return this.#bytes + (this.#group?.bytes ?? 0) >= undecidedBytesMax;
  }

  get count(): number {
    return this.#undecided.size;
  }

  /** One that is no transaction: of atoms and their holders. `body` is encoded. */
  propose(body: Uint8Array, fences: readonly Fence[], onDecided: OnDecided): void {
    this.flush();
    this.#append([], 0 as Seq, fences, [], [body], onDecided);
  }

  /** Proposed at the turn's end at the latest, with others of the turn. */
  join(proposal: TransactionProposal): void {
    if (this.#group !== null && !fits(this.#group, proposal)) this.flush();
    this.#group ??= { snapshot: proposal.snapshot, members: [], fences: new Map(), versions: new Map(), bytes: 0 };
    const group = this.#group;
    group.members.push(proposal);
    for (const fence of proposal.fences) group.fences.set(fence.atom, fence);
    for (const version of proposal.schemaVersions) group.versions.set(version.table, version);
    group.bytes += proposal.body.length;
    if (!proposal.mayJoin) this.flush();
  }

  /** Proposes what has come together. Called at the turn's end. */
  flush(): void {
    const group = this.#group;
    if (group === null) return;
    this.#group = null;
    const { members, snapshot, fences, versions } = group;
    this.counters.transactions += members.length;
    const numbers = members.map((member) => member.transaction);
    const bodies = members.map((member) => member.body);
    this.#append(numbers, snapshot, [...fences.values()], [...versions.values()], bodies, (outcome, seq) => {
      if (outcome === "malformed" && members.length > 1) for (const member of members) this.join({ ...member, mayJoin: false });
      else for (const member of members) member.onDecided(outcome, seq);
    });
  }

  #append(
    transactions: readonly number[],
    snapshot: Seq,
    fences: readonly Fence[],
    schemaVersions: readonly SchemaVersion[],
    bodies: readonly Uint8Array[],
    onDecided: OnDecided,
  ): void {
    const { engine, nowMs } = this.#context;
    this.#last = (this.#last + 1) as ProposalSeq;
    const entry = encodeProposal({ engine, proposalSeq: this.#last, transactions, snapshot, fences, schemaVersions }, bodies);
    const undecided = { entry, onDecided, sentMs: nowMs };
    this.#undecided.set(this.#last, undecided);
    this.#bytes += entry.length;
    this.counters.proposals++;
    this.#send(this.#last, undecided);
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

/** Fences and versions of a group are one of each atom and table: members that believe otherwise stand in entries of their own, and are judged apart. */
function fits(group: Group, proposal: TransactionProposal): boolean {
  return (
    proposal.mayJoin &&
    group.snapshot === proposal.snapshot &&
    group.members.length < groupMembersMax &&
    group.bytes + proposal.body.length <= groupBytesMax &&
    proposal.fences.every((fence) => {
      const other = group.fences.get(fence.atom);
      return other === undefined || (other.originator === fence.originator && other.ownershipVersion === fence.ownershipVersion);
    }) &&
    proposal.schemaVersions.every((one) => (group.versions.get(one.table) ?? one).version === one.version)
  );
}
