import { expect, test } from "vitest";
import { chainHash, genesisHash } from "../../src/base/chain-hash.js";
import type { Seq, Term } from "../../src/base/ids.js";
import { entryOverheadBytes, StreamLog } from "../../src/messages/stream/stream-log.js";

/** A log of `count` entries of `size` bytes each, in term 1. */
function logOf(count: number, size: number): StreamLog {
  const log = new StreamLog({ seq: 0 as Seq, term: 0 as Term, hash: genesisHash }, [], []);
  for (let seq = 1; seq <= count; seq++) {
    const bytes = Buffer.alloc(size, 5);
    log.append({ seq: seq as Seq, term: 1 as Term, hash: chainHash(log.last.hash, 1 as Term, bytes), bytes });
  }
  return log;
}

test("what is kept counts what entries take beside their bytes: small ones do not pile up", () => {
  const log = logOf(1000, 10);
  log.dropTo(100 * (10 + entryOverheadBytes), 1000 as Seq);
  expect(log.floor.seq).toBe(900);
  expect(log.entryAt(901 as Seq)?.seq).toBe(901);
});

test("nothing above what may go is dropped, however much there is", () => {
  const log = logOf(1000, 10);
  log.dropTo(0, 400 as Seq);
  expect(log.floor.seq).toBe(400);
});
