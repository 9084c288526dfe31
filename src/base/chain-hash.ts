import { createHash, hash } from "node:crypto";
import type { Term } from "./ids.js";

declare const chainHashBrand: unique symbol;
/** SHA-256 cut to 8 bytes, as 16 hexadecimal digits: names an entry and the whole history before it (design.md §2). */
export type ChainHash = string & { readonly [chainHashBrand]: true };

/** The hash before the first entry. */
export const genesisHash = "0000000000000000" as ChainHash;

/** What is hashed in one call, in bytes: most entries are. To make a hash object costs as much as to hash 500 bytes. */
const atOnceBytesMax = 8 * 1024;
const atOnce = Buffer.alloc(atOnceBytesMax);

export function chainHash(previous: ChainHash, term: Term, bytes: Uint8Array): ChainHash {
  const head = `${previous}${term}:`;
  const length = head.length + bytes.length;
  if (length > atOnceBytesMax) return createHash("sha256").update(head).update(bytes).digest("hex").slice(0, 16) as ChainHash;
  atOnce.write(head, "latin1");
  atOnce.set(bytes, head.length);
  return hash("sha256", atOnce.subarray(0, length)).slice(0, 16) as ChainHash;
}
