/**
 * What is right: plain SQLite, one connection, fed with the same statements in the order in which the stores commit them, and told the ids that they generated.
 * In some things it is put right itself. Where REPLACE, by triggers or foreign keys' actions, leads back to SET NULL on the table that is written, SQLite forgets to look for
 * the new row's parent (its isSetNullAction asks which action was compiled last, not which one is being compiled), and stores a row that its own foreign_key_check complains of.
 * And where an UPDATE, be it an action's, sets the foreign key of a row that has no parent to the value that it has, SQLite refuses it, and on a store the row keeps what it had.
 * And where an ALTER fails within a transaction, SQLite goes on showing the column that it would have added: the schema is read again.
 * And where an UPDATE's conflicts are resolved row by row, it shows in which order it visits the rows: SQLite promises none, and takes an index's where there is no trigger,
 * the rowids' where there is one, as always on a local store. So each table of the model has a trigger that does nothing.
 */
import Sqlite, { type Database, type Statement as Prepared } from "better-sqlite3";
import type { SqlValue } from "../../src/base/values.js";
import { tell } from "../sql/odd-values.js";
import type { Statement } from "./case.js";
import { areKept, orphanFinder } from "./orphans.js";
import { applyChanges, changedRows, type RowImage, rowReader } from "./row-image.js";

/** Of a statement, as texts that can be compared. */
export interface Answer {
  /** SQLite's extended code. */
  readonly code: string | null;
  readonly message: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  readonly affected: number;
}

/** For rows of which nobody is told an id, since they were not stored. */
const unusedIds = 2n ** 40n;

/** What is asked of a database again and again. */
interface Questions {
  /** The text of its schema. */
  readonly schema: () => string;
  readonly rows: ReturnType<typeof rowReader>;
  readonly orphans: ReturnType<typeof orphanFinder>;
  /** Tables without an idle trigger. */
  readonly withoutTrigger: Prepared<[], { readonly name: string }>;
}

function questionsOf(database: Database): Questions {
  const texts = database.prepare<[], string | null>("SELECT sql FROM main.sqlite_schema ORDER BY rowid").pluck();
  return {
    schema: () => JSON.stringify(texts.all()),
    rows: rowReader(database),
    orphans: orphanFinder(database),
    withoutTrigger: database.prepare<[], { readonly name: string }>(
      "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT IN (SELECT tbl_name FROM temp.sqlite_schema)",
    ),
  };
}

export class Model {
  #database: Database;
  #questions: Questions;
  /** null: a statement may have set it. */
  #hasForeignKeys: boolean | null = null;
  #told: readonly bigint[] = [];
  #unused = unusedIds;
  #idle = 0;
  /** When the transaction began that is open. */
  #orphansBefore: ReadonlySet<string> = new Set();
  /** Rows may have got other keys since then. */
  #movesKeys = false;
  /** As they are; null: not looked at since something may have changed. */
  #rows: RowImage | null = null;
  #orphansFound: ReadonlySet<string> | null = null;

  constructor(content: Buffer | null = null) {
    this.#database = this.#opened(content ?? ":memory:");
    this.#questions = questionsOf(this.#database);
    this.#addIdleTriggers();
  }

  /** In its place. */
  #reopen(content: Buffer): void {
    this.#database.close();
    this.#database = this.#opened(content);
    this.#questions = questionsOf(this.#database);
    this.#hasForeignKeys = null;
    this.#addIdleTriggers();
  }

  /** As it is now, for a transaction that others do not wait for. */
  copy(): Model {
    return new Model(this.#database.serialize());
  }

  rows(): RowImage {
    this.#rows ??= this.#questions.rows(this.#schema());
    return this.#rows;
  }

  #orphansNow(): ReadonlySet<string> {
    this.#orphansFound ??= this.#questions.orphans(this.#schema());
    return this.#orphansFound;
  }

  /** To be called by whatever may change a row. */
  #forget(): void {
    this.#rows = null;
    this.#orphansFound = null;
  }

  /**
   * Takes over what a transaction has done, whose copy was made when this was `before`, as it is at its COMMIT. What it may not do beside what others
   * have done meanwhile is an answer; null: nothing.
   */
  merge(before: RowImage, copy: Model): string | null {
    const after = copy.rows();
    const others = changedRows(before, this.rows());
    for (const row of changedRows(before, after)) if (others.has(row)) return `${row} was changed by another transaction since its snapshot`;
    // An action that does not find a row whose value is of another kind leaves it behind there too.
    const orphans = new Set([...this.#orphansNow(), ...copy.#orphansNow()]);
    const changesSchema = this.#schema() !== copy.#schema();
    try {
      this.#forget();
      if (changesSchema) {
        // Others have not: what they have done to rows is done there, and there is here from now on.
        applyChanges(copy.#database, before, this.rows());
        this.#reopen(copy.#database.serialize());
        this.#forget();
      } else applyChanges(this.#database, before, after);
    } catch (error) {
      if (!(error instanceof Sqlite.SqliteError)) throw error;
      return error.message;
    }
    return !areKept(this.#orphansNow(), orphans, false) ? "it leaves a row without its parent" : null;
  }

  #schema(): string {
    return this.#questions.schema();
  }

  /** A session's; other sessions' are on. */
  useForeignKeys(isOn: boolean): void {
    if (this.#hasForeignKeys === isOn) return;
    this.#database.pragma(`foreign_keys = ${isOn ? "ON" : "OFF"}`);
    // Within a transaction it stays as it is.
    this.#hasForeignKeys = this.inTransaction ? null : isOn;
  }

  #opened(content: string | Buffer): Database {
    const database = new Sqlite(content);
    database.defaultSafeIntegers(true);
    database.pragma("foreign_keys = ON");
    database.function("_told", { deterministic: true }, (place: unknown) => this.#told[Number(place)] ?? this.#unused + BigInt(Number(place)));
    return database;
  }

  get inTransaction(): boolean {
    return this.#database.inTransaction;
  }

  /**
   * `code`: what the store has told. Where a foreign key fails there, and SQLite would store a row without its parent, the store is right; and so it is where it
   * succeeds, and what SQLite complains of are rows that keep what they had.
   */
  run(statement: Statement, ids: readonly bigint[], code: string | null, message = ""): Answer {
    if (!this.inTransaction) this.#movesKeys = false;
    if (movesKeys.test(statement.sql)) this.#movesKeys = true;
    if (!this.inTransaction && /^\s*(BEGIN|SAVEPOINT)/i.test(statement.sql)) this.#orphansBefore = this.#orphansNow();
    if (message.startsWith("foreign key mismatch")) return this.#runDeferring(statement, ids);
    if (code !== refused.code) {
      const answer = this.#run(statement, ids);
      return code === null && answer.code === refused.code ? (this.#runKeeping(statement, ids) ?? answer) : answer;
    }
    // Rows that had lost their parents before stand against DROP TABLE (docs/decisions.md).
    if (/^\s*DROP TABLE/i.test(statement.sql) && this.#orphansCount() > 0) return refused;
    if (isCommit(statement)) return this.#orphansCount() > 0 ? refused : this.#run(statement, ids);
    return this.inTransaction ? this.#runWithin(statement, ids) : this.#runAlone(statement, ids);
  }

  /** As on a store, whose foreign keys are all deferred: only then SQLite looks at those that refer to the table of an INSERT of one row. */
  #runDeferring(statement: Statement, ids: readonly bigint[]): Answer {
    const was = this.#isPutOff;
    this.#database.pragma("defer_foreign_keys = ON");
    const answer = this.#run(statement, ids);
    if (!was) this.#database.pragma("defer_foreign_keys = OFF");
    return answer;
  }

  #runWithin(statement: Statement, ids: readonly bigint[]): Answer {
    const before = this.#immediateOrphans();
    this.#database.exec("SAVEPOINT _model");
    const answer = this.#run(statement, ids);
    if (!this.inTransaction) return answer;
    // SQLite counts: a row that has found its parent makes up for another one that has none. OR FAIL leaves rows behind.
    const isWrong = !areKept(this.#immediateOrphans(), before, this.#movesKeys);
    if (isWrong) this.#forget();
    this.#database.exec(isWrong ? "ROLLBACK TO _model; RELEASE _model" : "RELEASE _model");
    return isWrong ? refused : answer;
  }

  /** null: it leaves more than rows that keep what they had. */
  #runKeeping(statement: Statement, ids: readonly bigint[]): Answer | null {
    if (isCommit(statement)) return this.#commitKeeping();
    // Whatever it is, an action or a trigger may make it an UPDATE of such a row.
    if (!/^(INSERT|REPLACE|UPDATE|DELETE)/i.test(statement.sql)) return null;
    const isAlone = !this.inTransaction;
    const isPutOff = this.#isPutOff;
    // Within a transaction those that are deferred are for its COMMIT.
    const orphans = (): ReadonlySet<string> =>
      isAlone ? this.#orphansNow() : isPutOff ? new Set() : this.#questions.orphans(this.#schema(), "immediate");
    // What has failed has left nothing.
    const before = orphans();
    if (isAlone) this.#orphansBefore = before;
    this.#database.exec("SAVEPOINT _model; PRAGMA defer_foreign_keys = ON");
    const answer = this.#run(statement, ids);
    const isKept = answer.code === null && areKept(orphans(), before, this.#movesKeys);
    if (!isKept) this.#forget();
    this.#database.exec(isKept ? "PRAGMA defer_foreign_keys = OFF" : "ROLLBACK TO _model; PRAGMA defer_foreign_keys = OFF");
    if (!isAlone || !isKept) this.#database.exec("RELEASE _model");
    else this.#commitKeeping();
    return isKept ? answer : null;
  }

  /** SQLite counts what it complains of, and would refuse the COMMIT: but it forgets the count with this pragma. */
  #commitKeeping(): Answer | null {
    if (!areKept(this.#orphansNow(), this.#orphansBefore, this.#movesKeys)) return null;
    this.#database.exec("PRAGMA defer_foreign_keys = OFF; COMMIT");
    return nothing;
  }

  /** Without a savepoint around it, which would be a transaction, and put off what is checked at its end. */
  #runAlone(statement: Statement, ids: readonly bigint[]): Answer {
    const before = this.#orphansNow();
    const copy = this.#database.serialize();
    const answer = this.#run(statement, ids);
    if (this.inTransaction || areKept(this.#orphansNow(), before, this.#movesKeys)) return answer;
    this.#forget();
    this.#reopen(copy);
    return refused;
  }

  #immediateOrphans(): ReadonlySet<string> {
    return this.#isPutOff ? new Set() : this.#questions.orphans(this.#schema(), "immediate");
  }

  get #isPutOff(): boolean {
    return this.#database.pragma("defer_foreign_keys", { simple: true }) === 1n;
  }

  /** How many rows are without their parent. */
  #orphansCount(): number {
    const tables = this.#database.prepare<[], string>("SELECT name FROM main.sqlite_schema WHERE type = 'table'").pluck().all();
    return tables.reduce((count, table) => count + this.#orphansIn(table), 0);
  }

  #orphansIn(table: string): number {
    try {
      return this.#database.prepare("SELECT 1 FROM pragma_foreign_key_check(?)").all(table).length;
    } catch (error) {
      // A foreign key of it does not fit its parent: then SQLite itself refuses what would refer to it.
      if (!(error instanceof Sqlite.SqliteError)) throw error;
      return 0;
    }
  }

  #run({ kind, sql, args, told, isOrdered }: Statement, ids: readonly bigint[]): Answer {
    this.#unused += 1000n;
    this.#told = told === null ? [] : ids.filter((id) => !this.#exists(told.table, told.idColumn, id));
    if (/foreign_keys/i.test(sql)) this.#hasForeignKeys = null;
    try {
      const statement = this.#database.prepare<unknown[], SqlValue[]>(told?.sql ?? sql);
      // A ROLLBACK itself writes nothing.
      if (!statement.readonly || /^\s*ROLLBACK/i.test(sql)) this.#forget();
      const bound = args.length === 0 ? [] : [Object.fromEntries(args.map((value, index) => [String(index + 1), value]))];
      if (kind === "ddl" || kind === "schema") return this.#change(statement);
      if (!statement.reader) return { ...nothing, affected: statement.run(...bound).changes };
      const columns = statement.columns().map(({ name }) => name);
      const rows = statement.raw().all(...bound);
      return { ...nothing, columns, rows: tellRows(rows, isOrdered), affected: statement.readonly ? 0 : this.#changes() };
    } catch (error) {
      if (!(error instanceof Sqlite.SqliteError)) throw error;
      return { ...nothing, code: error.code, message: error.message };
    }
  }

  /** Of a view's rows none are counted. */
  #changes(): number {
    return Number(this.#database.prepare("SELECT changes()").pluck().get());
  }

  /** Columns and counts are of statements that SQLite runs for it, and mean nothing. */
  #change(statement: Sqlite.Statement<unknown[], SqlValue[]>): Answer {
    const isWithin = this.inTransaction;
    if (isWithin) this.#database.exec("SAVEPOINT _change");
    try {
      if (statement.reader) statement.raw().all();
      else statement.run();
    } catch (error) {
      if (isWithin && this.inTransaction) this.#database.exec("ROLLBACK TO _change; RELEASE _change");
      throw error;
    }
    if (isWithin) this.#database.exec("RELEASE _change");
    this.#addIdleTriggers();
    return nothing;
  }

  #addIdleTriggers(): void {
    for (const { name } of this.#questions.withoutTrigger.all())
      this.#database.exec(`CREATE TEMP TRIGGER _idle_${this.#idle++} BEFORE UPDATE ON main.${name} BEGIN SELECT 1; END`);
  }

  /** An UPSERT tells the id of the row that it updated: that was there before. */
  #exists(table: string, idColumn: string, id: bigint): boolean {
    return this.#database.prepare(`SELECT 1 FROM ${table} WHERE ${idColumn} = ?`).get(id) !== undefined;
  }

  close(): void {
    this.#database.close();
  }
}

/** What the makers call keys, set by an UPDATE. */
const movesKeys = /^UPDATE\b.* SET (?:\w+ = .*, )?(?:id|k|n|rowid) = /s;

function isCommit({ sql }: Statement): boolean {
  return /^\s*(COMMIT|END|RELEASE)/i.test(sql);
}

export const nothing: Answer = { code: null, message: "", columns: [], rows: [], affected: 0 };
const refused: Answer = { ...nothing, code: "SQLITE_CONSTRAINT_FOREIGNKEY", message: "FOREIGN KEY constraint failed" };

export function tellRows(rows: readonly (readonly SqlValue[])[], isOrdered: boolean): string[] {
  const told = rows.map((row) => row.map(tell).join(", "));
  return isOrdered ? told : told.sort();
}
