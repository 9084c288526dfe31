/**
 * Blocks of ids for this Cache's INSERTs, taken from each table's sequence (design.md §5 "Ownership follows the writer"), and given back at its
 * LEAVE as far as they were not used.
 *
 * What is given back must never become a row before the next taker has it. So first this engine, the originator of the ids' atom, grants
 * nothing in the block any more; where it has granted something there, nothing is given back. Then the local store says what is left, behind all rows
 * that it knows. Then the farewell names the ranges with fences, and the sequencer passes on those whose fence holds at the LEAVE.
 */
import { type Atom, isReadyHolder } from "../atoms/atom.js";
import type { AtomId, SpaceId } from "../base/ids.js";
import { binaryKey, rangeOfKey } from "../base/key-ranges.js";
import { integerKey, integerOfKey } from "../base/sort-key.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import { nextIds } from "../catalog/schema-catalog.js";
import type { FarewellMessage } from "../messages/wire/engine-messages.js";
import type { CatalogPulls } from "./catalog-pulls.js";
import type { CoreContext } from "./core-context.js";
import type { LocalDriver } from "./local-driver.js";
import { idMax, largestBlockIds, type OriginatorDesk } from "./originator-desk.js";
import type { SilentOriginators } from "./silent-originators.js";

const firstBlockIds = 32;
const blockIdsMax = 4096;
/** A block that has not come is asked for again: the originator may have changed. Milliseconds. */
const askAgainMs = 300;
/** An originator that has given no block for so long counts as silent: it has other requests to serve, but no reason to keep one waiting. Milliseconds. */
const silentMs = 1000;
/** A block may still come, from the atom that it was asked of, for so long after it was asked for, in milliseconds; of so many atoms at most. */
const mayComeMs = 60_000;
const askedOfMax = 1024;
/** The last blocks of a table, remembered to be given back: as a rule one is in use. */
const blocksRememberedMax = 4;
/** Fewer ids are not worth an atom of their own. */
const givenBackMin = 8n;
/** Ranges in one farewell. */
const rangesGivenBackMax = 1024;

type GivenBack = FarewellMessage["ids"][number];

interface Wish {
  askedMs: number;
  /** Asked, or complained of, since then. */
  sinceMs: number;
  readonly wanted: number;
  readonly waiting: (() => void)[];
}

export class IdBlocks {
  readonly #context: CoreContext;
  readonly #local: LocalDriver;
  readonly #desk: OriginatorDesk;
  readonly #silent: SilentOriginators;
  readonly #catalogs: CatalogPulls;
  readonly #wishes = new Map<SpaceId, Wish>();
  /** Atoms that blocks were asked of, and when last, the oldest first. */
  readonly #askedOf = new Map<AtomId, number>();
  /** Size of the next block by table: doubles with each, so that a table with many inserts asks rarely. */
  readonly #counts = new Map<SpaceId, number>();
  /** Oldest first. */
  readonly #blocks = new Map<SpaceId, { readonly first: bigint; readonly next: bigint }[]>();
  /** For the farewell. */
  givenBack: readonly GivenBack[] = [];

  constructor(context: CoreContext, local: LocalDriver, desk: OriginatorDesk, silent: SilentOriginators, catalogs: CatalogPulls) {
    this.#context = context;
    this.#local = local;
    this.#desk = desk;
    this.#silent = silent;
    this.#catalogs = catalogs;
  }

  /**
   * `then` is called when a block has come, or none can come: the table is gone, or its ids are exhausted. `runs`: of one statement, in a row, that have asked:
   * each asks for twice as many ids as the one before, so that a statement that makes very many rows is not run very many times.
   */
  want(space: SpaceId, then: () => void, runs = 1): void {
    const wish = this.#wishes.get(space);
    if (wish !== undefined) {
      wish.waiting.push(then);
      return;
    }
    const wanted = Math.min(largestBlockIds, firstBlockIds * 2 ** (runs - 1));
    const { nowMs } = this.#context;
    this.#wishes.set(space, { askedMs: nowMs, sinceMs: nowMs, wanted, waiting: [then] });
    this.#ask(space, wanted);
  }

  /** The sequence has come to the largest rowid: no block can be had any more. */
  isExhausted(space: SpaceId): boolean {
    return (this.#context.catalog.schema.tables.get(space)?.sequenceNext ?? 0n) >= idMax;
  }

  /** The atom that the next block comes from. */
  #nextAtom(space: SpaceId): Atom | undefined {
    const { catalog } = this.#context;
    const table = catalog.schema.tables.get(space);
    return table === undefined ? undefined : catalog.atoms.at(space, binaryKey(integerKey(nextIds(table).first)));
  }

  /** The atom that the next block comes from is looked for first: where it is not known here, nobody could be asked for it. */
  #ask(space: SpaceId, wanted: number): void {
    const table = this.#context.catalog.schema.tables.get(space);
    if (table === undefined) return;
    const ranges = [rangeOfKey(binaryKey(integerKey(nextIds(table).first)))];
    this.#catalogs.ensure([{ space, ranges }], () => this.#askFor(space, wanted));
  }

  #askFor(space: SpaceId, wanted: number): void {
    const { engine } = this.#context;
    const atom = this.#nextAtom(space);
    if (atom === undefined || !this.#wishes.has(space)) return;
    const count = Math.max(wanted, this.#counts.get(space) ?? firstBlockIds);
    this.#noteAsked(atom.id);
    const to = this.#context.endpointOf(atom.originator);
    if (atom.originator === engine) this.#desk.wantBlock(space, engine, atom.id, count);
    else if (to !== null) this.#context.send(to, { kind: "blockRequest", engine, space, atom: atom.id, count });
  }

  #noteAsked(atom: AtomId): void {
    this.#askedOf.delete(atom);
    this.#askedOf.set(atom, this.#context.nowMs);
    const [oldest] = this.#askedOf.keys();
    if (oldest !== undefined && this.#askedOf.size > askedOfMax) this.#askedOf.delete(oldest);
  }

  /** A block may still come from the atom: where it does, this engine has to know it. */
  mayComeFrom(atom: AtomId): boolean {
    return this.#context.nowMs - (this.#askedOf.get(atom) ?? Number.NEGATIVE_INFINITY) < mayComeMs;
  }

  onEvent(event: CatalogEvent): void {
    if (event.kind === "spaceGone") {
      this.#counts.delete(event.space);
      this.#blocks.delete(event.space);
      this.#wake(event.space);
    }
    if (event.kind !== "split" || event.body.sequenceNext === 0n) return;
    const { body } = event;
    const { space } = body;
    const taker = body.firstTaker !== 0 ? body.firstTaker : body.pieces.find((piece) => piece.taker !== 0)?.taker;
    if (taker !== this.#context.engine) {
      // The next ids may be another originator's to give now.
      const wish = this.#wishes.get(space);
      if (wish !== undefined) this.#ask(space, wish.wanted);
      return;
    }
    // No row has ever been there: ids of the sequence that nobody was given have none. So INSERTs with ids of the block find it held. The same
    // goes for the space behind it, where that is taken too.
    const rest = this.#context.catalog.atoms.get(body.pieces.at(-1)?.atom ?? (0 as AtomId));
    const takesRest = rest !== undefined && body.pieces.at(-1)?.taker === taker && rest.low.equals(integerKey(body.sequenceNext));
    const high = takesRest ? this.#context.catalog.atoms.highOf(rest) : integerKey(body.sequenceNext);
    this.#local.holdEmpty(space, new Uint8Array(integerKey(body.sequenceFirst)), high === null ? null : new Uint8Array(high));
    this.#local.grantIds(space, body.sequenceFirst, body.sequenceNext - 1n);
    const blocks = [...(this.#blocks.get(space) ?? []), { first: body.sequenceFirst, next: body.sequenceNext }];
    this.#blocks.set(space, blocks.slice(-blocksRememberedMax));
    this.#counts.set(space, Math.min(blockIdsMax, (this.#counts.get(space) ?? firstBlockIds) * 2));
    this.#wake(space);
  }

  /** `then` is called when `givenBack` is known. This engine takes no more part in these blocks: it leaves. */
  giveBack(then: () => void): void {
    const guarded: GivenBack[] = [];
    for (const [space, blocks] of this.#blocks) {
      for (const { first, next } of blocks) {
        const range = this.#guard(space, first, next);
        if (range !== null && guarded.length < rangesGivenBackMax) guarded.push(range);
      }
    }
    if (guarded.length === 0) {
      then();
      return;
    }
    this.#local.takeIdsBack((left) => {
      this.givenBack = guarded.flatMap((block) => {
        const ids = left.find(({ space, next }) => space === block.space && block.first < next && next <= block.next);
        if (ids === undefined) return [];
        const first = ids.first > block.first ? ids.first : block.first;
        return ids.next - first < givenBackMin ? [] : [{ ...block, first, next: ids.next }];
      });
      then();
    });
  }

  /** The end of the block, as far as one atom of this engine's has it; from now on nothing is granted there. null: something is, or it is not ours any more. */
  #guard(space: SpaceId, blockFirst: bigint, next: bigint): GivenBack | null {
    const { catalog, engine } = this.#context;
    const atom = catalog.atoms.at(space, binaryKey(integerKey(next - 1n)));
    if (atom === undefined || atom.originator !== engine || !isReadyHolder(atom, engine)) return null;
    const low = integerOfKey(atom.low);
    const first = low !== null && low > blockFirst ? low : blockFirst;
    if (this.#desk.table.block(space, binaryKey(integerKey(first)), binaryKey(integerKey(next))) === null) return null;
    return { space, first, next, fence: { atom: atom.id, originator: engine, ownershipVersion: atom.ownershipVersion } };
  }

  #wake(space: SpaceId): void {
    const wish = this.#wishes.get(space);
    this.#wishes.delete(space);
    for (const then of wish?.waiting ?? []) then();
  }

  #complain(space: SpaceId, wish: Wish): void {
    wish.sinceMs = this.#context.nowMs;
    const atom = this.#nextAtom(space);
    if (atom === undefined || atom.originator === this.#context.engine) return;
    this.#silent.accuse({ atom: atom.id, originator: atom.originator, ownershipVersion: atom.ownershipVersion });
  }

  tick(): void {
    for (const [space, wish] of this.#wishes) {
      if (this.#context.nowMs - wish.askedMs < askAgainMs) continue;
      wish.askedMs = this.#context.nowMs;
      if (wish.askedMs - wish.sinceMs >= silentMs) this.#complain(space, wish);
      if (this.#context.catalog.schema.tables.has(space) && !this.isExhausted(space)) this.#ask(space, wish.wanted);
      else this.#wake(space);
    }
  }
}
