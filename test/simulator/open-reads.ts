/**
 * A transaction that stays open and only reads: all transfers, then, some time later, all balances, which its Cache may have to pull only then. At one
 * snapshot the one follows from the other, whatever was transferred meanwhile.
 */
import type { Random } from "../../src/base/random.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { check } from "./committed-stream.js";
import { rowsOf, type SimulatedCluster, step } from "./simulated-cluster.js";
import { accountCount, accountInitial } from "./workload.js";

const invariant = "open transactions read one snapshot";

/** "" where it was read to its end; else the code of what ended it. */
export async function readLedger(cluster: SimulatedCluster, random: Random, at: string): Promise<string> {
  const process = cluster.process(at);
  const { life } = process;
  const moves = step("select source, target, amount from moves");
  const requests = [
    [step("begin"), moves],
    [step("select id, balance from accounts order by id")],
    [moves],
    [step("select id, balance from accounts order by id"), step("commit")],
  ];
  let expected: readonly bigint[] = [];
  let open: number | null = null;
  for (const [place, steps] of requests.entries()) {
    if (process.life !== life) return "ATOMCAST_UNAVAILABLE";
    const answer: BatchAnswer = await cluster.batch(at, steps, open);
    if (answer.kind === "failed") return answer.code;
    const fault = answer.outcomes.find((outcome) => outcome.kind === "error");
    if (fault?.kind === "error") {
      const { code, message } = fault.fault;
      check(code.startsWith("SQLITE_BUSY"), invariant, () => `${at}: ${code} ${message}`);
      if (message.includes("snapshot too old")) cluster.coverage.count("transactions", "kept open: snapshot too old");
      return code;
    }
    open = answer.open;
    const rows = rowsOf(answer).map((row) => row.map((value) => BigInt(value as bigint)));
    if (place === 0) expected = balancesAfter(rows);
    else {
      const found = place === 2 ? balancesAfter(rows) : rows.map(([, balance]) => balance as bigint);
      check(found.join() === expected.join(), invariant, () => `${at}, request ${place}: [${found}], and by what it read first [${expected}]`);
      cluster.coverage.count("invariants", invariant);
    }
    await cluster.sleep(random.integer(40));
  }
  return "";
}

function balancesAfter(moves: readonly (readonly bigint[])[]): readonly bigint[] {
  const balances = new Array<bigint>(accountCount).fill(accountInitial);
  const add = (account: bigint, amount: bigint): void => {
    balances[Number(account) - 1] = (balances[Number(account) - 1] ?? 0n) + amount;
  };
  for (const [source = 0n, target = 0n, amount = 0n] of moves) {
    add(source, -amount);
    add(target, amount);
  }
  return balances;
}
