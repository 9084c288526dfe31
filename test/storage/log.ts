/** Made-up histories for journal tests. */
import { type ChainHash, chainHash, genesisHash } from "../../src/base/chain-hash.js";
import type { Seq, Term } from "../../src/base/ids.js";
import type { LogEntry, LogPosition } from "../../src/base/log-entry.js";

export const origin: LogPosition = { seq: 0 as Seq, term: 0 as Term, hash: genesisHash };

/** `count` entries after `after`; `sizeOf` their payloads in bytes. */
export function entriesAfter(after: LogPosition, count: number, term = 1, sizeOf: (seq: number) => number = () => 150): LogEntry[] {
  const entries: LogEntry[] = [];
  let hash: ChainHash = after.hash;
  for (let seq = after.seq + 1; seq <= after.seq + count; seq++) {
    const bytes = Buffer.alloc(sizeOf(seq), seq % 251);
    if (bytes.length >= 12) bytes.writeUIntBE(seq * 1000 + term, 0, 6);
    hash = chainHash(hash, term as Term, bytes);
    entries.push({ seq: seq as Seq, term: term as Term, hash, bytes });
  }
  return entries;
}

export function positionOf(entry: LogEntry | undefined, otherwise: LogPosition = origin): LogPosition {
  return entry === undefined ? otherwise : { seq: entry.seq, term: entry.term, hash: entry.hash };
}

export function hashes(entries: readonly LogEntry[] | "gone"): string[] {
  return entries === "gone" ? ["gone"] : entries.map((entry) => `${entry.seq}:${entry.hash}`);
}
