/**
 * The relay tree (design.md §4), as every engine computes it for itself from what is committed: the engines in an order that all agree on, the
 * sequencer first, then Archives, then Caches, each by id; the engine at place p has the one at place (p − 1) / 4 above it. So nobody has more than
 * four below, the way up grows with the logarithm of their number, and who joins (with a new, highest id) changes nobody else's place.
 *
 * Two engines may compute different trees: each knows another part of the stream, or another sequencer. Nothing but speed rests on it, since a frame
 * means the same from whomever it comes, and is passed on once only (relay.ts).
 */
import type { Endpoint, EngineKind } from "../../base/ids.js";

/** Engines that one engine is to send to. Reason: what the sequencer sends for a commit then does not grow with the database. */
export const childrenMax = 4;

/** A member, as the tree needs it. */
export interface TreeEngine {
  readonly id: number;
  readonly kind: EngineKind;
  readonly endpoint: Endpoint;
}

/** All engines' endpoints, the root first. `sequencer` null: nobody known; the first Archive stands in. */
export function treeOrder(engines: readonly TreeEngine[], sequencer: Endpoint | null): readonly Endpoint[] {
  const rank = ({ kind }: TreeEngine): number => (kind === "archive" ? 0 : 1);
  const sorted = [...engines].sort((left, right) => rank(left) - rank(right) || left.id - right.id).map(({ endpoint }) => endpoint);
  return sequencer === null ? sorted : [sequencer, ...sorted.filter((endpoint) => endpoint !== sequencer)];
}

/** Those above `self`, the nearest first, the root last. Who is not in the order yet comes behind all. */
export function ancestorsOf(order: readonly Endpoint[], self: Endpoint): readonly Endpoint[] {
  const path: Endpoint[] = [];
  const found = order.indexOf(self);
  let place = found < 0 ? order.length : found;
  while (place > 0) {
    place = Math.floor((place - 1) / childrenMax);
    const endpoint = order[place];
    if (endpoint !== undefined) path.push(endpoint);
  }
  return path;
}
