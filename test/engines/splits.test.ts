/** design.md §5: an atom is split at 128 KiB. */
import { expect, test } from "vitest";
import type { AtomId, EngineId } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import { decodeEntry, type ProposalBody } from "../../src/messages/wire/entry.js";
import { atom, boot, CacheParts, createTable, proposal, space } from "./engine-parts.js";

const rowBytes = 10_000;
const rowCount = 40;

/** The Cache under test originates the table, which has grown beyond what an atom may have. */
function grown(): CacheParts {
  const c = new CacheParts();
  for (const [nonce, node] of [
    [1, 11],
    [2, 0],
    [99, 0],
  ] as const)
    c.apply(boot(nonce, node));
  c.apply(proposal(3, 1, createTable()));
  const rows = Array.from({ length: rowCount }, (_, index) => ({
    key: integerKey(BigInt(index + 1)),
    row: Buffer.alloc(rowBytes),
    oldBytes: 0,
    indexKeys: [],
  }));
  c.apply(proposal(3, 2, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] } as unknown as ProposalBody));
  c.take();
  return c;
}

/** What it proposes once it is told the cuts. */
function splitBy(c: CacheParts, cuts: readonly bigint[], pieces: readonly { bytes: number; rows: number }[]): ProposalBody | undefined {
  c.desk.tick();
  expect(c.sent().map(({ message }) => message.kind)).toContain("cutsRequest");
  c.desk.onCuts({ kind: "cutsReply", atom, cuts: cuts.map((id) => integerKey(id)), pieces });
  c.proposals.flush();
  for (const { message } of c.sent()) {
    if (message.kind !== "propose") continue;
    const entry = decodeEntry(message.entry);
    if (entry.kind === "proposal" && entry.engine === (3 as EngineId)) return entry.body;
  }
  return undefined;
}

test("all pieces have the sizes that the Archive tells", () => {
  const size = { bytes: 10 * rowBytes, rows: 10 };
  const body = splitBy(grown(), [11n, 21n, 31n], [size, size, size, size]);
  expect(body).toMatchObject({ kind: "split", atom, pieces: [size, size, size] });
});

test("what the Archive has not looked at has the rest of the atom's weight", () => {
  const c = grown();
  const whole = c.context.catalog.atoms.get(atom as AtomId);
  const size = { bytes: 8 * rowBytes, rows: 8 };
  const body = splitBy(c, [9n, 17n], [size, size]);
  const rest = { bytes: (whole?.bytes ?? 0) - 2 * size.bytes, rows: rowCount - 2 * size.rows };
  expect(body).toMatchObject({ kind: "split", atom, pieces: [size, rest] });
});

test("an answer with fewer sizes than cuts splits nothing", () => {
  expect(splitBy(grown(), [9n, 17n], [{ bytes: 1, rows: 1 }])).toBeUndefined();
});
