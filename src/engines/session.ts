/** One client's thread of statements on a Cache: keeps its settings, and carries out its calls one after another. */
import { DatabaseError } from "../base/errors.js";
import type { Description, ResultSet, SessionSettings, SqlFault, Statement, Step, StepOutcome } from "../sql/local-store.js";
import type { CacheEngine } from "./cache-engine.js";
import type { Session } from "./database.js";

const noArgs = { positional: [], named: [] };

export class CacheSession implements Session {
  readonly #engine: CacheEngine;
  #settings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
  #before: Promise<unknown> = Promise.resolve();
  /** The transaction that is open between two batches. */
  #open: number | null = null;
  /** Of the batch under way. */
  #request: number | null = null;
  #cancelled = false;
  #closed = false;

  constructor(engine: CacheEngine) {
    this.#engine = engine;
  }

  get autocommit(): boolean {
    return this.#open === null;
  }

  batch(steps: readonly Step[]): Promise<readonly StepOutcome[]> {
    return this.#inTurn(() => this.#run(steps));
  }

  async execute(statement: Statement): Promise<ResultSet> {
    const [outcome] = await this.batch([{ ...statement, condition: null }]);
    if (outcome?.kind === "ok") return outcome.result;
    const fault = outcome?.kind === "error" ? outcome.fault : { code: "ATOMCAST_UNAVAILABLE", message: "the statement was not run" };
    throw new DatabaseError(fault.code, fault.message);
  }

  async sequence(script: string): Promise<SqlFault | null> {
    const statements = this.#engine.split(script);
    if ("code" in statements) return statements;
    const steps = statements.map(
      (sql, index): Step => ({ sql, args: noArgs, wantRows: false, condition: index === 0 ? null : { kind: "ok", step: index - 1 } }),
    );
    const outcomes = await this.batch(steps);
    for (const outcome of outcomes) if (outcome.kind === "error") return outcome.fault;
    return null;
  }

  describe(sql: string): Promise<Description | SqlFault> {
    return this.#inTurn(async () => {
      const { asOf } = this.#settings;
      // So that its store of the past is open.
      if (asOf !== undefined) await this.#run([{ sql: "select 1", args: noArgs, wantRows: false, condition: null }]);
      return this.#engine.describe(sql, this.#open, asOf);
    });
  }

  cancel(): void {
    this.#cancelled = true;
    if (this.#request !== null) this.#engine.cancel(this.#request);
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#before.then(() => {
      if (this.#open !== null) this.#engine.endTransaction(this.#open);
      this.#open = null;
    });
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new DatabaseError("ATOMCAST_CLOSED", "the session is closed"));
    const mine = this.#before.then(act, act);
    this.#before = mine.catch(() => {});
    return mine;
  }

  async #run(steps: readonly Step[]): Promise<readonly StepOutcome[]> {
    if (this.#cancelled) throw new DatabaseError("ATOMCAST_CANCELLED", "the request was given up by its client");
    if (steps.length === 0) return [];
    const { request, answered } = this.#engine.run(steps, this.#settings, this.#open);
    this.#request = request;
    const answer = await answered;
    this.#request = null;
    this.#open = answer.kind === "done" ? answer.open : null;
    if (answer.kind === "failed") throw new DatabaseError(answer.code, answer.message);
    this.#settings = answer.settings;
    return answer.outcomes;
  }
}
