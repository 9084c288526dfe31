/** Local stores fed with the same committed entries, as engines would: what one commits, all apply. */
import type { EngineId, Life, ProposalSeq, Seq, SpaceId } from "../../src/base/ids.js";
import type { SqlValue } from "../../src/base/values.js";
import { decodeEntry, encodeProposal, type SchemaObject, type TransactionBody } from "../../src/messages/wire/entry.js";
import type {
  BinaryRange,
  Changes,
  LocalStore,
  PullNeed,
  ResultSet,
  RunResult,
  SessionSettings,
  SqlFault,
  Step,
  StepOutcome,
} from "../../src/sql/local-store.js";
import { openSqliteLocalStore } from "../../src/sql/sqlite-local-store.js";

export const freshSettings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };

export interface Engine {
  readonly id: EngineId;
  readonly store: LocalStore;
  settings: SessionSettings;
}

export interface Answer {
  readonly outcomes: readonly StepOutcome[];
  readonly commits: readonly Changes[];
}

export function step(sql: string, args: readonly SqlValue[] = []): Step {
  return { sql, args: { positional: args, named: [] }, wantRows: true, condition: null };
}

export class Cluster {
  readonly engines: Engine[];
  readonly log: { readonly seq: Seq; readonly bytes: Uint8Array }[] = [];
  readonly schema = new Map<string, { object: SchemaObject; version: Seq }>();
  #seq = 100;
  #nextIds = new Map<SpaceId, bigint>();
  #seed = 1;
  pulls = 0;
  /** All that was asked for so far. */
  readonly needs: PullNeed[] = [];
  rowsPulled = 0;
  /** Where each table's atoms begin, as if it had been split there; a table that is not named is pulled by the keys alone. */
  readonly cuts = new Map<SpaceId, readonly string[]>();

  constructor(count: number, directories: readonly (string | null)[] = []) {
    this.engines = Array.from({ length: count }, (_, index) => {
      const store = openSqliteLocalStore(directories[index] ?? null);
      store.reset(100 as Seq, []);
      store.become((index + 2) as EngineId, (index + 2) as Life);
      return { id: (index + 2) as EngineId, store, settings: freshSettings };
    });
  }

  get seq(): Seq {
    return this.#seq as Seq;
  }

  engine(index: number): Engine {
    const engine = this.engines[index];
    if (engine === undefined) throw new Error(`no engine ${index}`);
    return engine;
  }

  /** Runs all steps on one engine, commits what they commit, and answers as an engine would. */
  run(index: number, steps: readonly Step[]): Answer {
    const engine = this.engine(index);
    const outcomes: StepOutcome[] = [];
    const commits: Changes[] = [];
    const seed = this.#seed++;
    for (let round = 0; outcomes.length < steps.length; round++) {
      if (round > 1000) throw new Error("a run does not come to an end");
      const result = this.#runOnce(engine, steps, outcomes, seed);
      if (result === null) continue;
      outcomes.push(...result.outcomes);
      engine.settings = result.settings;
      if (result.kind === "commit") {
        commits.push(result.changes);
        this.commit(engine.id, result.changes.body);
      }
    }
    return { outcomes, commits };
  }

  #runOnce(
    engine: Engine,
    steps: readonly Step[],
    earlier: readonly StepOutcome[],
    seed: number,
  ): Exclude<RunResult, { kind: "pull" | "ids" }> | null {
    const request = { steps, firstStep: earlier.length, earlier: earlier.map((one) => one.kind), settings: engine.settings, seed };
    const result = engine.store.run(request, {});
    if (result.kind === "ids") {
      const first = this.#nextIds.get(result.table) ?? 1n;
      this.#nextIds.set(result.table, first + 8n);
      engine.store.grantIds(result.table, first, first + 7n);
      return null;
    }
    if (result.kind === "pull") {
      this.pulls++;
      this.needs.push(...result.needs);
      for (const need of result.needs) this.pull(engine, need);
      return null;
    }
    return result;
  }

  /** The engine starts over, as a new one: the schema as it is, no rows. */
  restart(index: number): void {
    const engine = this.engine(index);
    engine.store.reset(this.seq, [...this.schema.values()]);
    engine.store.become(engine.id, engine.id as number as Life);
  }

  /** As a Cache does, but by copying rows from the log: the atoms that the need overlaps, or all. */
  pull(engine: Engine, { space, ranges }: PullNeed): void {
    const rows = this.rowsOf(space);
    for (const { low, high } of (ranges ?? [{ low: "", high: null }]).map((range) => this.#atoms(space, range))) {
      const [first, end] = [Buffer.from(low, "latin1"), high === null ? null : Buffer.from(high, "latin1")];
      const inside = rows.filter(({ key }) => Buffer.compare(key, first) >= 0 && (end === null || Buffer.compare(key, end) < 0));
      engine.store.beginHold(space, first, end);
      const outcome = engine.store.install(space, first, end, this.seq, inside);
      if (outcome !== "held") throw new Error(`install: ${outcome}`);
      this.rowsPulled += inside.length;
    }
  }

  #atoms(space: SpaceId, range: BinaryRange): BinaryRange {
    const cuts = this.cuts.get(space);
    if (cuts === undefined) return range;
    const { low, high } = range;
    return { low: cuts.findLast((cut) => cut <= low) ?? "", high: high === null ? null : (cuts.find((cut) => cut >= high) ?? null) };
  }

  /** From the log: the newest version of each row. */
  rowsOf(table: SpaceId): { key: Uint8Array; row: Uint8Array }[] {
    const rows = new Map<string, { key: Uint8Array; row: Uint8Array }>();
    for (const { bytes } of this.log) {
      const entry = decodeEntry(bytes);
      if (entry.kind !== "proposal" || entry.body.kind !== "transaction") continue;
      for (const part of entry.body.parts) {
        if (part.kind !== "rows" || part.table !== table) continue;
        for (const { key, row } of part.rows) {
          const name = Buffer.from(key).toString("latin1");
          if (row === null) rows.delete(name);
          else rows.set(name, { key, row });
        }
      }
    }
    return [...rows.values()];
  }

  commit(engine: EngineId, body: Uint8Array): void {
    this.#seq++;
    const seq = this.seq;
    const header = {
      engine,
      proposalSeq: seq as number as ProposalSeq,
      transactions: [],
      snapshot: (seq - 1) as Seq,
      fences: [],
      schemaVersions: [],
    };
    const bytes = encodeProposal(header, [body]);
    this.log.push({ seq, bytes });
    for (const one of this.engines) one.store.apply([{ seq, bytes }], seq);
    const entry = decodeEntry(bytes);
    if (entry.kind !== "proposal" || entry.body.kind !== "transaction") return;
    this.#keepSchema(entry.body, seq);
  }

  #keepSchema(body: TransactionBody, version: Seq): void {
    for (const part of body.parts) {
      if (part.kind !== "ddl") continue;
      for (const name of part.drops) this.schema.delete(name.toLowerCase());
      for (const object of part.upserts) this.schema.set(object.name.toLowerCase(), { object, version });
    }
  }

  /** One statement that must succeed. */
  sql(index: number, sql: string, args: readonly SqlValue[] = []): ResultSet {
    const [outcome] = this.run(index, [step(sql, args)]).outcomes;
    if (outcome?.kind !== "ok")
      throw new Error(`${sql}: ${outcome?.kind === "error" ? `${outcome.fault.code} ${outcome.fault.message}` : "skipped"}`);
    return outcome.result;
  }

  rows(index: number, sql: string, args: readonly SqlValue[] = []): readonly (readonly SqlValue[])[] {
    return this.sql(index, sql, args).rows;
  }

  fault(index: number, sql: string, args: readonly SqlValue[] = []): SqlFault {
    const [outcome] = this.run(index, [step(sql, args)]).outcomes;
    if (outcome?.kind !== "error") throw new Error(`${sql}: no error`);
    return outcome.fault;
  }

  close(): void {
    for (const { store } of this.engines) store.close();
  }
}
