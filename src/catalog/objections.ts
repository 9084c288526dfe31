/**
 * What stands against ordering a change of atoms (design.md §5: "by the originator, of both where two merge", "fenced like any change"). The fences
 * that a proposal names have been checked; here, that it names those that it must, and that what it asks for can be done.
 *
 * | it | is refused as |
 * |---|---|
 * | names an atom without a fence of its proposer's, or atoms that make no sense at any seq | malformed |
 * | wants what is not so any more: a next free id, a ready holder, neighbours with the same holders, enough copies | stale |
 */
import type { Atom } from "../atoms/atom.js";
import type { AtomId, NodeId } from "../base/ids.js";
import type { DropBody, HandoffBody, MergeBody, ProposalEntry, RefusalReason, SplitBody } from "../messages/wire/entry.js";
import type { AtomMap } from "./atom-map.js";
import { areFree } from "./free-ids.js";
import type { Member } from "./member.js";
import { mayBeHanded, mayMerge } from "./ownership.js";
import type { SchemaCatalog } from "./schema-catalog.js";

interface Catalogs {
  readonly atoms: AtomMap;
  readonly schema: SchemaCatalog;
  readonly members: ReadonlyMap<Member["id"], Member>;
  readonly voters: readonly NodeId[];
}

function isFenced({ engine, fences }: ProposalEntry, atom: AtomId): boolean {
  return fences.some((fence) => fence.atom === atom && fence.originator === engine);
}

/**
 * Nobody drops what it originates, and no copy goes while fewer Archives are members than a majority of the voters: Archives hold everything, and
 * what they hold is durable on so many only then. The fences see to it that the atoms are those that the proposer meant.
 */
export function dropObjection({ members, voters }: Catalogs, { engine, fences }: ProposalEntry, body: DropBody): RefusalReason | null {
  if (!body.atoms.every((id) => fences.some((fence) => fence.atom === id))) return "malformed";
  if (fences.some((fence) => fence.originator === engine)) return "stale";
  let archives = 0;
  for (const member of members.values()) if (member.kind === "archive") archives++;
  return archives * 2 > voters.length ? null : "stale";
}

export function splitObjection({ atoms, schema }: Catalogs, proposal: ProposalEntry, body: SplitBody): RefusalReason | null {
  const atom = atoms.get(body.atom);
  if (atom === undefined || !proposal.fences.some((fence) => fence.atom === body.atom)) return "fence";
  if (atom.space !== body.space) return "malformed";
  const high = atoms.highOf(atom);
  let low: Buffer = atom.low;
  if (new Set(body.pieces.map((piece) => piece.atom)).size < body.pieces.length) return "malformed";
  for (const piece of body.pieces) {
    if (atoms.get(piece.atom) !== undefined || Buffer.compare(piece.low, low) <= 0) return "malformed";
    low = Buffer.from(piece.low);
  }
  if ((body.pieces.length === 0 && body.firstTaker === 0 && body.measured === null) || (high !== null && Buffer.compare(low, high) >= 0))
    return "malformed";
  if (body.sequenceNext === 0n) return null;
  const table = schema.tables.get(atom.space);
  const { sequenceFirst: first, sequenceNext: next } = body;
  return table !== undefined && first < next && (first >= table.sequenceNext || areFree(table.freeIds, first, next)) ? null : "stale";
}

export function handoffObjection({ atoms, members }: Catalogs, proposal: ProposalEntry, body: HandoffBody): RefusalReason | null {
  if (!body.atoms.every((id) => isFenced(proposal, id))) return "malformed";
  const isTakable = (id: AtomId): boolean => {
    const atom = atoms.get(id);
    return atom !== undefined && mayBeHanded(atom, members, body.to);
  };
  return body.atoms.every(isTakable) ? null : "stale";
}

export function mergeObjection({ atoms }: Catalogs, proposal: ProposalEntry, body: MergeBody): RefusalReason | null {
  if (body.atoms.length < 2 || atoms.get(body.into) !== undefined || !body.atoms.every((id) => isFenced(proposal, id))) return "malformed";
  let before: Atom | null = null;
  for (const id of body.atoms) {
    const atom = atoms.get(id);
    if (atom === undefined) return "fence";
    if (atom.space !== body.space || (before !== null && atoms.after(before) !== atom)) return "malformed";
    if (before !== null && !mayMerge(before, atom)) return "stale";
    before = atom;
  }
  return null;
}
