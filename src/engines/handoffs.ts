/**
 * The originator's part in "ownership follows the writer": counts who asks (ask-counts.ts) and proposes HANDOFF.
 *
 * What this engine has granted in the atom is not waited for: the HANDOFF changes the ownership version, so a grant that is not proposed yet,
 * or is ordered behind it, meets its fence and is asked for again at the next originator. Waiting for a moment without grants would hold up
 * everybody on a hot atom, which has no such moment, and would need the fence all the same.
 */
import type { AtomId, EngineId } from "../base/ids.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import { mayBeHanded } from "../catalog/ownership.js";
import { encodeBody, type Fence } from "../messages/wire/entry.js";
import { AskCounts, blockWeight } from "./ask-counts.js";
import type { CoreContext } from "./core-context.js";
import type { ProposalQueue } from "./proposal-queue.js";

/** Atoms in one HANDOFF; the rest follows. */
const atomsPerProposalMax = 1024;

export class Handoffs {
  readonly #context: CoreContext;
  readonly #proposals: ProposalQueue;
  readonly #counts = new AskCounts();
  /** To be proposed at the next look. */
  #wanted = new Map<AtomId, EngineId>();
  /** Proposed and undecided. */
  readonly #proposed = new Set<AtomId>();

  constructor(context: CoreContext, proposals: ProposalQueue) {
    this.#context = context;
    this.#proposals = proposals;
  }

  /** These permissions were granted. */
  granted(by: EngineId, fences: readonly Fence[]): void {
    const { engine, nowMs } = this.#context;
    for (const { atom } of fences) {
      this.#counts.note(atom, by, engine, 1, nowMs);
      if (by === engine || this.#wanted.size >= atomsPerProposalMax || this.#proposed.has(atom)) continue;
      const favourite = this.#counts.favourite(atom, engine, nowMs);
      if (favourite !== null) this.#wanted.set(atom, favourite);
    }
  }

  /** It is better there, for another reason than who asks (merges.ts). */
  want(atom: AtomId, to: EngineId): void {
    if (this.#wanted.size < atomsPerProposalMax && !this.#proposed.has(atom)) this.#wanted.set(atom, to);
  }

  /** A block of ids is taken from the atom. Returns who takes the space behind it too, so that it asks for no block any more; 0: nobody. */
  blockTaken(atom: AtomId, taker: EngineId): EngineId {
    const { engine, nowMs } = this.#context;
    this.#counts.note(atom, taker, engine, blockWeight, nowMs);
    const favourite = this.#counts.favourite(atom, engine, nowMs);
    return favourite === taker ? taker : (0 as EngineId);
  }

  onEvent(event: CatalogEvent): void {
    if (event.kind === "moved") for (const atom of event.atoms) this.#counts.forget(atom);
    if (event.kind !== "split" || event.body.sequenceNext === 0n) return;
    // A block of ids that had been given back: the space behind all blocks stays where it is.
    if (this.#context.catalog.schema.tables.get(event.body.space)?.sequenceNext !== event.body.sequenceNext) return;
    const rest = event.body.pieces.at(-1);
    if (rest !== undefined) this.#counts.carry(event.body.atom, rest.atom);
  }

  /** Proposes what is wanted, one entry for each next originator. */
  tick(): void {
    if (this.#wanted.size === 0) return;
    const wanted = this.#wanted;
    this.#wanted = new Map();
    const { catalog, engine } = this.#context;
    const fences = new Map<EngineId, Fence[]>();
    for (const [id, to] of wanted) {
      const atom = catalog.atoms.get(id);
      if (atom === undefined || atom.originator !== engine || !mayBeHanded(atom, catalog.members, to)) continue;
      const group = fences.get(to) ?? [];
      group.push({ atom: id, originator: engine, ownershipVersion: atom.ownershipVersion });
      fences.set(to, group);
    }
    for (const [to, group] of fences) this.#propose(to, group);
  }

  #propose(to: EngineId, fences: readonly Fence[]): void {
    const atoms = fences.map((fence) => fence.atom);
    for (const atom of atoms) this.#proposed.add(atom);
    // Refused: what is asked for next decides again.
    const onDecided = (): void => {
      for (const atom of atoms) this.#proposed.delete(atom);
    };
    this.#proposals.propose(encodeBody({ kind: "handoff", to, atoms }), fences, onDecided);
  }
}
