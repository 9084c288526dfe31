/**
 * A client that reads what was there at some seq or time, in several requests, and compares it with what the committed stream had put there by then: the accounts by a scan
 * and by keys, the schema, and a table that has been altered or dropped since, where there is one, by a scan and by its unique index; with whatever happens between them.
 */
import type { SpaceId } from "../../src/base/ids.js";
import type { Random } from "../../src/base/random.js";
import { integerOfKey } from "../../src/base/sort-key.js";
import { decodeRow, type SqlValue } from "../../src/base/values.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { decodeEntry, type SchemaObject } from "../../src/messages/wire/entry.js";
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
  const model = modelAt(cluster, readAt);
  const changed = model.changed[random.integer(Math.max(1, model.changed.length))];
  const requests = [...requestsOfAccounts(model), requestOfSchema(model), ...(changed === undefined ? [] : requestsOf(model, changed.table, random))];
  while (requests.length > 0) {
    const [{ sql, expected } = { sql: "", expected: "" }] = requests.splice(random.integer(requests.length), 1);
    const answer = await ask([step(sql)]);
    const fault = faultOf(answer);
    if (fault !== null) {
      if (fault.code === "ATOMCAST_PAST_GONE") cluster.coverage.count("past", "no Archive knows it");
      const isNone = !model.objects.has("accounts") && /no such table: accounts/.test(fault.message);
      const isExpected = isNone || ["ATOMCAST_PAST_GONE", "ATOMCAST_UNAVAILABLE", "ATOMCAST_OUTCOME_UNKNOWN", "SQLITE_BUSY"].includes(fault.code);
      check(isExpected, invariant, () => `${at} as of ${readAt}: ${fault.code} ${fault.message}`);
      return fault.code;
    }
    const rows = answer.kind === "done" && answer.outcomes[0]?.kind === "ok" ? answer.outcomes[0].result.rows : [];
    const found = rows.map((row) => row.join(" ")).join();
    check(found === expected, invariant, () => `${at} as of ${readAt}, ${sql}: [${found}], not [${expected}]`);
    cluster.coverage.count("invariants", invariant);
    cluster.coverage.count("past", timeMs === undefined ? "read by seq" : "read by time");
    await cluster.sleep(random.integer(60));
  }
  if (changed !== undefined) cluster.coverage.count("past", `a table ${changed.since}`);
  return "";
}

function faultOf(answer: BatchAnswer): { readonly code: string; readonly message: string } | null {
  if (answer.kind === "failed") return answer;
  for (const outcome of answer.outcomes) if (outcome.kind === "error") return outcome.fault;
  return null;
}

interface Model {
  /** As the schema was then, by name. */
  readonly objects: ReadonlyMap<string, SchemaObject>;
  /** By space and id: rows as they were then. */
  readonly rows: ReadonlyMap<SpaceId, ReadonlyMap<bigint, Uint8Array>>;
  /** A table that is not as it was any more, and what has become of it. */
  readonly changed: readonly { readonly table: SchemaObject; readonly since: "altered since" | "dropped since" }[];
}

/** What the entries up to the seq have made, and what those behind it have done to that. */
function modelAt({ invariants: { committed } }: SimulatedCluster, seq: number): Model {
  const objects = new Map<string, SchemaObject>();
  let then: ReadonlyMap<string, SchemaObject> | null = null;
  const rows = new Map<SpaceId, Map<bigint, Uint8Array>>();
  for (const log of committed.entries) {
    if (log.seq > seq) then ??= new Map(objects);
    const entry = decodeEntry(log.bytes);
    if (entry.kind !== "proposal" || entry.body.kind !== "transaction") continue;
    for (const part of entry.body.parts) {
      if (part.kind === "ddl") {
        for (const name of part.drops) objects.delete(name);
        for (const object of part.upserts) if (object.type !== "setting") objects.set(object.name, object);
      } else if (log.seq <= seq) {
        const ofTable = rows.get(part.table) ?? new Map<bigint, Uint8Array>();
        rows.set(part.table, ofTable);
        for (const { key, row } of part.rows) {
          const id = integerOfKey(key);
          if (id === null) continue;
          if (row === null) ofTable.delete(id);
          else ofTable.set(id, row);
        }
      }
    }
  }
  const schema = then ?? objects;
  const changed = [...schema.values()].flatMap((table) => {
    const now = objects.get(table.name);
    if (!/^(own\d+|items)$/.test(table.name) || now?.sql === table.sql) return [];
    return [{ table, since: now === undefined ? "dropped since" : "altered since" } as const];
  });
  return { objects: schema, rows, changed };
}

interface PastRequest {
  readonly sql: string;
  /** Rows, joined. */
  readonly expected: string;
}

/** The values of the columns, of rows that some ids name; of all, where none are given. */
function rowsOf({ rows }: Model, table: SchemaObject | undefined, columns: readonly string[], isAsked = (_: bigint): boolean => true): string {
  const all = [...(table === undefined ? [] : (rows.get(table.space) ?? []))].filter(([id]) => isAsked(id));
  all.sort(([left], [right]) => Number(left - right));
  return all
    .map(([id, row]) => {
      const values = decodeRow(row);
      const valueIn = (name: string): SqlValue => {
        const columnId = table?.columns.find((one) => one.name === name)?.id;
        // A row from before an ALTER has the new column's default, which is its number (workload.ts).
        const missing = /^c\d+$/.test(name) ? BigInt(name.slice(1)) : null;
        return values.find((one) => one.columnId === columnId)?.value ?? missing;
      };
      return [id, ...columns.slice(1).map(valueIn)].join(" ");
    })
    .join();
}

function requestsOfAccounts(model: Model): PastRequest[] {
  const accounts = model.objects.get("accounts");
  const keys = [...((accounts && model.rows.get(accounts.space)?.keys()) ?? [])].filter((_, place) => place % 3 === 0);
  const columns = ["id", "balance"];
  return [
    {
      sql: `select id, balance from accounts where id in (${keys.join()}) order by id`,
      expected: rowsOf(model, accounts, columns, (id) => keys.includes(id)),
    },
    { sql: "select id, balance from accounts order by id", expected: rowsOf(model, accounts, columns) },
  ];
}

function requestOfSchema({ objects }: Model): PastRequest {
  const names = [...objects.values()].map(({ name, sql }) => `${name}: ${sql}`).sort();
  return { sql: "select name || ': ' || sql as text from sqlite_schema where sql is not null order by text", expected: names.join() };
}

/** All of its rows; and one of them, by a unique index. */
function requestsOf(model: Model, table: SchemaObject, random: Random): PastRequest[] {
  const columns = table.columns.map(({ name }) => name).filter((name) => name !== "");
  const all = { sql: `select ${columns.join()} from ${table.name} order by id`, expected: rowsOf(model, table, columns) };
  const ids = [...(model.rows.get(table.space)?.keys() ?? [])];
  const id = ids[random.integer(Math.max(1, ids.length))];
  if (id === undefined || !columns.includes("v")) return [all];
  const v = rowsOf(model, table, columns, (other) => other === id).split(" ")[columns.indexOf("v")];
  return [all, { sql: `select id from ${table.name} where v = ${v}`, expected: String(id) }];
}
