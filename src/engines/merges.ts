/**
 * The originator's part in MERGE: neighbours of one space that are small together become one atom, so that blocks of ids that many short-lived
 * writers have left, and ranges whose rows were deleted, do not stay as atoms for ever (design.md §5).
 *
 * It goes round its catalogs, a few atoms at each look, and makes groups of neighbours, from the left, as large as may be. In a group:
 *
 * | what | why |
 * |---|---|
 * | all are small, and so is their sum | far below what is split, so that what is merged is not soon split, nor the other way round |
 * | all are as they were a round ago | what somebody writes, holds or hands over just now is left in peace: no writer ever waits for a MERGE for long |
 * | all have the same holders, all of them ready | nobody has to fetch anything, and holds all or nothing (catalog/ownership.ts) |
 * | none is where the table's next ids come from | it would be split again for the next block, under those who write the rows before it |
 *
 * | of a group, this engine originates | it proposes |
 * |---|---|
 * | neighbours | MERGE of these |
 * | one, or some that are not neighbours, and another the leftmost | HANDOFF to the leftmost one's originator, who merges them in a later round; but not of the block whose ids it gives out itself |
 *
 * HANDOFFs go leftwards only, so nothing goes to and fro. While a MERGE is under way, nothing is granted in its range.
 */
import { type Atom, atomBytesTarget } from "../atoms/atom.js";
import type { PermissionTable } from "../atoms/permission-table.js";
import type { AtomId, SpaceId } from "../base/ids.js";
import { binaryKey } from "../base/key-ranges.js";
import { integerKey } from "../base/sort-key.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import { mayMerge } from "../catalog/ownership.js";
import { encodeBody } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import type { Handoffs } from "./handoffs.js";
import type { ProposalQueue } from "./proposal-queue.js";

/** Bytes of a merged atom. Half of what a SPLIT makes its pieces of: a piece loses half of its rows, or a merged atom grows fourfold, before it turns. */
export const mergedBytesMax = atomBytesTarget / 2;
/** Atoms in one MERGE. */
const mergedAtomsMax = 256;
/** Atoms looked at in one look: what it takes of the thread that orders. */
const atomsPerLook = 512;
/** Atoms remembered from one round to the next; what is beyond them has to wait until there are fewer. */
const seenMax = 65_536;
/** MERGEs under way. */
const underWayMax = 16;

export class Merges {
  readonly #context: CoreContext;
  readonly #proposals: ProposalQueue;
  readonly #table: PermissionTable;
  readonly #handoffs: Handoffs;
  /** Spaces that this round has still to go through, the last first, and where it is in that one. */
  #spaces: SpaceId[] = [];
  #key = "";
  #beganMs: number;
  /** Candidates as the round before found them: who is the same now, has not changed. */
  #seen = new Map<AtomId, Atom>();
  #seeing = new Map<AtomId, Atom>();
  /** The block of ids that this engine was given last. */
  readonly #lastIds = new Map<SpaceId, bigint>();
  readonly #underWay = new Set<AtomId>();

  constructor(context: CoreContext, proposals: ProposalQueue, table: PermissionTable, handoffs: Handoffs) {
    this.#context = context;
    this.#proposals = proposals;
    this.#table = table;
    this.#handoffs = handoffs;
    this.#beganMs = context.nowMs;
  }

  onEvent(event: CatalogEvent): void {
    if (event.kind === "spaceGone") this.#lastIds.delete(event.space);
    if (event.kind !== "split" || event.body.sequenceNext === 0n) return;
    const { space, sequenceNext, firstTaker, pieces } = event.body;
    const taker = firstTaker !== 0 ? firstTaker : pieces.find((piece) => piece.taker !== 0)?.taker;
    if (taker === this.#context.engine) this.#lastIds.set(space, sequenceNext - 1n);
  }

  /** One look. `everyMs`: from the beginning of one round to that of the next, at least. */
  tick(everyMs: number): void {
    if (this.#spaces.length === 0 && !this.#beginRound(everyMs)) return;
    // Two at least, so that it gets on.
    for (let left = atomsPerLook; left > 1; ) {
      const space = this.#spaces.at(-1);
      if (space === undefined) return;
      left -= this.#look(space, left) + 1;
    }
  }

  #beginRound(everyMs: number): boolean {
    const { nowMs, catalog } = this.#context;
    if (nowMs - this.#beganMs < everyMs) return false;
    this.#beganMs = nowMs;
    this.#seen = this.#seeing;
    this.#seeing = new Map();
    this.#spaces = [...catalog.atoms.spaces()];
    this.#key = "";
    return true;
  }

  /** Returns how many atoms it has looked at. */
  #look(space: SpaceId, countMax: number): number {
    const { atoms, schema } = this.#context.catalog;
    const found = atoms.from(space, this.#key, countMax);
    const table = schema.tables.get(space);
    const end = table === undefined ? undefined : atoms.at(space, binaryKey(integerKey(table.sequenceNext)));
    let group: Atom[] = [];
    let bytes = 0;
    for (const [place, atom] of found.entries()) {
      const isSmall = atom.bytes <= mergedBytesMax && atom !== end && atom.originator !== 0;
      if (isSmall) this.#remember(atom, found[place - 1]);
      const last = group.at(-1);
      const isQuiet = isSmall && this.#seen.get(atom.id) === atom && !this.#underWay.has(atom.id);
      const joins =
        isQuiet &&
        last !== undefined &&
        atoms.after(last) === atom &&
        this.belongTogether(last, atom) &&
        bytes + atom.bytes <= mergedBytesMax &&
        group.length < mergedAtomsMax;
      if (joins) {
        group.push(atom);
        bytes += atom.bytes;
        continue;
      }
      this.#carryOut(group);
      [group, bytes] = isQuiet ? [[atom], atom.bytes] : [[], 0];
    }
    this.#carryOut(group);
    const next = found.length < countMax ? undefined : found.at(-1);
    if (next === undefined) this.#spaces.pop();
    // The last one is the next look's first, so that it meets its neighbour.
    this.#key = next?.lowKey ?? "";
    return found.length;
  }

  /** Whether neighbours could be one. */
  belongTogether(left: Atom, right: Atom): boolean {
    return mayMerge(left, right);
  }

  /** It and the one before it, where one of them is this engine's. */
  #remember(atom: Atom, before: Atom | undefined): void {
    const { engine } = this.#context;
    if (before === undefined || (atom.originator !== engine && before.originator !== engine) || this.#seeing.size >= seenMax) return;
    this.#seeing.set(before.id, before);
    this.#seeing.set(atom.id, atom);
  }

  #carryOut(group: readonly Atom[]): void {
    const { engine } = this.#context;
    const leader = group[0]?.originator;
    if (group.length < 2 || leader === undefined) return;
    let isMerged = false;
    for (let from = 0; from < group.length; from++) {
      let to = from;
      while (group[to]?.originator === engine) to++;
      if (to - from > 1) isMerged = this.#propose(group.slice(from, to)) || isMerged;
      from = Math.max(from, to - 1);
    }
    if (isMerged || leader === engine) return;
    for (const atom of group) if (atom.originator === engine && !this.#givesIdsOf(atom)) this.#handoffs.want(atom.id, leader);
  }

  #givesIdsOf(atom: Atom): boolean {
    const id = this.#lastIds.get(atom.space);
    return id !== undefined && this.#context.catalog.atoms.at(atom.space, binaryKey(integerKey(id))) === atom;
  }

  /** False: something in them is granted just now, or too much is under way. */
  #propose(atoms: readonly Atom[]): boolean {
    const [first, last] = [atoms[0], atoms.at(-1)];
    if (first === undefined || last === undefined || this.#underWay.size >= underWayMax * mergedAtomsMax) return false;
    const unblock = this.#table.block(first.space, first.lowKey, this.#context.catalog.atoms.highKeyOf(last));
    if (unblock === null) return false;
    const fences = atoms.map(({ id, originator, ownershipVersion }) => ({ atom: id, originator, ownershipVersion }));
    for (const { id } of atoms) this.#underWay.add(id);
    const body = encodeBody({ kind: "merge", space: first.space, atoms: atoms.map(({ id }) => id), into: this.#context.nextAtomId() });
    this.#proposals.propose(body, fences, () => {
      unblock();
      for (const { id } of atoms) this.#underWay.delete(id);
    });
    return true;
  }
}
