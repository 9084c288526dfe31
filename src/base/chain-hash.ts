import { createHash } from "node:crypto";
import type { Term } from "./ids.js";

declare const chainHashBrand: unique symbol;
/** SHA-256 cut to 8 bytes, as 16 hexadecimal digits: names an entry and the whole history before it (design.md §2). */
export type ChainHash = string & { readonly [chainHashBrand]: true };

/** The hash before the first entry. */
export const genesisHash = "0000000000000000" as ChainHash;

export function chainHash(previous: ChainHash, term: Term, bytes: Uint8Array): ChainHash {
  return createHash("sha256").update(`${previous}${term}:`).update(bytes).digest("hex").slice(0, 16) as ChainHash;
}
