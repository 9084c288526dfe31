/**
 * Brings this Cache the record catalogs that it needs (design.md §5). It began with the root catalog, which names every space and counts its
 * atoms. What it holds atoms of, asks permission in, or is asked to list, it must know atom by atom: the space's catalog is pulled from an
 * Archive, part by part, all of one seq. Meanwhile the entries that may concern it are kept; what came after that seq is applied to it when it
 * is installed, and from then on it follows the stream like all that is here. Spaces that DDL makes are here from birth.
 *
 * | while a catalog is pulled | what follows |
 * |---|---|
 * | a part, and more to come | its atoms are taken, the next part is asked for |
 * | the last part | installed, as soon as its seq is applied here: "catalog pulled" |
 * | the source is lost, silent, or has given the read up | begins again with the first part, at another Archive: "catalog pull restarted" |
 * | kept entries are more than their limit | every pull begins again, from this Cache's seq on, and none are kept from before: "buffer overflow" |
 * | the space is dropped | the pull is over, and who waited for it goes on: "space gone during a catalog pull" |
 * | no Archive is a member | waits for one |
 * | this Cache starts over | all of it is gone with the old core; what still arrives for it has a number that nobody knows |
 *
 * An engine originates atoms only in spaces whose catalog it has: it made them, or was a holder or an id block's taker, and both need it.
 */
import { type Atom, decodeAtom } from "../atoms/atom.js";
import { MalformedBytesError } from "../base/bytes.js";
import type { Endpoint, Seq, SpaceId } from "../base/ids.js";
import { Catalog } from "../catalog/catalog.js";
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

interface Pull {
  readonly space: SpaceId;
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
  atoms: Atom[];
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
  readonly #pulls = new Map<SpaceId, Pull>();
  readonly #wanted = new Set<SpaceId>();
  #waiting: { readonly spaces: readonly SpaceId[]; readonly then: () => void }[] = [];
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

  /** `then` is called when the record catalogs of all the spaces are here, or the spaces gone. At once where they are. */
  ensure(spaces: Iterable<SpaceId>, then: () => void): void {
    const { atoms } = this.#context.catalog;
    const lacking = [...spaces].filter((space) => atoms.lacks(space));
    if (lacking.length === 0) {
      then();
      return;
    }
    for (const space of lacking) if (!this.#pulls.has(space)) this.#wanted.add(space);
    this.#waiting.push({ spaces: lacking, then });
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
    return entry.body.parts.some((part) => part.kind === "rows" && this.#pulls.has(part.table));
  }

  #overflow(): void {
    this.counters.overflowed++;
    this.#context.log("debug", "pulls of catalogs start again: too many changes while they ran", { spaces: this.#pulls.size });
    for (const pull of this.#pulls.values()) Object.assign(pull, this.#beginning());
    this.#trim();
  }

  /** What no pull needs any more. */
  #trim(): void {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { since } of this.#pulls.values()) oldest = Math.min(oldest, since);
    this.#kept = this.#kept.filter(({ seq }) => seq > oldest);
    this.#keptBytes = this.#kept.reduce((sum, { byteCount }) => sum + byteCount, 0);
  }

  #beginning(): Omit<Pull, "space"> {
    const { catalog, appliedSeq } = this.#context;
    const members = new Map([...catalog.members.values()].map((member): [string, Uint8Array] => [`e:${member.id}`, encodeMember(member)]));
    members.set("v", catalog.encodeVoters());
    return { since: appliedSeq, members, ...nothingYet() };
  }

  spaceGone(space: SpaceId): void {
    this.#wanted.delete(space);
    if (this.#pulls.delete(space)) this.counters.gone++;
    this.#wake();
  }

  onReply(from: Endpoint, message: CatalogMessage): void {
    const pull = this.#pulls.get(message.catalog);
    if (pull === undefined || pull.question !== message.pull || pull.source !== from) return;
    if (message.read === 0 || message.part !== pull.part) {
      this.#restart(pull);
      return;
    }
    const atoms = [...message.records.values()].map(decodeAtom);
    checkOrder(pull.space, pull.atoms.at(-1), atoms);
    this.counters.parts++;
    for (const atom of atoms) pull.atoms.push(atom);
    pull.seq = message.position.seq;
    pull.read = message.read;
    pull.part++;
    pull.question = 0;
    pull.isWhole = message.isLast;
    if (!pull.isWhole) this.#ask(pull, from);
    else this.onApplied();
  }

  disconnected(endpoint: Endpoint): void {
    for (const pull of this.#pulls.values()) if (pull.source === endpoint && !pull.isWhole) this.#restart(pull);
  }

  /** Another Archive is asked at the next turn that is not too soon. What is kept, is kept: the next seq is no older than `since` either. */
  #restart(pull: Pull): void {
    this.counters.restarted++;
    Object.assign(pull, nothingYet(), { askedMs: this.#context.nowMs });
  }

  turnEnd(): void {
    for (const space of this.#wanted) {
      if (this.#pulls.size >= pullsAtOnceMax) break;
      this.#wanted.delete(space);
      this.#pulls.set(space, { space, ...this.#beginning() });
    }
    if (this.#pulls.size === 0) return;
    const { nowMs } = this.#context;
    const archives = this.#context.archives();
    for (const pull of this.#pulls.values()) {
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
    this.#context.send(source, { kind: "catalogRequest", pull: question, catalog, read, part, minSeq, bytesMax: this.#limits.partBytes });
  }

  /** After a batch of entries: what was waited for may be applied. */
  onApplied(): void {
    let installed = 0;
    for (const pull of this.#pulls.values()) {
      if (!pull.isWhole || pull.seq > this.#context.appliedSeq) continue;
      this.#install(pull);
      installed++;
    }
    if (installed > 0) this.#wake();
  }

  #install(pull: Pull): void {
    const { catalog } = this.#context;
    const { space, since, seq } = pull;
    this.#pulls.delete(space);
    // A catalog of the members of then and this space alone goes through what this one has been through.
    const copy = Catalog.load(pull.members);
    const apply = (from: Seq, through: Seq): void => {
      for (const one of this.#kept) if (one.seq > from && one.seq <= through) copy.apply(one.seq, one.entry);
    };
    apply(since, seq);
    for (const atom of pull.atoms) copy.loadAtom(atom);
    apply(seq, this.#context.appliedSeq);
    catalog.adopt(space, copy);
    this.counters.pulled++;
  }

  #wake(): void {
    this.#trim();
    const { atoms } = this.#context.catalog;
    const ready = this.#waiting.filter(({ spaces }) => !spaces.some((space) => atoms.lacks(space)));
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((one) => !ready.includes(one));
    for (const { then } of ready) then();
  }
}

function nothingYet(): Omit<Pull, "space" | "since" | "members"> {
  return { question: 0, source: null, askedMs: Number.NEGATIVE_INFINITY, read: 0, part: 0, seq: 0 as Seq, atoms: [], isWhole: false };
}

/** What an Archive sends of a space covers it without overlap, in order. Throws MalformedBytesError. */
function checkOrder(space: SpaceId, last: Atom | undefined, atoms: readonly Atom[]): void {
  let before = last;
  for (const atom of atoms) {
    const follows = before === undefined ? atom.low.length === 0 : before.lowKey < atom.lowKey;
    if (atom.space !== space || !follows) throw new MalformedBytesError(`atom ${atom.id} is not the next one of space ${space}`);
    before = atom;
  }
}
