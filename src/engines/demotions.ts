/**
 * The sequencer's answer to an engine that gets none from an originator: DEMOTE, so that one bad link, or one process that stands still,
 * does not stop those who write its atoms until a LEAVE does (design.md §6). Whether the sequencer itself hears the accused does not matter:
 * who asks cannot reach it. A wrong DEMOTE costs a retry, never a commit: what the former originator has granted meets its fence.
 *
 * | of an atom that is complained of, it finds | it orders |
 * |---|---|
 * | another originator or ownership version in the log | nothing: the asker learns of it |
 * | the sequencer itself as the originator: the complaint has reached it, so what is asked will | nothing |
 * | a DEMOTE of it less than `demoteEveryMs` ago | nothing: asked again |
 * | the asker ready | DEMOTE, the asker originates: nobody reaches it better |
 * | otherwise | DEMOTE, the sequencer originates: as an Archive it holds everything, and it was reached |
 *
 * So there is no choosing among engines that the asker may not reach either; a HANDOFF brings the atom to who writes it, in time.
 */
import type { AtomId, EngineId } from "../base/ids.js";
import type { Catalog } from "../catalog/catalog.js";
import { mayOriginate } from "../catalog/ownership.js";
import type { SilentOriginatorMessage } from "../messages/wire/engine-messages.js";
import type { DemoteEntry } from "../messages/wire/entry.js";

/**
 * An atom is demoted at most once in this, in milliseconds. Two engines that do not reach each other and write one atom then have it for so
 * long each, which is many commits, instead of spending every commit on a DEMOTE.
 */
export const demoteEveryMs = 2000;
/** Atoms whose last DEMOTE is remembered; beyond it the oldest are forgotten, and may be demoted again at once. */
const rememberedMax = 65_536;

export class Demotions {
  /** Oldest first. */
  readonly #lastMs = new Map<AtomId, number>();

  /** To be ordered now. `self`: the sequencer's own engine. */
  decide(log: Catalog, self: EngineId, message: SilentOriginatorMessage, nowMs: number): readonly DemoteEntry[] {
    this.#forget(nowMs);
    if (!log.members.has(message.engine)) return [];
    const found = new Map<string, { readonly from: EngineId; readonly to: EngineId; readonly atoms: AtomId[] }>();
    for (const fence of message.fences) {
      const atom = log.atoms.get(fence.atom);
      const from = fence.originator;
      if (atom === undefined || !log.fenceHolds(fence) || from === self || from === message.engine || this.#lastMs.has(atom.id)) continue;
      const to = mayOriginate(atom, log.members, message.engine) ? message.engine : self;
      if (!mayOriginate(atom, log.members, to)) continue;
      this.#lastMs.set(atom.id, nowMs);
      const group = found.get(`${from}/${to}`) ?? { from, to, atoms: [] };
      group.atoms.push(atom.id);
      found.set(`${from}/${to}`, group);
    }
    return [...found.values()].map((group) => ({ kind: "demote", ...group }));
  }

  #forget(nowMs: number): void {
    for (const [atom, atMs] of this.#lastMs) {
      if (nowMs - atMs < demoteEveryMs && this.#lastMs.size <= rememberedMax) return;
      this.#lastMs.delete(atom);
    }
  }
}
