/**
 * An atom as the record catalog describes it: which keys, who holds it, who grants permission to change it.
 *
 * The originator is kept, not derived: it changes only when a SPLIT, a HANDOFF or its own departure says so, and then the ownership
 * version changes with it. So at any seq exactly one engine may grant, and the sequencer can tell a grant of a deposed one.
 */
import { ByteReader, ByteWriter } from "../base/bytes.js";
import type { AtomId, EngineId, NodeId, Seq, SpaceId } from "../base/ids.js";
import { binaryKey } from "../base/key-ranges.js";

export interface Holder {
  readonly engine: EngineId;
  /** `joining` from HOLD, `ready` from READY: only ready holders originate, are pulled from, or count as copies. */
  readonly state: "joining" | "ready";
}

export interface Atom {
  readonly id: AtomId;
  /** The key space it is a range of. */
  readonly space: SpaceId;
  /** For a unique index's atom, its table; else 0. */
  readonly indexOf: SpaceId;
  /** First key of its range; empty: the space's beginning. The range ends where the next atom's begins. */
  readonly low: Buffer;
  /** `low` as a latin1 string: what lookups compare. */
  readonly lowKey: string;
  /** Caches in the order in which they joined, id-block takers first. Archives hold every atom without being listed. */
  readonly holders: readonly Holder[];
  /** 0: nobody lives who could. */
  readonly originator: EngineId;
  /** Seq of the entry that last changed the range or the originator. */
  readonly ownershipVersion: Seq;
  /** Estimates, exact but for what splits have guessed: encoded bytes of keys and rows, and rows. */
  readonly bytes: number;
  readonly rows: number;
}

/** An atom above this is split by its originator, into pieces of about atomBytesTarget (design.md §1). */
export const atomBytesMax = 128 * 1024;
export const atomBytesTarget = 64 * 1024;

export function isReadyHolder(atom: Atom, engine: EngineId): boolean {
  return atom.holders.some((holder) => holder.engine === engine && holder.state === "ready");
}

export function encodeAtom(atom: Atom): Buffer {
  const writer = new ByteWriter(64);
  writer.varint(atom.id).varint(atom.space).varint(atom.indexOf).bytes(atom.low).varint(atom.originator).varint(atom.ownershipVersion);
  writer.varint(Math.max(0, atom.bytes)).varint(Math.max(0, atom.rows)).varint(atom.holders.length);
  for (const holder of atom.holders) writer.varint(holder.engine).bool(holder.state === "ready");
  return writer.finish();
}

export function decodeAtom(bytes: Uint8Array): Atom {
  const reader = new ByteReader(bytes);
  const id = reader.varint() as AtomId;
  const space = reader.varint() as SpaceId;
  const indexOf = reader.varint() as SpaceId;
  const low = Buffer.from(reader.bytes());
  const originator = reader.varint() as EngineId;
  const ownershipVersion = reader.varint() as Seq;
  const size = reader.varint();
  const rows = reader.varint();
  const holders = reader.list((r): Holder => ({ engine: r.varint() as EngineId, state: r.bool() ? "ready" : "joining" }), 2);
  reader.end();
  return { id, space, indexOf, low, lowKey: binaryKey(low), holders, originator, ownershipVersion, bytes: size, rows };
}

/** Order in which Archives stand behind the listed holders: spreads cold atoms, and no restart rewrites it (design.md §5). */
export function archiveRank(atom: AtomId, node: NodeId): number {
  let hash = ((atom % 0x1_0000_0000) ^ Math.imul(Math.floor(atom / 0x1_0000_0000) + 1, 0x85ebca6b)) | 0;
  hash = Math.imul(hash ^ (node % 0x1_0000_0000), 0xc2b2ae35) ^ Math.floor(node / 0x1_0000_0000);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x7feb352d);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
