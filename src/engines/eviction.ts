/**
 * Keeps what this Cache holds within its budget (design.md §5 "Eviction"): gives atoms up, the one used longest ago first.
 *
 * The weight is that of keys and rows, as the record catalogs estimate it (HeldAtoms). What was used, the local store samples; what is pulled, or stands
 * under a permission of this Cache's transactions, is used then. DROP ends this Cache's place among an atom's holders; where it is applied, the local
 * store gives the range up, behind what was posted before: a run before it has seen the rows, one behind it asks for them and the atom is held anew.
 * Its fences say whose the atoms are and which keys they have, so what is given up is what was dropped.
 *
 * | label | when | then |
 * |-------|------|------|
 * | E1 | below the low mark | nothing but a look at the store's size now and then |
 * | E2 | above the low mark, not above the budget since | the store is asked what was used, so that the order is known when it counts |
 * | E3 | above the budget | the store is asked; then the coldest that may go are dropped, so many bytes at once; so on to the low mark |
 * | E4 | some of these are this Cache's to originate | HANDOFF to the next ready holder, or an Archive; they are dropped when they are chosen again |
 * | E5 | DROP is applied | their ranges are given up, atom by atom; then E3 |
 * | E6 | DROP or HANDOFF is refused: an atom was split, merged or has another originator, or too few Archives are up | chosen anew, a little later |
 * | E7 | nothing may go | the budget is exceeded, which is counted; again later |
 * | E8 | this Cache starts over | all of it is gone with the old core |
 *
 * What may not go: what a transaction under way has needed (a statement that needs more than the budget works all the same, beyond it for its time); what
 * is still being pulled; the ids that this Cache is giving out; what weighs nothing.
 */
import { type Atom, isReadyHolder } from "../atoms/atom.js";
import { assert } from "../base/errors.js";
import { type AtomId, type EngineId, noEngine } from "../base/ids.js";
import { successor } from "../catalog/ownership.js";
import { encodeBody } from "../messages/wire/entry.js";
import type { PullNeed, Usage } from "../sql/local-store.js";
import type { CoreContext } from "./core-context.js";
import type { LocalDriver } from "./local-driver.js";
import type { ProposalQueue } from "./proposal-queue.js";
import type { PullManager } from "./pull-manager.js";

/** Once above the budget, atoms go until what is left is this share of it. Reason: each DROP then takes several, and none comes for each pull. */
export const lowMarkShare = 7 / 8;
/** Of atoms in one DROP, but for the last one. Reason: to delete so much keeps the local store from statements for about ten milliseconds. */
export const dropBytesMax = 1024 * 1024;
/** Between two looks at what is used, near the budget and far below it; and after a DROP that was refused, or when nothing could go. Milliseconds. */
const nearLookMs = 100;
const farLookMs = 1000;
const againMs = 50;

const noUsage: Usage = { used: [], ids: [], open: [], usedBytes: 0, fileBytes: 0 };

export class Eviction {
  readonly #context: CoreContext;
  readonly #local: LocalDriver;
  readonly #proposals: ProposalQueue;
  readonly #pulls: PullManager;
  readonly #needs: () => Iterable<PullNeed>;
  /** Infinity: none. */
  readonly budgetBytes: number;
  #isAbove = false;
  /** The store is asked, a DROP is undecided, or ranges are being given up. */
  #isBusy = false;
  #nextMs = 0;
  /** As told last. */
  usage = noUsage;
  readonly counters = { proposed: 0, refused: 0, handedOver: 0, atoms: 0, bytes: 0, exceeded: 0 };

  /** `needs`: what transactions under way have pulled. */
  constructor(
    context: CoreContext,
    local: LocalDriver,
    proposals: ProposalQueue,
    pulls: PullManager,
    needs: () => Iterable<PullNeed>,
    budgetBytes: number,
  ) {
    this.#context = context;
    this.#local = local;
    this.#proposals = proposals;
    this.#pulls = pulls;
    this.#needs = needs;
    this.budgetBytes = budgetBytes;
  }

  tick(): void {
    const { held } = this.#context.catalog.atoms;
    if (held === null || this.budgetBytes === Number.POSITIVE_INFINITY) return;
    if (held.bytes > this.budgetBytes && !this.#isAbove) {
      this.#isAbove = true;
      this.#nextMs = 0;
    }
    if (this.#isBusy || this.#context.nowMs < this.#nextMs) return;
    this.#ask(held.bytes > this.budgetBytes * lowMarkShare ? nearLookMs : farLookMs);
  }

  #ask(againAfterMs: number): void {
    this.#isBusy = true;
    this.#local.usage((usage) => {
      this.usage = usage;
      this.#noteUse(usage.used);
      this.#goOn(againAfterMs);
    });
  }

  #noteUse(used: readonly PullNeed[]): void {
    const { held } = this.#context.catalog.atoms;
    for (const atom of this.#atomsOf(used)) held?.touch(atom.id);
  }

  *#atomsOf(needs: Iterable<PullNeed>): Iterable<Atom> {
    const { atoms } = this.#context.catalog;
    for (const { space, ranges } of needs) {
      if (ranges === null) yield* atoms.ofSpace(space);
      else for (const { low, high } of ranges) yield* atoms.overlapping(space, low, high);
    }
  }

  #goOn(againAfterMs: number): void {
    const { held } = this.#context.catalog.atoms;
    if (held === null || held.bytes <= this.budgetBytes * lowMarkShare) this.#isAbove = false;
    if (!this.#isAbove) {
      this.#rest(againAfterMs);
      return;
    }
    const atoms = this.#coldest();
    if (atoms.length > 0) this.#release(atoms);
    else {
      this.counters.exceeded++;
      this.#rest(againMs);
    }
  }

  #rest(forMs: number): void {
    this.#isBusy = false;
    this.#nextMs = this.#context.nowMs + forMs;
  }

  /** Those that go next. */
  #coldest(): Atom[] {
    const { engine, catalog } = this.#context;
    const { held } = catalog.atoms;
    if (held === null) return [];
    const needed = new Set<AtomId>();
    for (const atom of this.#atomsOf(this.usage.ids)) needed.add(atom.id);
    for (const atom of this.#atomsOf(this.usage.open)) needed.add(atom.id);
    for (const atom of this.#atomsOf(this.#needs())) needed.add(atom.id);
    for (const atom of this.#atomsOf(this.#pulls.needs())) needed.add(atom.id);
    const chosen: Atom[] = [];
    let bytes = 0;
    const goal = Math.min(dropBytesMax, held.bytes - this.budgetBytes * lowMarkShare);
    for (const atom of held) {
      if (bytes >= goal) break;
      if (atom.bytes === 0 || needed.has(atom.id) || !isReadyHolder(atom, engine)) continue;
      if (atom.originator === engine && successor(atom, catalog.members, engine) === noEngine) continue;
      chosen.push(atom);
      bytes += atom.bytes;
    }
    return chosen;
  }

  #release(atoms: readonly Atom[]): void {
    const { catalog, engine } = this.#context;
    const groups = new Map<EngineId, Atom[]>();
    for (const atom of atoms) {
      const to = atom.originator === engine ? successor(atom, catalog.members, engine) : noEngine;
      groups.set(to, [...(groups.get(to) ?? []), atom]);
    }
    let left = groups.size;
    let isRefused = false;
    const done = (): void => {
      if (--left > 0) return;
      if (isRefused) this.#rest(againMs);
      else this.#ask(nearLookMs);
    };
    for (const [to, group] of groups) {
      const ids = group.map(({ id }) => id);
      const fences = group.map(({ id, originator, ownershipVersion }) => ({ atom: id, originator, ownershipVersion }));
      const body = encodeBody(to === noEngine ? { kind: "drop", atoms: ids } : { kind: "handoff", to, atoms: ids });
      this.counters.proposed++;
      this.#proposals.propose(body, fences, (outcome) => {
        if (outcome === "applied" && to === noEngine) {
          this.#giveUp(ids, done);
          return;
        }
        if (outcome === "applied") this.counters.handedOver += ids.length;
        else {
          this.counters.refused++;
          isRefused = true;
        }
        done();
      });
    }
  }

  /** DROP is applied: this Cache is no holder of them any more. */
  #giveUp(ids: readonly AtomId[], then: () => void): void {
    const { atoms } = this.#context.catalog;
    let left = ids.length;
    const done = (): void => {
      if (--left === 0) then();
    };
    for (const id of ids) {
      const atom = atoms.get(id);
      // Its fence saw to it that it is there, and is not this Cache's.
      assert(atom !== undefined && !atoms.held?.has(id), `atom ${id} was dropped and is held`);
      this.counters.atoms++;
      this.counters.bytes += atom.bytes;
      this.#pulls.noteDropped(id);
      this.#local.dropRange(atom.space, atom.low, atoms.highOf(atom), done);
    }
  }
}
