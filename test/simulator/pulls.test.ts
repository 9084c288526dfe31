/** design.md §5 "A pull": "resumable from another holder chunk by chunk", "a SPLIT leaves a joining engine joining both halves". */
import { expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { cluster, rowsOf, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 90_000;
const rowCount = 80;
const body = "b".repeat(20_000);
const pullReply = 78;

function spaceOf(c: SimulatedCluster, table: string): SpaceId {
  const found = c.invariants.committed.catalog.schema.inOrder().find(({ object }) => object.name === table);
  if (found === undefined) throw new Error(`no table ${table}`);
  return found.object.space;
}

function splits(c: SimulatedCluster): number {
  return c.seen("proposal").filter((entry) => entry.body.kind === "split" && entry.body.sequenceNext === 0n).length;
}

async function answered(c: SimulatedCluster, answer: Promise<BatchAnswer>): Promise<BatchAnswer> {
  let given: BatchAnswer | null = null;
  answer.then((one) => {
    given = one;
  });
  await c.runUntil("it is answered", () => given !== null);
  return answer;
}

for (const kind of ["cache", "archive"] as const) {
  // While one is open, Archives alone are asked.
  test(`the source of a pull dying in mid-pull during a SPLIT, ${kind === "archive" ? "with an old snapshot open" : "from another Cache"}`, {
    timeout: timeoutMs,
  }, async () => {
    const c = cluster({ seed: 21, archives: 3, caches: 3 });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, n integer not null, body text not null)");
    for (let first = 10; first <= 10 * rowCount; first += 100)
      await c.sql("C1", `insert into t values ${Array.from({ length: 10 }, (_, index) => `(${first + 10 * index}, 1, '${body}')`).join(", ")}`);
    await c.runUntil("the table is split", () => c.invariants.committed.catalog.atoms.ofSpace(spaceOf(c, "t")).length >= 12, 60_000);
    if (kind === "archive") {
      // Nobody but Archives holds it then.
      c.leave("C1");
      await c.runUntil("C1 has left", () => c.process("C1").state === "down");
    }
    await c.expectConverged();
    const first = step("select n from t where id = 10");
    const begun = await answered(c, c.batch("C3", kind === "archive" ? [step("begin"), first] : [first]));
    if (begun.kind !== "done" || (kind === "archive" && begun.open === null)) throw new Error("the transaction is not open");
    await c.sql("C2", "update t set n = 2 where id in (10, 400, 600)");

    // From now on the sources' chunks stay on their way, but for the first one.
    const sources = c.names().filter(({ name }) => name !== "C3");
    const held: { readonly name: string; send(): boolean }[] = [];
    let given = 0;
    for (const process of sources)
      process.courier = (number, send) => {
        if (number !== pullReply || ++given <= 1) return send();
        held.push({ name: process.name, send });
        return true;
      };
    const splitsBefore = splits(c);
    const reading = c.batch("C3", [step("select count(*), sum(n), sum(length(body)) from t")]);
    const isVictim = ({ name }: { readonly name: string }): boolean => c.process(name).kind === kind && name !== "C2";
    await c.runUntil("its chunk is on its way, and one is there", () => held.some(isVictim) && given > 1);
    const chunksBefore = c.process("C3").core?.cache?.pulls.counters.chunks ?? 0;
    expect(chunksBefore).toBeGreaterThan(0);
    const questions = c.process("C3").core?.cache?.pulls.questions;
    // An atom that is being pulled becomes too large, and is cut.
    c.batch("C2", [step(`insert into t values (605, 1, '${"x".repeat(100_000)}'), (606, 1, '${"y".repeat(100_000)}')`)]);
    await c.runUntil("it is cut", () => splits(c) > splitsBefore, 2000);
    const third = c.process("C3").core?.engine;
    const pieces = [604, 606].map((key) => c.invariants.committed.catalog.atoms.at(spaceOf(c, "t"), integerKey(BigInt(key)).toString("latin1")));
    expect(pieces[0]).not.toBe(pieces[1]);
    for (const piece of pieces) expect(piece?.holders).toContainEqual({ engine: third, state: "joining" });
    const victim = held.find(isVictim)?.name ?? "";
    expect(questions?.openCount).toBeGreaterThan(0);
    c.crash(victim);
    for (const process of sources) process.courier = null;
    for (const { name, send } of held) if (name !== victim) send();
    // What the statement reads is of one seq: with the new rows, or without.
    const [row] = rowsOf(await answered(c, reading));
    expect([
      [80n, 83n, BigInt(rowCount * body.length)],
      [82n, 85n, BigInt(rowCount * body.length + 200_000)],
    ]).toContainEqual(row);
    expect(questions?.counters.elsewhere).toBeGreaterThan(0);

    // The old transaction sees its snapshot, never what came later.
    const old = await answered(c, c.batch("C3", [step("select n from t where id = 10"), step("select count(*), sum(n) from t")], begun.open));
    if (old.kind !== "done") throw new Error(`${old.code}: ${old.message}`);
    if (kind === "archive") expect(rowsOf(old)).toEqual([[1n], [80n, 80n]]);
    c.restart(victim);
    await c.expectConverged();
    await c.expectRows("C3", "select count(*), sum(n) from t", [[82, 85]]);
    await c.expectRows("C2", "select count(*), sum(n) from t", [[82, 85]]);
    await c.expectConverged();
  });
}
