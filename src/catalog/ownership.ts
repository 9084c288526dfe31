/**
 * Who originates an atom after an entry, and in what order its holders stand: pure functions on one atom, the same on every engine. Each
 * that changes the originator makes the entry's seq the ownership version, so that nothing the former one has granted is ordered any more.
 *
 * | entry | next originator | the former one's place |
 * |---|---|---|
 * | leave, boot of its node | the first ready holder, else the live Archive of the highest rank, else nobody | none |
 * | split with a taker | the taker, ready and first | behind it |
 * | demote | the one it names | last of all: it is not the next one either |
 * | merge | the one of all of them | as in the first |
 * | handoff | the one it names; of a unique index's atom, which has no rows of its own to hold, any member | behind it |
 */
import { type Atom, archiveRank, type Holder, isReadyHolder } from "../atoms/atom.js";
import { type AtomId, type EngineId, type EngineKind, type NodeId, noEngine, type Seq } from "../base/ids.js";

/** Of the catalog's members, what counts here. */
type Members = ReadonlyMap<EngineId, { readonly id: EngineId; readonly kind: EngineKind; readonly nodeId: NodeId }>;

/** After the originator's departure. */
export function inherited(atom: Atom, members: Members, seq: Seq): Atom {
  return { ...atom, originator: successor(atom, members, noEngine), ownershipVersion: seq };
}

/** Who originates the atom without `former`: the first ready holder, else the first live Archive by rank, else nobody. */
export function successor(atom: Atom, members: Members, former: EngineId): EngineId {
  const ready = atom.holders.find(({ engine, state }) => state === "ready" && engine !== former && members.has(engine));
  if (ready !== undefined) return ready.engine;
  let originator = noEngine;
  let best = -1;
  for (const member of members.values()) {
    if (member.kind !== "archive" || member.id === former) continue;
    const rank = archiveRank(atom.id, member.nodeId);
    // Not the first of equals: engines that began from a copy know the members in another order.
    if (rank > best || (rank === best && member.id < originator)) [best, originator] = [rank, member.id];
  }
  return originator;
}

/** The taker is ready and first. One that is gone takes nothing. */
export function taken(atom: Atom, members: Members, taker: EngineId): Atom {
  if (taker === noEngine || !members.has(taker)) return atom;
  const behind = atom.holders.filter((holder) => holder.engine !== taker);
  return { ...atom, originator: taker, holders: [{ engine: taker, state: "ready" }, ...behind] };
}

/** `to` originates; an Archive does so without being listed. What is no longer so when the entry is applied changes nothing. */
export function demoted(atom: Atom, members: Members, from: EngineId, to: EngineId, seq: Seq): Atom {
  if (atom.originator !== from || !mayOriginate(atom, members, to)) return atom;
  const places = (engine: EngineId): Holder[] => atom.holders.filter((holder) => holder.engine === engine);
  const others = atom.holders.filter(({ engine }) => engine !== from && engine !== to);
  return { ...atom, originator: to, ownershipVersion: seq, holders: [...places(to), ...others, ...places(from)] };
}

/** `to` originates, and is first; an Archive without being listed. */
export function handedOver(atom: Atom, members: Members, to: EngineId, seq: Seq): Atom {
  if (!mayBeHanded(atom, members, to)) return atom;
  const next = members.get(to)?.kind === "archive" ? { ...atom, originator: to } : taken(atom, members, to);
  return { ...next, ownershipVersion: seq };
}

/** Every engine knows when keys changed; so who has no rows to hold may originate what has none. */
export function mayBeHanded(atom: Atom, members: Members, to: EngineId): boolean {
  return atom.originator !== to && (mayOriginate(atom, members, to) || (atom.indexOf !== 0 && members.has(to)));
}

/**
 * Neighbours that are held ready by the same Caches, and joining nowhere. So nobody has to fetch anything for a MERGE, or holds a part of an
 * atom; who holds one of them alone (or is on its way) keeps them apart until it holds both or neither.
 */
export function mayMerge(left: Atom, right: Atom): boolean {
  if (left.holders.length !== right.holders.length || left.indexOf !== right.indexOf) return false;
  return left.holders.every(({ engine, state }) => state === "ready" && isReadyHolder(right, engine));
}

/** `atoms`: neighbours in key order, of one originator. */
export function merged(first: Atom, rest: readonly Atom[], into: AtomId, seq: Seq): Atom {
  const [bytes, rows] = rest.reduce((sum, atom) => [sum[0] + atom.bytes, sum[1] + atom.rows] as const, [first.bytes, first.rows] as const);
  return { ...first, id: into, bytes, rows, ownershipVersion: seq };
}

/** It has all of the atom, and lives. */
export function mayOriginate(atom: Atom, members: Members, engine: EngineId): boolean {
  const member = members.get(engine);
  if (member === undefined) return false;
  return member.kind === "archive" || atom.holders.some((holder) => holder.engine === engine && holder.state === "ready");
}
