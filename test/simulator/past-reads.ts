/**
 * A client that reads what was there at some seq or time, in two requests, and compares it with what the committed stream had put there by then: the one by a scan,
 * the other by keys, with whatever happens between them.
 */
import type { SpaceId } from "../../src/base/ids.js";
import type { Random } from "../../src/base/random.js";
import { integerOfKey } from "../../src/base/sort-key.js";
import { decodeRow, type SqlValue } from "../../src/base/values.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { decodeEntry } from "../../src/messages/wire/entry.js";
import type { SessionSettings, Step } from "../../src/sql/local-store.js";
import { check } from "./committed-stream.js";
import { plainSettings, type SimulatedCluster, step } from "./simulated-cluster.js";

const invariant = "the past is as it was";
/** How far back it looks, in entries. */
const reachMax = 150;

/** "" where it was read to its end; else the code of what ended it. */
export async function readPast(cluster: SimulatedCluster, random: Random, at: string): Promise<string> {
  const process = cluster.process(at);
  const { life } = process;
  const { committed } = cluster.invariants;
  const applied = process.core?.context.appliedSeq ?? 0;
  const seq = Math.max(1, applied - random.integer(reachMax));
  const { newest, all } = committed.catalog.stamps;
  const timeMs = random.integer(3) === 0 ? (all[random.integer(Math.max(1, all.length))]?.timeMs ?? newest?.timeMs) : undefined;
  const asOf = timeMs === undefined ? String(seq) : `'${new Date(timeMs + random.integer(30)).toISOString()}'`;
  let settings: SessionSettings = plainSettings;
  const ask = async (steps: readonly Step[]): Promise<BatchAnswer> => {
    if (process.life !== life) return { kind: "failed", code: "ATOMCAST_UNAVAILABLE", message: "its Cache has started over" };
    const answer = await cluster.batch(at, steps, null, null, settings);
    if (answer.kind === "done") settings = answer.settings;
    return answer;
  };
  const begun = await ask([step(`pragma atomcast.as_of = ${asOf}`)]);
  const refusal = faultOf(begun);
  if (refusal !== null) {
    const { mark } = committed.catalog;
    const isRight = refusal.code !== "ATOMCAST_PAST_GONE" || timeMs !== undefined || seq < mark;
    check(isRight, invariant, () => `${at} says that ${asOf} is gone, and the mark is ${mark}`);
    check(timeMs !== undefined || refusal.code !== "ATOMCAST_NOT_YET", invariant, () => `${at}: ${refusal.message}`);
    if (refusal.code === "ATOMCAST_PAST_GONE") cluster.coverage.count("past", "gone by the mark");
    return refusal.code;
  }
  const told = settings.asOf;
  const readAt = told !== undefined && "seq" in told ? told.seq : 0;
  check(timeMs !== undefined ? readAt > 0 : readAt === seq, invariant, () => `${at} reads as of ${readAt}, and was told ${asOf}`);
  const model = balancesAt(cluster, readAt);
  const keys = [...model.keys()].filter((_, place) => place % 3 === 0);
  const requests = [
    { steps: [step(`select id, balance from accounts where id in (${keys.join()}) order by id`)], expected: keys },
    { steps: [step("select id, balance from accounts order by id")], expected: [...model.keys()] },
  ];
  for (const { steps, expected } of random.integer(2) === 0 ? requests : requests.reverse()) {
    const answer = await ask(steps);
    const fault = faultOf(answer);
    if (fault !== null) {
      if (fault.code === "ATOMCAST_PAST_GONE") cluster.coverage.count("past", "no Archive knows it");
      const isNone = model.size === 0 && /no such table/.test(fault.message);
      const isExpected = isNone || ["ATOMCAST_PAST_GONE", "ATOMCAST_UNAVAILABLE", "ATOMCAST_OUTCOME_UNKNOWN", "SQLITE_BUSY"].includes(fault.code);
      check(isExpected, invariant, () => `${at} as of ${readAt}: ${fault.code} ${fault.message}`);
      return fault.code;
    }
    const rows = answer.kind === "done" && answer.outcomes[0]?.kind === "ok" ? answer.outcomes[0].result.rows : [];
    const wanted = expected.map((id) => `${id}: ${model.get(id)}`).join();
    const found = rows.map(([id, balance]) => `${id}: ${balance}`).join();
    check(found === wanted, invariant, () => `${at} as of ${readAt}: [${found}], not [${wanted}]`);
    cluster.coverage.count("invariants", invariant);
    cluster.coverage.count("past", timeMs === undefined ? "read by seq" : "read by time");
    await cluster.sleep(random.integer(60));
  }
  return "";
}

function faultOf(answer: BatchAnswer): { readonly code: string; readonly message: string } | null {
  if (answer.kind === "failed") return answer;
  for (const outcome of answer.outcomes) if (outcome.kind === "error") return outcome.fault;
  return null;
}

/** By id, in order: what the entries up to the seq have made of the accounts. */
function balancesAt({ invariants: { committed } }: SimulatedCluster, seq: number): ReadonlyMap<bigint, SqlValue> {
  const balances = new Map<bigint, SqlValue>();
  let accounts: SpaceId | null = null;
  for (const log of committed.entries) {
    if (log.seq > seq) break;
    const entry = decodeEntry(log.bytes);
    if (entry.kind !== "proposal" || entry.body.kind !== "transaction") continue;
    for (const part of entry.body.parts) {
      if (part.kind === "ddl") accounts ??= part.upserts.find(({ name }) => name === "accounts")?.space ?? null;
      else if (part.table === accounts)
        for (const { key, row } of part.rows) {
          const id = integerOfKey(key) as bigint;
          if (row === null) balances.delete(id);
          else balances.set(id, decodeRow(row).find(({ columnId }) => columnId === 2)?.value ?? null);
        }
    }
  }
  return new Map([...balances].sort(([left], [right]) => Number(left - right)));
}
