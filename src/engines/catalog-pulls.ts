/**
 * Brings this Cache the parts of record catalogs that it needs (design.md §5). It began with the root catalog, which names every space and counts its
 * atoms. What it holds atoms of, asks permission in, or is asked to list, it must know atom by atom: those ranges of the space's catalog are pulled from
 * an Archive, with some atoms behind them, part by part, all of one seq. Meanwhile the entries that may concern them are kept; what came after that
 * seq is applied to them when they are installed, and from then on they follow the stream like all that is here. Spaces that DDL makes are here from birth.
 *
 * | while a catalog is pulled | what follows |
 * |---|---|
 * | a part, and more to come | its atoms are taken, the next part is asked for |
 * | the last part | installed, as soon as its seq is applied here: "catalog pulled" |
 * | the source is lost, silent, or has given the read up, or the part is of another seq | begins again with the first part, at another Archive: "catalog pull restarted" |
 * | kept entries are more than their limit | every pull begins again, from this Cache's seq on, and none are kept from before: "buffer overflow" |
 * | the space is dropped | the pull is over, and who waited for it goes on: "space gone during a catalog pull" |
 * | a MERGE of known and unknown atoms makes a gap of what was here | who waited for it asks for that again |
 * | no Archive is a member | waits for one |
 * | this Cache starts over | all of it is gone with the old core; what still arrives for it has a number that nobody knows |
 *
 * An engine knows the atoms that it holds and originates: it made them, or was a holder or an id block's taker, and both name atoms that they know. An
 * atom that is known stays so through SPLITs; and one that a MERGE takes away is gone for all, so that what names it is refused.
 */
import type { Endpoint, Seq, SpaceId } from "../base/ids.js";
import { type BinaryRange, KeyRanges, wholeRange } from "../base/key-ranges.js";
import { Catalog } from "../catalog/catalog.js";
import { type AtomRun, addToRuns } from "../catalog/catalog-records.js";
import { encodeMember } from "../catalog/member.js";
import type { CatalogMessage } from "../messages/wire/engine-messages.js";
import type { Entry } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import type { CatalogLimits } from "./core-types.js";

/** Catalogs pulled at once; others wait for their turn. */
const pullsAtOnceMax = 8;
/** A source that has not answered within this is replaced. Milliseconds. */
const sourceSilentMs = 2000;
/** Before another Archive is asked where one has given up, or none was there. Milliseconds. */
const againMs = 20;

/**
 * The first questions of a space read no further than the limit: who waits for one row waits for few atoms to be taken in. After so many the next ones read twice as far, and so on, up to so many times
 * the limit: who needs the whole table, piece by piece, has its catalog with some dozens of questions.
 */
const questionsEachTime = 8;
const readAheadMax = 64;
/** Ranges in one question; who needs more asks for the whole. */
const rangesMax = 1024;

/** Of a space's record catalog; `ranges` null: all of it. */
export interface CatalogNeed {
  readonly space: SpaceId;
  readonly ranges: readonly BinaryRange[] | null;
}

interface Pull {
  readonly space: SpaceId;
  readonly ranges: KeyRanges;
  readonly atomsMin: number;
  /** Entries after this one are kept for it. */
  since: Seq;
  /** The members' records at `since`: what a departure does to an atom depends on who was there. */
  members: ReadonlyMap<string, Uint8Array>;
  /** Its number of the question that waits for an answer, or 0. */
  question: number;
  source: Endpoint | null;
  askedMs: number;
  read: number;
  part: number;
  /** What the parts are of; 0 before the first one. */
  seq: Seq;
  runs: AtomRun[];
  isWhole: boolean;
}

interface Kept {
  readonly seq: Seq;
  readonly entry: Entry;
  readonly byteCount: number;
}

export class CatalogPulls {
  readonly #context: CoreContext;
  readonly #limits: CatalogLimits;
  readonly #pulls = new Set<Pull>();
  /** To be pulled at the next turn's end that has room. */
  readonly #wanted = new Map<SpaceId, KeyRanges>();
  /** Of spaces of which parts are lacking. */
  readonly #questions = new Map<SpaceId, number>();
  #waiting: { readonly needs: readonly CatalogNeed[]; readonly then: () => void }[] = [];
  /** In order; what the youngest pull needs is a tail of what the oldest does. */
  #kept: Kept[] = [];
  #keptBytes = 0;
  #nextQuestion: number;
  #nextSource: number;
  /** Rows of the table above, and the parts that have come. */
  readonly counters = { parts: 0, pulled: 0, restarted: 0, overflowed: 0, gone: 0 };

  constructor(context: CoreContext, limits: CatalogLimits) {
    this.#context = context;
    this.#limits = limits;
    // Not from 1: an answer to a former core's question must not pass for one to this one's.
    this.#nextQuestion = 1 + context.random.integer(2 ** 40);
    this.#nextSource = context.random.integer(1024);
  }

  /** `then` is called when what is needed is known here, or the spaces are gone. At once where it is. */
  ensure(needs: Iterable<CatalogNeed>, then: () => void): void {
    const lacking = [...needs].filter((need) => this.#want(need));
    if (lacking.length === 0) then();
    else this.#waiting.push({ needs: lacking, then });
  }

  /** What is waited for. */
  *needs(): Iterable<CatalogNeed> {
    for (const { needs } of this.#waiting) yield* needs;
  }

  /** Parts of the space's catalog were forgotten, since there is no room for all: who asks again asks for little again. */
  forgotten(space: SpaceId): void {
    this.#questions.delete(space);
  }

  /** False: nothing of it is lacking. */
  #want({ space, ranges }: CatalogNeed): boolean {
    const gaps = this.#context.catalog.atoms.gapsWithin(space, ranges);
    if (gaps.length === 0) return false;
    for (const pull of this.#pulls) if (pull.space === space && gaps.every((gap) => pull.ranges.holds(gap))) return true;
    const wanted = this.#wanted.get(space) ?? new KeyRanges();
    for (const gap of gaps) wanted.add(gap);
    this.#wanted.set(space, wanted.pieces.length > rangesMax ? new KeyRanges([wholeRange]) : wanted);
    return true;
  }

  /** A committed entry, after the catalog has applied it. */
  onEntry(seq: Seq, entry: Entry, byteCount: number): void {
    if (this.#pulls.size === 0 || !this.#mayConcern(entry)) return;
    this.#kept.push({ seq, entry, byteCount });
    this.#keptBytes += byteCount;
    if (this.#keptBytes > this.#limits.keptBytesMax) this.#overflow();
  }

  /** Rows only where they are of a space that is pulled; of all the rest (holders, splits, members that come and go) nobody can say. */
  #mayConcern(entry: Entry): boolean {
    if (entry.kind === "noop" || entry.kind === "refused" || entry.kind === "voters") return false;
    if (entry.kind !== "proposal" || entry.body.kind !== "transaction") return true;
    const { parts } = entry.body;
    for (const { space } of this.#pulls) if (parts.some((part) => part.kind === "rows" && part.table === space)) return true;
    return false;
  }

  #overflow(): void {
    this.counters.overflowed++;
    this.#context.log("debug", "pulls of catalogs start again: too many changes while they ran", { spaces: this.#pulls.size });
    for (const pull of this.#pulls) Object.assign(pull, this.#beginning());
    this.#trim();
  }

  /** What no pull needs any more. */
  #trim(): void {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { since } of this.#pulls) oldest = Math.min(oldest, since);
    this.#kept = this.#kept.filter(({ seq }) => seq > oldest);
    this.#keptBytes = this.#kept.reduce((sum, { byteCount }) => sum + byteCount, 0);
  }

  #beginning(): Omit<Pull, "space" | "ranges" | "atomsMin"> {
    const { catalog, appliedSeq } = this.#context;
    const members = new Map([...catalog.members.values()].map((member): [string, Uint8Array] => [`e:${member.id}`, encodeMember(member)]));
    members.set("v", catalog.encodeVoters());
    return { since: appliedSeq, members, ...nothingYet() };
  }

  spaceGone(space: SpaceId): void {
    this.#wanted.delete(space);
    this.#questions.delete(space);
    for (const pull of this.#pulls) {
      if (pull.space !== space) continue;
      this.#pulls.delete(pull);
      this.counters.gone++;
    }
    this.#wake();
  }

  onReply(from: Endpoint, message: CatalogMessage): void {
    const pull = [...this.#pulls].find(({ question }) => question === message.pull && question !== 0);
    if (pull === undefined || pull.space !== message.catalog || pull.source !== from) return;
    // Of another seq: an Archive that has started over counts its reads anew, and has another engine's under that number.
    if (message.read === 0 || message.part !== pull.part || (pull.part > 0 && message.position.seq !== pull.seq)) {
      this.#restart(pull);
      return;
    }
    addToRuns(pull.runs, pull.space, message.records);
    this.counters.parts++;
    pull.seq = message.position.seq;
    pull.read = message.read;
    pull.part++;
    pull.question = 0;
    pull.isWhole = message.isLast;
    if (!pull.isWhole) this.#ask(pull, from);
    else this.onApplied();
  }

  disconnected(endpoint: Endpoint): void {
    for (const pull of this.#pulls) if (pull.source === endpoint && !pull.isWhole) this.#restart(pull);
  }

  /** Another Archive is asked at the next turn that is not too soon. What is kept, is kept: the next seq is no older than `since` either. */
  #restart(pull: Pull): void {
    this.counters.restarted++;
    Object.assign(pull, nothingYet(), { askedMs: this.#context.nowMs });
  }

  turnEnd(): void {
    for (const [space, ranges] of this.#wanted) {
      if (this.#pulls.size >= pullsAtOnceMax) break;
      this.#wanted.delete(space);
      const questions = this.#questions.get(space) ?? 0;
      this.#questions.set(space, questions + 1);
      const times = Math.min(readAheadMax, 2 ** Math.floor(questions / questionsEachTime));
      this.#pulls.add({ space, ranges, atomsMin: this.#limits.rangeAtomsMin * times, ...this.#beginning() });
    }
    if (this.#pulls.size === 0) return;
    const { nowMs } = this.#context;
    const archives = this.#context.archives();
    for (const pull of this.#pulls) {
      if (pull.isWhole) continue;
      if (pull.source !== null && nowMs - pull.askedMs > sourceSilentMs) this.#restart(pull);
      if (pull.source !== null || nowMs - pull.askedMs < againMs) continue;
      const source = archives[this.#nextSource++ % Math.max(1, archives.length)];
      if (source !== undefined) this.#ask(pull, source);
    }
  }

  #ask(pull: Pull, source: Endpoint): void {
    pull.source = source;
    pull.askedMs = this.#context.nowMs;
    pull.question = this.#nextQuestion++;
    const { space: catalog, question, read, part, since: minSeq } = pull;
    const bytesMax = this.#limits.partBytes;
    // The first question opens the read of these ranges; the others name it.
    const ranges = part === 0 ? pull.ranges.pieces : [];
    this.#context.send(source, {
      kind: "catalogRequest",
      pull: question,
      catalog,
      ranges,
      rangeAtomsMin: pull.atomsMin,
      read,
      part,
      minSeq,
      bytesMax,
    });
  }

  /** After a batch of entries: what was waited for may be applied. */
  onApplied(): void {
    let installed = 0;
    for (const pull of this.#pulls) {
      if (!pull.isWhole || pull.seq > this.#context.appliedSeq) continue;
      this.#install(pull);
      installed++;
    }
    if (installed > 0) this.#wake();
  }

  #install(pull: Pull): void {
    const { catalog } = this.#context;
    const { space, since, seq } = pull;
    this.#pulls.delete(pull);
    // A catalog of the members of then and what has come of this space alone goes through what this one has been through.
    const copy = Catalog.load(pull.members);
    const apply = (from: Seq, through: Seq): void => {
      for (const one of this.#kept) if (one.seq > from && one.seq <= through) copy.apply(one.seq, one.entry);
    };
    apply(since, seq);
    copy.atoms.lack(space, catalog.atoms.countOf(space));
    for (const { atoms, high } of pull.runs) copy.atoms.learn(space, { low: atoms[0]?.lowKey ?? "", high }, atoms);
    apply(seq, this.#context.appliedSeq);
    catalog.learn(space, copy);
    if (!catalog.atoms.lacking().has(space)) this.#questions.delete(space);
    this.counters.pulled++;
  }

  #wake(): void {
    this.#trim();
    const ready = this.#waiting.filter(({ needs }) => needs.filter((need) => this.#want(need)).length === 0);
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((one) => !ready.includes(one));
    for (const { then } of ready) then();
  }
}

function nothingYet(): Omit<Pull, "space" | "ranges" | "atomsMin" | "since" | "members"> {
  return { question: 0, source: null, askedMs: Number.NEGATIVE_INFINITY, read: 0, part: 0, seq: 0 as Seq, runs: [], isWhole: false };
}
