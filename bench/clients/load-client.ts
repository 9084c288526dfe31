/**
 * What every compared system does the same way: a table that grows, and a table of `counterRows` rows that are updated and read at random.
 * A lane is one client's connection: it has one operation under way at a time.
 */
import type { Status } from "../../src/engines/database.js";

export interface LoadClient {
  /** Makes both tables and the rows of the second. Once, by one client. */
  setUp(): Promise<void>;
  openLane(): Promise<Lane>;
  /** Of an Atomcast cluster; null of others. */
  status(): Promise<Status | null>;
  /** The engine that grants changes of the counters; null where there is no such thing. */
  originator(): Promise<number | null>;
  close(): Promise<void>;
}

export interface Lane {
  /** One durable row. */
  insert(): Promise<void>;
  /** One durable change of the counter `id`. */
  update(id: number): Promise<void>;
  /** The counter `id`, whole. Throws where it is not there. */
  read(id: number): Promise<void>;
  close(): Promise<void>;
}

export const counterRows = 10_000;

/** Rows of one statement at set-up. */
export const setUpRows = 500;

export const rowName = "a row's text of about the length that rows of applications have, sixty-odd bytes";

/** SQL that all the SQL systems take; parameters written as theirs are. */
export const insertSql = "insert into inserted (name, amount) values (?, ?)";
export const updateSql = "update counter set amount = amount + 1 where id = ?";
export const readSql = "select id, name, amount from counter where id = ?";

/** Statements that fill the table of counters. */
export function* counterInserts(): Generator<string> {
  for (let first = 1; first <= counterRows; first += setUpRows) {
    const rows = Array.from({ length: setUpRows }, (_, index) => `(${first + index}, '${rowName.replaceAll("'", "''")}', 0)`);
    yield `insert into counter (id, name, amount) values ${rows.join(", ")}`;
  }
}

export function demandRow(rowCount: number, id: number): void {
  if (rowCount !== 1) throw new Error(`the counter ${id} has ${rowCount} rows`);
}
