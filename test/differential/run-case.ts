/**
 * Runs a case on local stores (test/sql/store-harness.ts) and on the model (model.ts). What must be equal, always:
 *
 * | label | what | when |
 * |---|---|---|
 * | answer | code and message of an error; names of columns, rows, affected rows | each statement; those of a transaction that stays open as on a copy made when it began |
 * | answer | a conflict is told only where others have committed since the snapshot; what is committed changes no row that they have changed, and breaks no constraint | each COMMIT of a transaction that stayed open |
 * | held | what a store holds of each table is what was committed, and nothing beside | after each restart, drop, and in the end |
 * | schema | names and texts of tables, indexes, views and triggers | in the end, on each store |
 * | state | every row of every table | in the end, on each store |
 * | check | integrity_check and foreign_key_check | in the end, on each store |
 * | crash | nothing is thrown: a store that finds a bug would stop its engine | always |
 */
import { seededRandom } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import type { StepOutcome } from "../../src/sql/local-store.js";
import { cutAnew, dropSome, expectHeldRight } from "../sql/partly-held.js";
import { type Client, Cluster, step } from "../sql/store-harness.js";
import type { Case, CaseEvent, Statement } from "./case.js";
import { type Answer, Model, nothing, tellRows } from "./model.js";
import type { RowImage } from "./row-image.js";

export interface Difference {
  readonly label: "answer" | "held" | "schema" | "state" | "check" | "crash";
  /** What kind of it, so that a smaller case is known to differ in the same way. */
  readonly sign: string;
  /** Which event, or −1: in the end. */
  readonly at: number;
  readonly text: string;
}

export interface Tally {
  readonly kinds: Map<string, number>;
  readonly codes: Map<string, number>;
  rowsPulled: number;
  rowsIfWhole: number;
  rangesPulled: number;
  wholeTablesPulled: number;
  /** Of other stores; what nobody holds comes from the log. */
  chunksRead: number;
}

export function emptyTally(): Tally {
  return { kinds: new Map(), codes: new Map(), rowsPulled: 0, rowsIfWhole: 0, rangesPulled: 0, wholeTablesPulled: 0, chunksRead: 0 };
}

export function count(of: Map<string, number>, name: string, by = 1): void {
  of.set(name, (of.get(name) ?? 0) + by);
}

export function addTally(into: Tally, { kinds, codes, ...numbers }: Tally): void {
  for (const [name, by] of kinds) count(into.kinds, name, by);
  for (const [name, by] of codes) count(into.codes, name, by);
  into.rowsPulled += numbers.rowsPulled;
  into.rowsIfWhole += numbers.rowsIfWhole;
  into.rangesPulled += numbers.rangesPulled;
  into.wholeTablesPulled += numbers.wholeTablesPulled;
  into.chunksRead += numbers.chunksRead;
}

export function runCase(made: Case, tally: Tally = emptyTally()): Difference | null {
  return new CaseRun(made, tally).run();
}

/** Of a condition, in the order in which SQLite comes to it (docs/decisions.md). */
const patternTooLong = "LIKE or GLOB pattern too complex";
/** Of triggers that look for a row. */
const foundMessage = "found";

class DifferenceError extends Error {
  constructor(readonly difference: Difference) {
    super(difference.text);
  }
}

const objectsSql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY 1, 2";

/** A client's, and what it must see: a copy made when it began. Others go on meanwhile. */
interface OpenTransaction {
  readonly client: Client;
  readonly store: number;
  model: Model | null;
  before: RowImage;
  since: number;
  /** Begun anew by this at the end of a request, and nothing read since: it has no snapshot yet. */
  savepoint: Statement | null;
}

const busy = "SQLITE_BUSY_SNAPSHOT";

class CaseRun {
  readonly #case: Case;
  readonly #tally: Tally;
  readonly #cluster: Cluster;
  readonly #model = new Model();
  #open: OpenTransaction | null = null;
  /** Raised by each commit that changed something: others of them are what a conflict may be told for. */
  #commits = 0;
  #at = -1;
  #doing: Difference["label"] = "crash";

  constructor(made: Case, tally: Tally) {
    this.#case = made;
    this.#tally = tally;
    this.#cluster = new Cluster(made.stores);
  }

  run(): Difference | null {
    try {
      for (const [at, event] of this.#case.events.entries()) {
        this.#at = at;
        this.#step(event);
      }
      this.#end();
      return null;
    } catch (error) {
      if (error instanceof DifferenceError) return error.difference;
      const told = error instanceof Error ? error : new Error(String(error));
      return { label: this.#doing, sign: `${told.name} ${/ at (\S+)/.exec(told.stack ?? "")?.[1]}`, at: this.#at, text: told.stack ?? told.message };
    } finally {
      this.#cluster.close();
      this.#open?.model?.close();
      this.#model.close();
    }
  }

  #step(event: CaseEvent): void {
    switch (event.kind) {
      case "run": {
        if (event.statements.some(({ kind }) => kind === "ddl" || kind === "schema")) this.#endOpen();
        const engine = this.#cluster.engine(event.store);
        engine.settings = { ...engine.settings, foreignKeys: true };
        this.#model.useForeignKeys(true);
        const before = this.#cluster.seq;
        const { outcomes } = this.#cluster.run(event.store, event.statements.map(toStep));
        if (this.#cluster.seq > before) this.#commits++;
        this.#compareAll(this.#model, event.statements, outcomes);
        return;
      }
      case "request":
        this.#request(event.store, event.statements);
        return;
      case "restart":
        this.#endOpen();
        this.#cluster.restart(event.store);
        return;
      case "drop":
        dropSome(this.#cluster, event.store, seededRandom(event.seed));
        this.#expectHeld(event.store);
        return;
      case "cut":
        cutAnew(this.#cluster, seededRandom(event.seed));
        return;
    }
  }

  #request(store: number, statements: readonly Statement[]): void {
    if (this.#open?.store !== store) this.#endOpen();
    this.#open ??= { client: this.#cluster.client(store), store, model: null, before: new Map(), since: 0, savepoint: null };
    const open = this.#open;
    if (open.model === null || open.savepoint !== null) this.#beginAnew(open);
    const { client } = open;
    const hadOthers = this.#commits > open.since;
    const before = this.#cluster.seq;
    const outcomes = this.#cluster.in(client, ...statements.map(toStep));
    const conflict = outcomes.findIndex((one) => one.kind === "error" && one.fault.code === busy);
    if (conflict >= 0) {
      if (!hadOthers) this.#fail("answer", `${tellStatements(statements)}: a conflict, and nobody has changed anything since its snapshot`);
      count(this.#tally.kinds, "conflict");
      this.#compareOpen(open, statements.slice(0, conflict), outcomes);
      if (client.isOpen) this.#cluster.in(client, "ROLLBACK");
      this.#forgetOpen();
      return;
    }
    const model = this.#compareOpen(open, statements, outcomes);
    if (client.isOpen !== model.inTransaction)
      this.#fail("answer", `the transaction is ${client.isOpen ? "" : "not "}open, and in SQLite it is otherwise`);
    if (client.isOpen) return;
    if (this.#cluster.seq > before) {
      this.#commits++;
      if (hadOthers) count(this.#tally.kinds, "commit beside others");
    }
    const wrong = this.#model.merge(open.before, model);
    this.#forgetOpen();
    if (wrong !== null) this.#fail("answer", `${tellStatements(statements)}: committed, though ${wrong}`);
  }

  /** Where a statement has ended the transaction (OR ROLLBACK, RELEASE), what follows in its request sees what others have committed. Returns the model of the end. */
  #compareOpen(open: OpenTransaction, statements: readonly Statement[], outcomes: readonly StepOutcome[]): Model {
    for (const [place, statement] of statements.entries()) {
      const model = open.model ?? this.#model.copy();
      const wasIn = model.inTransaction;
      this.#compareAll(model, [statement], outcomes.slice(place));
      open.model = model;
      const isLast = place + 1 === statements.length;
      open.savepoint = !wasIn && model.inTransaction && isLast ? statement : null;
      if (model.inTransaction || isLast) continue;
      // What was rolled back has changed nothing.
      const wrong = this.#model.merge(open.before, model);
      if (wrong !== null) this.#fail("answer", `${show(statement)}: done, though ${wrong}`);
      this.#beginAnew(open);
    }
    return open.model ?? this.#model;
  }

  #beginAnew(open: OpenTransaction): void {
    open.model?.close();
    open.model = this.#model.copy();
    open.before = this.#model.rows();
    open.since = this.#commits;
    if (open.savepoint !== null) open.model.run(open.savepoint, [], null);
  }

  #forgetOpen(): void {
    this.#open?.model?.close();
    this.#open = null;
  }

  /** Also where events were left out that would have ended it. */
  #endOpen(): void {
    if (this.#open === null) return;
    const end: Statement = { kind: "open", sql: "ROLLBACK", args: [], isOrdered: true, told: null };
    this.#request(this.#open.store, [end]);
  }

  #compareAll(model: Model, statements: readonly Statement[], outcomes: readonly StepOutcome[]): void {
    for (const [place, statement] of statements.entries()) {
      const outcome = outcomes[place];
      const here = answerOf(statement, outcome);
      // An accepted difference: SQLite lets a trigger name what is not there, until its table is written (docs/decisions.md).
      if (here.message?.endsWith("drop that trigger first") === true) continue;
      // A trigger may have looked for the row by its generated id, which a statement that fails does not tell.
      if (statement.told !== null && here.message === foundMessage) continue;
      const wanted = model.run(statement, toldIds(statement, outcome), here.code, here.message);
      count(this.#tally.kinds, statement.kind);
      if (wanted.code !== null) count(this.#tally.codes, wanted.code);
      if (isSame(here, wanted) || isReturnedSame(statement, here, wanted)) continue;
      // Another one: a row that some other condition rules out is not looked at.
      if (wanted.message === patternTooLong && here.code === null && here.affected === 0) continue;
      this.#fail("answer", `${show(statement)}\n    here:   ${JSON.stringify(here)}\n    SQLite: ${JSON.stringify(wanted)}`, signOf(here, wanted));
    }
  }

  /** What is compared in the end is no part of what statements pull. */
  #notePulls(): void {
    this.#tally.rowsPulled += this.#cluster.rowsBrought;
    this.#tally.chunksRead += this.#cluster.chunksRead;
    this.#tally.rowsIfWhole += this.#cluster.rowsIfWhole;
    for (const { ranges } of this.#cluster.needs) {
      this.#tally.rangesPulled += ranges?.length ?? 0;
      if (ranges === null) this.#tally.wholeTablesPulled++;
    }
  }

  #end(): void {
    this.#endOpen();
    this.#at = -1;
    this.#notePulls();
    for (let store = 0; store < this.#case.stores; store++) this.#expectHeld(store);
    const tables = this.#model.run(
      query(
        `SELECT name, wr, (SELECT count(*) FROM pragma_table_info(l.name) WHERE name = 'id') FROM pragma_table_list l WHERE type = 'table' AND schema = 'main' AND name NOT LIKE 'sqlite%'`,
      ),
      [],
      null,
    );
    for (let store = 0; store < this.#case.stores; store++) {
      this.#same("schema", store, objectsSql);
      for (const row of tables.rows) {
        const [name = "", isWithoutRowid, hasId] = row.split(", ").map((one) => one.replaceAll('"', ""));
        const isTold = isWithoutRowid === "0" && hasId === "0" && name !== "log";
        this.#same("state", store, `SELECT ${isTold ? "rowid, " : ""}* FROM ${name}`);
      }
      this.#same("check", store, "PRAGMA integrity_check");
      this.#same("check", store, "PRAGMA foreign_key_check");
    }
  }

  #expectHeld(store: number): void {
    this.#doing = "held";
    expectHeldRight(this.#cluster, store);
    this.#doing = "crash";
  }

  #same(label: Difference["label"], store: number, sql: string): void {
    const statement = query(sql);
    const here = answerOf(statement, this.#cluster.run(store, [toStep(statement)]).outcomes[0]);
    const wanted = this.#model.run(statement, [], here.code);
    if (!isSame(here, wanted))
      this.#fail(label, `store ${store}: ${sql}\n    here:   ${JSON.stringify(here)}\n    SQLite: ${JSON.stringify(wanted)}`, signOf(here, wanted));
  }

  #fail(label: Difference["label"], text: string, sign = ""): never {
    throw new DifferenceError({ label, sign, at: this.#at, text });
  }
}

function tellStatements(statements: readonly Statement[]): string {
  return statements.map(show).join("; ");
}

function query(sql: string): Statement {
  return { kind: "query", sql, args: [], isOrdered: false, told: null };
}

function toStep({ sql, args }: Statement): ReturnType<typeof step> {
  return step(sql, args);
}

export function show({ sql, args }: Statement): string {
  return args.length === 0 ? sql : `${sql} [${tellRows([args], true)}]`;
}

function answerOf({ isOrdered }: Statement, outcome: StepOutcome | undefined): Answer {
  if (outcome === undefined || outcome.kind === "skipped") return { ...nothing, code: "skipped" };
  if (outcome.kind === "error") return { ...nothing, code: outcome.fault.code, message: outcome.fault.message };
  const { columns, rows, affectedRowCount } = outcome.result;
  return { ...nothing, columns: columns.map(({ name }) => name), rows: tellRows(rows, isOrdered), affected: affectedRowCount };
}

function toldIds({ told }: Statement, outcome: StepOutcome | undefined): bigint[] {
  if (told === null || outcome?.kind !== "ok") return [];
  const { rows, lastInsertRowid } = outcome.result;
  const ids: readonly (SqlValue | undefined)[] = told.areReturned ? rows.map(([id]) => id) : [lastInsertRowid];
  return ids.filter((id) => typeof id === "bigint");
}

function signOf(here: Answer, wanted: Answer): string {
  const parts = (["message", "columns", "rows", "affected"] as const).filter((part) => JSON.stringify(here[part]) !== JSON.stringify(wanted[part]));
  return `${here.code} ${wanted.code} ${parts}`;
}

/**
 * Where SQLite has looked for rows that refer to one, it returns that one's 7.0 of a REAL column as 7, and its '8' as 8 where the others' column is numeric; and it looks only where it has
 * counted rows without their parent.
 */
function isReturnedSame({ sql }: Statement, here: Answer, wanted: Answer): boolean {
  const plain = (row: string): string => row.replace(/"(-?\d+(?:\.\d+)?)"/g, "$1").replace(/(?<=\d)\.0(?!\d)/g, "");
  const plainly = (answer: Answer): Answer => ({ ...answer, rows: answer.rows.map(plain).sort() });
  return /\bRETURNING\b/.test(sql) && isSame(plainly(here), plainly(wanted));
}

function isSame(here: Answer, wanted: Answer): boolean {
  return JSON.stringify(here) === JSON.stringify(wanted);
}
