/**
 * Makes this Cache a holder of the atoms that its statements need (design.md §5 "A pull"): those of whole tables, or those that named key ranges
 * overlap.
 *
 * What the atoms are, their space's record catalog says; what of it is not here is pulled first (catalog-pulls.ts). HOLD is proposed, one for all that is
 * found missing in a turn; at once the local store begins to keep the range's changes, and the first chunk is asked of its holders, as of a seq of the
 * holder's: every Cache hears all changes, so that a chunk is good from whenever they have been kept. It is installed once this Cache has applied that seq, and HOLD; when a range is
 * whole, READY is proposed. A statement goes on as soon as nothing of what it needs is under way any more. Whom to ask, and what becomes of it, is pull-questions.ts's.
 *
 * | label | when HOLD is applied | then |
 * |-------|----------------------|------|
 * | same | the atom is as it was when it was proposed | what has come of it may be installed |
 * | other | a SPLIT came before | what has come is given up, and the range that the atom has now is asked for |
 * | none | it is refused, or the atom is gone | what has come is given up; what is needed still is looked at again |
 *
 * Ranges of an index's entries are asked for in the same way, but nobody becomes a holder by them: they tell which rows a statement needs, and no permission
 * is ever given by who has them. The local store installs them when the rows that they stand for are here (sql/held-indexes.ts); these are pulled first.
 *
 * | label | an index's range | then |
 * |-------|------------------|------|
 * | narrow | its entries came in one chunk, and their rows are here | the range is held |
 * | rows | some rows are not here | they are ensured, and the chunk is installed again; who waits for the range needs these rows too, so that eviction spares them |
 * | wide | it has more than entriesMax, or more than one chunk | the whole table is ensured instead |
 * | scattered | the need has more than lookUpsMax ranges | likewise |
 * | small | the table has smallAtomsMax atoms at most | likewise |
 * | often | lookUpsPerAtom ranges of the table's indexes were asked for, for each of its atoms | likewise |
 * | overlapping | another range is asked for that has keys in common | waits for that one; the statement then asks again for what is missing |
 */
import { type Atom, isReadyHolder } from "../atoms/atom.js";
import { emptyBytes } from "../base/bytes.js";
import { type AtomId, type Endpoint, noSeq, type Seq, type SpaceId } from "../base/ids.js";
import { type BinaryRange, binaryKey, overlap } from "../base/key-ranges.js";
import type { LargeValue } from "../base/large-values.js";
import { Remembered } from "../base/remembered.js";
import type { PullRefusedMessage, PullReplyMessage } from "../messages/wire/engine-messages.js";
import { encodeBody } from "../messages/wire/entry.js";
import type { PullNeed } from "../sql/local-store.js";
import type { CatalogPulls } from "./catalog-pulls.js";
import type { CoreContext } from "./core-context.js";
import type { LargeValuePulls } from "./large-value-pulls.js";
import type { LocalDriver } from "./local-driver.js";
import type { ProposalQueue } from "./proposal-queue.js";
import { type PulledRange, PullQuestions } from "./pull-questions.js";

/** Chunks asked for or being installed at once: bounds what pulls have in memory. */
const chunksAtOnceMax = 8;
/** Atoms that were given up and are remembered at most, to count those that are pulled again. */
const droppedMax = 65_536;
/** Entries of one range of an index, and ranges in one need, that are worth looking up: beyond, most atoms of the table would come anyway. */
const entriesMax = 1000;
const lookUpsMax = 256;
/** A table of so few atoms is held whole at once. Reason: to ask which of them are needed costs as much. */
const smallAtomsMax = 2;
/** So many ranges, for each atom of the table, and it is held whole after all: what was asked for has then cost about as much as the atoms would. */
const lookUpsPerAtom = 16;
/**
 * READY comes so long after the first atom that it is for is whole, in milliseconds. Reason: the statement does not wait for it, and who misses one atom after another
 * would pay an entry for each; until then the atom is neither given up, nor pulled from here, nor handed over to this Cache.
 */
const readyAfterMs = 100;
/** Atoms in one HOLD or READY. */
const atomsPerProposalMax = 4096;

/** Of a table's keys that have changed lately, when a chunk of it comes: some tenths of a millisecond. Beyond it the whole chunk counts as changed. */
const keysLookedAtMax = 2000;

/** A range that is here, whose atoms are not READY yet. */
interface Whole {
  readonly space: SpaceId;
  readonly low: Buffer;
  readonly high: Buffer | null;
}

/** One range to fetch: what one atom's was when its HOLD was applied, or of an index's entries. */
interface Task extends PulledRange {
  readonly low: Buffer;
  /** `low` and `high` again, to compare with. */
  readonly range: BinaryRange;
  /** A reply whose large values are being fetched, that waits until this Cache has applied its seq, or is being installed. */
  reply: PullReplyMessage | null;
  /** Of the reply; null: they are being fetched. */
  values: readonly LargeValue[] | null;
  forgetValues: () => void;
  installing: boolean;
  /** The entries' rows are under way. */
  awaitsRows: boolean;
  /** Its atom's HOLD is not decided yet. */
  awaitsHold: boolean;
}

interface Waiting {
  /** What was asked for, and what else that turned out to need. */
  needs: readonly PullNeed[];
  readonly then: (needs: readonly PullNeed[]) => void;
  /** Record catalogs that it turned out to need and that are under way. */
  lacking: number;
}

export class PullManager {
  readonly #context: CoreContext;
  readonly #local: LocalDriver;
  readonly #proposals: ProposalQueue;
  readonly #catalogs: CatalogPulls;
  readonly #values: LargeValuePulls;
  readonly #tasks = new Set<Task>();
  /** Those with a reply. */
  readonly #replied = new Set<Task>();
  readonly questions: PullQuestions<Task>;
  /** Atoms whose HOLD is undecided, or proposed at the turn's end. */
  readonly #proposed = new Set<AtomId>();
  #unproposed: AtomId[] = [];
  /** What is asked for already, by the atom whose HOLD it waits for. */
  readonly #early = new Map<AtomId, Task>();
  #waiting: Waiting[] = [];
  #wholeSinceMs = 0;
  readonly #whole: Whole[] = [];
  readonly #dropped = new Remembered<AtomId, true>(droppedMax);
  /** Ranges of its indexes asked for, by table. */
  readonly #lookUps = new Map<SpaceId, number>();
  /** Chunks and encoded bytes pulled so far; and atoms, `again` of which were held before and given up; and ranges of indexes asked for. */
  readonly counters = { chunks: 0, bytes: 0, atoms: 0, again: 0, lookUps: 0 };

  constructor(context: CoreContext, local: LocalDriver, proposals: ProposalQueue, catalogs: CatalogPulls, values: LargeValuePulls) {
    this.#context = context;
    this.#local = local;
    this.#proposals = proposals;
    this.#catalogs = catalogs;
    this.#values = values;
    this.questions = new PullQuestions(context, "rows");
  }

  /**
   * `then` is called when every atom that a need overlaps is held whole, or its space is gone; with the needs, and those that they turned out to mean:
   * the rows of an index's range, or the whole table.
   */
  ensure(needs: readonly PullNeed[], then: (needs: readonly PullNeed[]) => void): void {
    const rows: PullNeed[] = [];
    const whole: PullNeed[] = [];
    const lookUps: { readonly space: SpaceId; readonly table: SpaceId; readonly ranges: readonly BinaryRange[] }[] = [];
    for (const { space, ranges, indexOf } of needs) {
      if (indexOf === undefined) rows.push({ space, ranges });
      else if (ranges === null || this.#isBetterWhole(indexOf, ranges.length)) whole.push({ space: indexOf, ranges: null });
      else lookUps.push({ space, table: indexOf, ranges });
    }
    this.#catalogs.ensure([...rows, ...whole], () => {
      this.#waiting.push({ needs: [...needs, ...whole], then, lacking: 0 });
      for (const need of [...rows, ...whole]) this.#hold(need);
      for (const { space, table, ranges } of lookUps) this.#lookUp(space, table, ranges);
      this.#wake();
    });
  }

  #isBetterWhole(table: SpaceId, rangeCount: number): boolean {
    const atomCount = this.#context.catalog.atoms.countOf(table);
    const asked = (this.#lookUps.get(table) ?? 0) + rangeCount;
    const isBetter = rangeCount > lookUpsMax || atomCount <= smallAtomsMax || asked > lookUpsPerAtom * atomCount;
    if (isBetter) this.#lookUps.delete(table);
    else this.#lookUps.set(table, asked);
    return isBetter;
  }

  #lookUp(space: SpaceId, table: SpaceId, ranges: readonly BinaryRange[]): void {
    for (const range of ranges) {
      let isAsked = false;
      for (const task of this.#tasks) if (task.space === space && overlap(task.range, range)) isAsked = true;
      if (isAsked) continue;
      this.counters.lookUps++;
      const [low, high] = [Buffer.from(range.low, "latin1"), range.high === null ? null : Buffer.from(range.high, "latin1")];
      this.#start(space, table, low, high, this.#context.appliedSeq);
    }
  }

  /** The atoms of the need that nobody has asked for yet: at the turn's end, with those of all others. */
  #hold(need: PullNeed): void {
    const { engine } = this.#context;
    for (const { id, holders } of this.#atomsOf(need)) {
      if (this.#proposed.has(id) || holders.some((holder) => holder.engine === engine)) continue;
      this.#proposed.add(id);
      this.#unproposed.push(id);
    }
  }

  #proposeHold(): void {
    while (this.#unproposed.length > 0) {
      const atoms = this.#unproposed.splice(0, atomsPerProposalMax);
      for (const id of atoms) this.#startEarly(id);
      this.#proposals.propose(encodeBody({ kind: "hold", atoms }), [], (outcome, seq) => this.#held(atoms, outcome === "applied", seq));
    }
  }

  #startEarly(id: AtomId): void {
    const { catalog, appliedSeq } = this.#context;
    const atom = catalog.atoms.get(id);
    if (atom === undefined) return;
    const task = this.#start(atom.space, null, atom.low, catalog.atoms.highOf(atom), appliedSeq);
    task.awaitsHold = true;
    this.#early.set(id, task);
  }

  /** What was asked for before HOLD, where that is the range which the atom has. */
  #takeEarly(id: AtomId, atom: Atom | undefined): Task | undefined {
    const task = this.#early.get(id);
    this.#early.delete(id);
    // Gone with its space, otherwise.
    if (task === undefined || !this.#tasks.has(task)) return undefined;
    if (atom !== undefined && task.range.low === atom.lowKey && task.range.high === this.#context.catalog.atoms.highKeyOf(atom)) return task;
    this.#remove(task);
    this.#local.abandonHold(task.space, task.low, task.high);
    return undefined;
  }

  #atomsOf({ space, ranges }: PullNeed): readonly Atom[] {
    const { atoms } = this.#context.catalog;
    if (ranges === null) return atoms.ofSpace(space);
    return [...new Set(ranges.flatMap(({ low, high }) => atoms.overlapping(space, low, high)))];
  }

  #held(ids: readonly AtomId[], applied: boolean, seq: Seq): void {
    const { catalog, engine } = this.#context;
    for (const id of ids) this.#proposed.delete(id);
    for (const id of ids) {
      const known = catalog.atoms.get(id);
      const atom = !applied || known === undefined || isReadyHolder(known, engine) ? undefined : known;
      const early = this.#takeEarly(id, atom);
      if (atom === undefined) continue;
      this.counters.atoms++;
      if (this.#dropped.delete(id)) this.counters.again++;
      if (early === undefined) this.#start(atom.space, null, atom.low, catalog.atoms.highOf(atom), seq);
      else early.awaitsHold = false;
    }
    // A split between proposal and application may have left pieces that are nobody's.
    for (const need of this.needs()) if (need.indexOf === undefined) this.#hold(need);
    this.#wake();
  }

  /** What is waited for. */
  *needs(): Iterable<PullNeed> {
    for (const { needs } of this.#waiting) yield* needs;
  }

  /** Its HOLD is undecided. */
  isProposed(atom: AtomId): boolean {
    return this.#proposed.has(atom);
  }

  /** The atom is given up. */
  noteDropped(id: AtomId): void {
    this.#dropped.set(id, true);
  }

  /** `at`: what comes before it is here. */
  #start(space: SpaceId, indexOf: SpaceId | null, low: Buffer, high: Buffer | null, minSeq: Seq, at = low): Task {
    this.#local.beginHold(space, at, high);
    const range = { low: binaryKey(low), high: high === null ? null : binaryKey(high) };
    const asked = { space, indexOf, at, high, minSeq, asOf: noSeq, question: 0, notHeldBy: new Set<Endpoint>(), leftBy: null };
    const isNew = { reply: null, values: [], forgetValues: () => {}, installing: false, awaitsRows: false, awaitsHold: false };
    const task: Task = { ...asked, low, range, ...isNew };
    this.#tasks.add(task);
    return task;
  }

  #remove(task: Task): void {
    this.#tasks.delete(task);
    this.#replied.delete(task);
    this.questions.close(task);
    task.forgetValues();
  }

  refused(from: Endpoint, message: PullRefusedMessage): void {
    this.questions.refused(from, message);
  }

  onReply(from: Endpoint, message: PullReplyMessage): void {
    const task = this.questions.answered(from, message);
    if (task === undefined) return;
    task.reply = message;
    this.#replied.add(task);
    this.counters.chunks++;
    for (const { key, row } of message.rows) this.counters.bytes += key.length + row.length;
    if (task.indexOf === null) this.#fetchValues(task, message);
    else if (message.next !== null || message.rows.length > entriesMax) this.#tooWide(task, task.indexOf);
    else this.#install(task);
  }

  #fetchValues(task: Task, reply: PullReplyMessage): void {
    task.values = null;
    task.forgetValues = this.#values.fetch([...reply.rows, ...reply.images], reply.seq, (values) => {
      if (values === "gone") {
        // Nobody reads a snapshot any more in which these rows are as they came. What this engine has applied is newer than that.
        task.reply = null;
        this.#replied.delete(task);
        task.minSeq = Math.max(task.minSeq, this.#context.appliedSeq) as Seq;
        this.#context.log("debug", "rows are asked for again: a large value of theirs is gone", { space: task.space });
        return;
      }
      for (const { bytes } of values) this.counters.bytes += bytes.length;
      task.values = values;
      this.#install(task);
    });
  }

  #install(task: Task): void {
    const { reply, values } = task;
    if (reply === null || values === null || task.installing || task.awaitsRows || task.awaitsHold || reply.seq > this.#context.appliedSeq) return;
    task.installing = true;
    const end = reply.next ?? task.high;
    const changedSeq =
      task.indexOf === null ? this.#changedSeq(task.space, task.at, end, reply.seq) : this.#changedSeq(task.indexOf, emptyBytes, null, reply.seq);
    const knownFrom = Math.min(changedSeq, reply.imagesFrom) as Seq;
    this.#local.install(task.space, task.at, end, reply.seq, knownFrom, { rows: reply.rows, images: reply.images, values }, (outcome) => {
      task.installing = false;
      if (typeof outcome === "object") {
        if (this.#tasks.has(task)) this.#awaitRows(task, outcome);
        return;
      }
      task.reply = null;
      task.values = [];
      this.#replied.delete(task);
      if (!this.#tasks.has(task)) return;
      if (outcome === "full") this.#startAgain(task);
      else if (reply.next !== null) task.at = reply.next;
      else this.#finish(task);
    });
  }

  /** Nothing in the range has changed between it and `seq`: who reads an older snapshot may read the range, whether or not there are images. */
  #changedSeq(space: SpaceId, low: Buffer, high: Buffer | null, seq: Seq): Seq {
    const changed = this.#context.recent.newestWithin(space, binaryKey(low), high === null ? null : binaryKey(high), keysLookedAtMax);
    return changed === null || changed > seq ? seq : changed;
  }

  #awaitRows(task: Task, need: PullNeed): void {
    task.awaitsRows = true;
    for (const waiting of this.#waitingFor(task)) waiting.needs = [...waiting.needs, need];
    this.ensure([need], () => {
      task.awaitsRows = false;
      if (this.#tasks.has(task)) this.#install(task);
    });
  }

  #tooWide(task: Task, table: SpaceId): void {
    this.#remove(task);
    this.#local.abandonHold(task.space, task.low, task.high);
    const need = { space: table, ranges: null };
    const all = this.#waitingFor(task);
    for (const waiting of all) {
      waiting.needs = [...waiting.needs, need];
      waiting.lacking++;
    }
    this.#catalogs.ensure([need], () => {
      for (const waiting of all) waiting.lacking--;
      this.#hold(need);
      this.#wake();
    });
  }

  #waitingFor(task: Task): Waiting[] {
    return this.#waiting.filter(({ needs }) =>
      needs.some(({ space, ranges }) => space === task.space && ranges?.some((range) => overlap(range, task.range)) === true),
    );
  }

  /** The buffer of changes overflowed: the rest of the range begins anew, from now. */
  #startAgain(task: Task): void {
    this.#remove(task);
    this.#context.log("debug", "a pull starts again: too many changes while it ran", { space: task.space });
    this.#local.abandonHold(task.space, task.at, task.high);
    // READY is for all of it, in the end.
    this.#start(task.space, task.indexOf, task.low, task.high, this.#context.appliedSeq, task.at);
  }

  #finish(task: Task): void {
    this.#remove(task);
    if (this.#whole.length === 0) this.#wholeSinceMs = this.#context.nowMs;
    if (task.indexOf === null) this.#whole.push({ space: task.space, low: task.low, high: task.high });
    this.#wake();
  }

  spaceGone(space: SpaceId): void {
    this.#lookUps.delete(space);
    for (const task of this.#tasks) if (task.space === space) this.#remove(task);
    this.#wake();
  }

  turnEnd(): void {
    this.questions.turnEnd();
    this.#proposeHold();
    let chunks = this.questions.openCount;
    for (const task of this.#replied) {
      this.#install(task);
      // While it waits for others, these have its place.
      if (!task.awaitsRows) chunks++;
    }
    for (const task of this.#tasks) {
      if (chunks >= chunksAtOnceMax) break;
      if (task.question !== 0 || task.reply !== null) continue;
      if (this.questions.ask(task, this.#local.oldestSnapshot, this.#local.hasOpen)) chunks++;
    }
    this.#proposeReady();
  }

  #proposeReady(): void {
    const { nowMs } = this.#context;
    if (this.#whole.length === 0 || nowMs - this.#wholeSinceMs < readyAfterMs) return;
    this.#readyWithin(this.#whole.splice(0));
  }

  /** What of the ranges is joining still: in the turn in which that is known, since what is READY may be given up and held anew. */
  #readyWithin(ranges: readonly Whole[]): void {
    const { catalog, engine } = this.#context;
    const ids = new Set<AtomId>();
    for (const range of ranges) {
      const low = binaryKey(range.low);
      for (const atom of catalog.atoms.overlapping(range.space, low, range.high === null ? null : binaryKey(range.high))) {
        if (atom.lowKey >= low && atom.holders.some((holder) => holder.engine === engine && holder.state === "joining")) ids.add(atom.id);
      }
    }
    // A SPLIT that was ordered before READY leaves pieces that it does not name: what it was for is looked at again.
    if (ids.size > 0) this.#ready([...ids], () => this.#readyWithin(ranges));
  }

  /** An atom that is gone by a SPLIT or MERGE refuses all of them as stale: then they are proposed one by one, and each decides for itself. */
  #ready(atoms: readonly AtomId[], then: () => void): void {
    this.#proposals.propose(encodeBody({ kind: "ready", atoms }), [], (outcome) => {
      if (outcome === "applied" || atoms.length === 1) {
        then();
        return;
      }
      let left = atoms.length;
      const done = (): void => {
        if (--left === 0) then();
      };
      for (const atom of atoms) this.#ready([atom], done);
    });
  }

  /** Those with nothing left to fetch go on. */
  #wake(): void {
    if (this.#waiting.length === 0) return;
    const busy = new Map<SpaceId, BinaryRange[]>();
    const add = (space: SpaceId, range: BinaryRange): void => {
      const ranges = busy.get(space);
      if (ranges === undefined) busy.set(space, [range]);
      else ranges.push(range);
    };
    const { atoms } = this.#context.catalog;
    for (const task of this.#tasks) add(task.space, task.range);
    for (const id of this.#proposed) {
      const atom = atoms.get(id);
      if (atom !== undefined) add(atom.space, { low: atom.lowKey, high: atoms.highKeyOf(atom) });
    }
    const isFree = ({ space, ranges }: PullNeed): boolean => {
      const others = busy.get(space);
      return others === undefined || (ranges !== null && !others.some((other) => ranges.some((range) => overlap(range, other))));
    };
    const ready = this.#waiting.filter(({ needs, lacking }) => lacking === 0 && needs.every(isFree));
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((one) => !ready.includes(one));
    for (const { needs, then } of ready) then(needs);
  }
}
