/**
 * Seeded clients of a simulated database, and what they know of it: which of their statements were acknowledged, which failed, and of which
 * they were told that the outcome is unknown (or their Cache was killed). Nothing of unknown outcome is ever sent again. At the end
 * `workload-audit.ts` compares what they know with what is there.
 */
import type { Random } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import type { Step } from "../../src/sql/local-store.js";
import { check } from "./committed-stream.js";
import { composeDocument, documentKinds, documentTable, isDocumentKind, judgeDocuments } from "./documents.js";
import { migrate } from "./open-migrations.js";
import { readLedger } from "./open-reads.js";
import { readPast } from "./past-reads.js";
import { type SimulatedCluster, step } from "./simulated-cluster.js";
import type { SimulatedProcess } from "./simulated-process.js";

export const operationKinds = [
  "transfer",
  "sum",
  "item",
  "pair",
  "explicitItem",
  "claim",
  "rename",
  "replace",
  "unclaim",
  "child",
  "parent",
  "orphan",
  "hot",
  "readHot",
  "tally",
  "order",
  "unorder",
  "code",
  "codeIndex",
  "table",
  "alter",
  "big",
  "atoms",
  "race",
  "page",
  "turn",
  "pageRange",
  "newPage",
  "deal",
  "ledger",
  "past",
  "tagged",
  "retag",
  "leaveDuty",
  "duty",
  ...documentKinds,
  "migration",
] as const;
export type OperationKind = (typeof operationKinds)[number];
export type Mix = Partial<Readonly<Record<OperationKind, number>>>;

export type Outcome = "ok" | "failed" | "unknown";

/** One statement or batch of a client, and what became of it. */
export interface Operation {
  readonly id: number;
  readonly kind: OperationKind;
  outcome: Outcome | "pending";
  /** A fault's or a failure's code. */
  code: string;
  /** What it was about: a name, an amount, a table. */
  readonly about: readonly number[];
  /** An INSERT's row id; a hot row's value. */
  value: bigint | null;
  /** Its Cache, and when. */
  readonly at: string;
  readonly beganMs: number;
}

const lostWithItsCache: BatchAnswer = { kind: "failed", code: "ATOMCAST_UNAVAILABLE", message: "its Cache has started over" };

interface Composed {
  readonly about: readonly number[];
  readonly steps: readonly Step[];
}
const pageKinds: ReadonlySet<OperationKind> = new Set(["page", "turn", "pageRange", "newPage", "tagged", "retag"]);

export const accountCount = 8;
export const accountInitial = 100n;
const doctorCount = 3;
const nameCount = 6;
const parentCount = 4;
const bigBytes = 6 * 1024;
/** A table of several atoms, of which point statements need one. These pages are never deleted. */
export const pageCount = 48;
const pageBytes = 8 * 1024;
/** So many pages, one after another, have one of two tags, and change from one to the other. Below 0: others have their operation's number. */
const pagesOfTags = 6;

const judgedKinds: ReadonlySet<OperationKind> = new Set(["page", "turn", "pageRange", "tagged"]);

function firstTag(page: number): number {
  return -2 * (1 + Math.floor((page - 1) / pagesOfTags));
}

export class Workload {
  readonly operations: Operation[] = [];
  readonly #cluster: SimulatedCluster;
  readonly #random: Random;
  readonly #mix: readonly OperationKind[];
  readonly #thinkMsMax: number;
  /** Nine of ten operations are sent to one Cache, another after so long; 0: to any. Virtual milliseconds. */
  readonly #favourMs: number;
  #stopped = false;
  #working = 0;
  #tables = 0;
  /** The largest value of the hot row that any client was told of its increment. */
  hotAcknowledged = 0n;
  /** Likewise by one life of a Cache, reads included. */
  readonly #hotSeen = new Map<string, bigint>();
  readonly #ownTables: string[] = [];

  constructor(cluster: SimulatedCluster, random: Random, mix: Mix, thinkMsMax: number, favourMs = 0) {
    this.#cluster = cluster;
    this.#random = random;
    this.#thinkMsMax = thinkMsMax;
    this.#favourMs = favourMs;
    this.#mix = operationKinds.flatMap((kind) => new Array<OperationKind>(mix[kind] ?? 0).fill(kind));
  }

  /** Only where clients want them: they are large. */
  get hasPages(): boolean {
    return this.#mix.some((kind) => pageKinds.has(kind));
  }

  get hasDocuments(): boolean {
    return this.#mix.some(isDocumentKind);
  }

  /** Through any Cache, before the clients begin. */
  async prepare(name: string): Promise<void> {
    const accounts = Array.from({ length: accountCount }, (_, index) => `(${index + 1}, ${accountInitial})`).join(", ");
    const parents = Array.from({ length: parentCount }, (_, index) => `(${index + 1})`).join(", ");
    await this.#cluster.sql(
      name,
      "create table accounts (id integer primary key, balance integer not null)",
      "create table moves (id integer primary key, source integer not null, target integer not null, amount integer not null)",
      "create table items (id integer primary key, tag integer not null, note text)",
      "create table names (id integer primary key, name text unique, owner integer)",
      "create table parents (id integer primary key)",
      "create table children (id integer primary key, parent integer not null references parents(id))",
      "create index children_parent on children(parent)",
      "create table counters (id integer primary key, n integer not null)",
      "create table codes (id integer primary key, code integer)",
      "create table duty (doctor integer primary key, present integer not null)",
      // Keys of text, two columns, no rowid; a trigger; a foreign key that cascades.
      "create table tallies (place text collate nocase, day integer, n integer not null, primary key (place, day)) without rowid",
      "create table orders (id integer primary key, customer integer not null, lines integer not null default 0)",
      "create table lines (id integer primary key, order_id integer not null references orders(id) on delete cascade, tag integer unique)",
      "create index lines_order on lines(order_id)",
      "create trigger lines_count after insert on lines begin update orders set lines = lines + 1 where id = new.order_id; end",
      `insert into accounts values ${accounts}`,
      `insert into parents values ${parents}`,
      "insert into counters values (1, 0)",
      `insert into duty values ${Array.from({ length: doctorCount }, (_, index) => `(${index + 1}, 1)`).join(", ")}`,
    );
    if (this.hasPages) await this.#preparePages(name);
    if (this.hasDocuments) await this.#cluster.sql(name, documentTable);
  }

  async #preparePages(name: string): Promise<void> {
    const body = "p".repeat(pageBytes);
    await this.#cluster.sql(name, "create table pages (id integer primary key, tag integer not null, n integer not null, body text not null)");
    for (let first = 1; first <= pageCount; first += 12) {
      const rows = Array.from({ length: 12 }, (_, index) => `(${first + index}, ${firstTag(first + index)}, 0, '${body}')`).join(", ");
      await this.#cluster.sql(name, `insert into pages values ${rows}`);
    }
    await this.#cluster.sql(name, "create index pages_tag on pages(tag)");
    const { catalog } = this.#cluster.invariants.committed;
    const space = [...catalog.schema.inOrder()].find(({ object }) => object.name === "pages")?.object.space;
    await this.#cluster.runUntil("the pages are split", () => space !== undefined && catalog.atoms.ofSpace(space).length >= 3);
  }

  /** A client that goes on until `stop`. */
  begin(): void {
    this.#working++;
    this.#live().then(
      () => this.#working--,
      (error: unknown) => this.#cluster.fail(error as Error),
    );
  }

  stop(): void {
    this.#stopped = true;
  }

  get isDone(): boolean {
    return this.#working === 0;
  }

  async #live(): Promise<void> {
    while (!this.#stopped) {
      await this.#cluster.sleep(this.#random.integer(this.#thinkMsMax * 1000 + 1) / 1000);
      const caches = this.#cluster.names("cache").filter((process) => process.state !== "down" && process.cache !== null);
      const cache = this.#choose(caches);
      const kind = this.#mix[this.#random.integer(this.#mix.length)];
      if (cache === undefined || kind === undefined || this.#stopped) continue;
      if (kind === "race") await this.#race(caches);
      else if (kind === "deal") await this.#deal(cache.name);
      else if (kind === "ledger") await this.#reading(cache.name, kind, readLedger);
      else if (kind === "past") await this.#reading(cache.name, kind, readPast);
      else if (kind === "migration") await this.#migration(cache.name);
      else await this.#operate(cache.name, kind);
    }
  }

  /**
   * A table is filled through a Cache that does not know its atoms yet, and dropped while it finds out. Where all know all, one is made, for Caches
   * that come later.
   */
  async #race(caches: readonly SimulatedProcess[]): Promise<void> {
    const other = caches[this.#random.integer(caches.length)] as SimulatedProcess;
    for (const { core, name } of caches) {
      const atoms = core?.catalog.atoms;
      const table = [...(core?.catalog.schema.tables.values() ?? [])].find((one) => one.name.startsWith("own") && atoms?.lacking().has(one.space));
      if (table === undefined) continue;
      const drop = this.#carryOut(other.name, "race", { about: [], steps: [step(`drop table ${table.name}`)] });
      // A drop has several hops before it, a pull two.
      await this.#cluster.sleep(this.#random.integer(40));
      await this.#carryOut(name, "race", { about: [], steps: [step(`insert into ${table.name} (v) values (1)`)] });
      await drop;
      return;
    }
    const made = `own${++this.#tables}`;
    await this.#carryOut(other.name, "race", { about: [], steps: [step(`create table ${made} (id integer primary key, v integer unique)`)] });
  }

  /**
   * A transfer in a transaction that stays open between requests: it sees one total throughout, its own changes and no one else's. At read committed
   * its own balances may hide others' newer ones, and the total then be wrong: not where it commits. A conflict is its client's affair, who does not
   * begin it again here.
   */
  async #deal(at: string): Promise<void> {
    const id = this.operations.length + 1;
    const [source, target, amount] = this.#sides();
    const operation: Operation = {
      id,
      kind: "deal",
      outcome: "pending",
      code: "",
      about: [source, target, amount],
      value: null,
      at,
      beganMs: this.#cluster.nowMs,
    };
    this.operations.push(operation);
    const life = this.#lifeOf(at);
    const from = step("update accounts set balance = balance - ? where id = ?", BigInt(amount), BigInt(source));
    const into = step("update accounts set balance = balance + ? where id = ?", BigInt(amount), BigInt(target));
    const total = step("select sum(balance) from accounts");
    const note = step("insert into moves values (?, ?, ?, ?)", BigInt(id), BigInt(source), BigInt(target), BigInt(amount));
    const balance = step("select balance from accounts where id = ?", BigInt(source));
    // By its number, as what follows is by the seed.
    const readsCommitted = id % 2 === 0;
    const isolation = readsCommitted ? "read_committed" : "snapshot";
    const requests: (readonly Step[])[] = [
      [step(`pragma atomcast.isolation = ${isolation}`), step("begin"), total],
      [from, step("savepoint s"), into, into, step("rollback to s"), into, note, total],
      [balance],
      [total, { ...step("commit"), condition: { kind: "ok", step: 0 } }],
    ];
    let open: number | null = null;
    let seen: SqlValue = null;
    for (const [place, steps] of requests.entries()) {
      const answer: BatchAnswer = this.#lifeOf(at) === life ? await this.#cluster.batch(at, steps, open) : lostWithItsCache;
      const fault = answer.kind === "done" ? answer.outcomes.find((outcome) => outcome.kind === "error") : undefined;
      if (answer.kind === "failed" || fault?.kind === "error") {
        operation.code = answer.kind === "failed" ? answer.code : fault?.kind === "error" ? fault.fault.code : "";
        // What is open without a COMMIT under way is undone for certain.
        operation.outcome =
          answer.kind === "failed" && place === requests.length - 1 && answer.code === "ATOMCAST_OUTCOME_UNKNOWN" ? "unknown" : "failed";
        if (fault?.kind === "error") {
          check(
            fault.fault.code.startsWith("SQLITE_BUSY"),
            "failed effects are not there",
            () => `operation ${id} deal at ${at}: ${JSON.stringify(fault.fault)}`,
          );
          this.#cluster.coverage.count("transactions", "kept open: conflict");
        }
        break;
      }
      open = answer.open;
      const rows = answer.outcomes.map((outcome) => (outcome.kind === "ok" ? (outcome.result.rows[0]?.[0] ?? null) : null));
      const sum = rows[steps.indexOf(total)];
      if (steps.includes(total)) {
        const expected = BigInt(accountCount) * accountInitial;
        check(
          sum === expected,
          "totals are right",
          () => `operation ${id} reads ${sum} at ${at}, not ${expected}, in request ${place} of its transaction`,
        );
        this.#cluster.coverage.count("invariants", "totals are right");
        if (readsCommitted && place > 0) this.#cluster.coverage.count("transactions", "kept open: read committed");
      }
      if (place === 2) seen = rows[0] ?? null;
      if (place === requests.length - 1) {
        operation.outcome = "ok";
        this.#cluster.coverage.count("transactions", "kept open: committed");
      } else {
        check(open !== null, "totals are right", () => `operation ${id} at ${at}: its transaction is not open after request ${place}`);
        await this.#cluster.sleep(this.#random.integer(30));
      }
    }
    this.#cluster.trace(at, `op ${id} deal ${operation.about.join(",")}: ${operation.outcome} ${operation.code} ${seen}`);
  }

  async #reading(at: string, kind: OperationKind, read: typeof readLedger): Promise<void> {
    const operation = this.#begun(at, kind);
    operation.code = await read(this.#cluster, this.#random, at);
    this.#ended(operation, operation.code === "" ? "ok" : "failed");
  }

  async #migration(at: string): Promise<void> {
    const operation = this.#begun(at, "migration");
    const { outcome, code } = await migrate(this.#cluster, this.#random, at, operation.id);
    operation.code = code;
    this.#ended(operation, outcome);
  }

  #begun(at: string, kind: OperationKind): Operation {
    const beganMs = this.#cluster.nowMs;
    const operation: Operation = { id: this.operations.length + 1, kind, outcome: "pending", code: "", about: [], value: null, at, beganMs };
    this.operations.push(operation);
    return operation;
  }

  #ended(operation: Operation, outcome: Outcome): void {
    operation.outcome = outcome;
    this.#cluster.trace(operation.at, `op ${operation.id} ${operation.kind}: ${outcome} ${operation.code}`);
  }

  /** Two accounts and an amount. */
  #sides(): [number, number, number] {
    const source = this.#below(accountCount);
    return [source, 1 + ((source + this.#random.integer(accountCount - 1)) % accountCount), this.#below(9)];
  }

  #choose(caches: readonly SimulatedProcess[]): SimulatedProcess | undefined {
    const any = caches[this.#random.integer(Math.max(1, caches.length))];
    if (this.#favourMs === 0 || this.#random.integer(10) === 0) return any;
    return caches[Math.floor(this.#cluster.nowMs / this.#favourMs) % Math.max(1, caches.length)];
  }

  #below(count: number): number {
    return 1 + this.#random.integer(count);
  }

  async #operate(at: string, kind: Exclude<OperationKind, "race" | "deal" | "ledger" | "past" | "migration">): Promise<void> {
    await this.#carryOut(at, kind, this.#compose(kind, this.operations.length + 1));
  }

  async #carryOut(at: string, kind: OperationKind, { about, steps }: Composed): Promise<void> {
    if (steps.length === 0) return;
    const id = this.operations.length + 1;
    const operation: Operation = { id, kind, outcome: "pending", code: "", about, value: null, at, beganMs: this.#cluster.nowMs };
    this.operations.push(operation);
    const { hotAcknowledged } = this;
    const seenBefore = this.#hotSeen.get(this.#lifeOf(at)) ?? 0n;
    const life = this.#lifeOf(at);
    // Now and then a client goes away. The first half of a pair would stay.
    const giveUpMs = kind !== "pair" && id % 29 === 7 ? id % 41 : null;
    const answer = await this.#cluster.batch(at, steps, null, giveUpMs);
    if (answer.kind === "failed" && answer.code === "ATOMCAST_CANCELLED") this.#cluster.coverage.count("transactions", "given up by its client");
    this.#conclude(operation, answer, giveUpMs !== null);
    if (operation.outcome === "ok") this.#judgeHot(operation, life, hotAcknowledged, seenBefore);
    this.#cluster.trace(at, `op ${id} ${kind} ${about.join(",")}: ${operation.outcome} ${operation.code}`);
  }

  #lifeOf(name: string): string {
    return `${name}/${this.#cluster.process(name).life}`;
  }

  /** An increment that begins after another was acknowledged comes after it, wherever; a Cache's reads never go back. */
  #judgeHot({ id, kind, value, at }: Operation, life: string, acknowledged: bigint, seen: bigint): void {
    if ((kind !== "hot" && kind !== "readHot") || value === null) return;
    const floor = kind === "hot" && acknowledged > seen ? acknowledged : seen;
    const isLater = kind === "hot" ? value > floor : value >= floor;
    check(
      isLater,
      "what is acknowledged comes before what begins then",
      () => `operation ${id} ${kind} at ${at} has ${value}, and ${floor} was before it`,
    );
    this.#cluster.coverage.count("invariants", "what is acknowledged comes before what begins then");
    if (kind === "hot" && value > this.hotAcknowledged) this.hotAcknowledged = value;
    if (value > (this.#hotSeen.get(life) ?? 0n)) this.#hotSeen.set(life, value);
  }

  #conclude(operation: Operation, answer: BatchAnswer, isGivenUp: boolean): void {
    if (answer.kind === "failed") {
      operation.code = answer.code;
      operation.outcome = answer.code === "ATOMCAST_OUTCOME_UNKNOWN" ? "unknown" : "failed";
      if (answer.code === "ATOMCAST_OUTCOME_UNKNOWN") this.#cluster.coverage.count("transactions", "starts over: outcome unknown");
      if (answer.code === "ATOMCAST_UNAVAILABLE") this.#cluster.coverage.count("transactions", "starts over: nothing changed");
      return;
    }
    const fault = answer.outcomes.find((outcome) => outcome.kind === "error");
    operation.outcome = fault === undefined ? "ok" : "failed";
    if (fault?.kind === "error") {
      operation.code = fault.fault.code;
      // Ended while it ran, since nobody waits for it: told as any other error of a statement, which has undone what it did.
      if (isGivenUp && operation.code === "SQLITE_INTERRUPT") return;
      this.#judgeFault(operation, fault.fault.code, fault.fault.message);
      return;
    }
    const last = answer.outcomes.filter((outcome) => outcome.kind === "ok").at(-1);
    if (last?.kind !== "ok") return;
    const rows = last.result.rows;
    if (operation.kind === "sum") this.#judgeSum(operation, rows);
    else if (operation.kind === "readDocuments") judgeDocuments(`operation ${operation.id} at ${operation.at}`, rows);
    else if (judgedKinds.has(operation.kind)) this.#judgePages(operation, rows);
    else if (operation.kind === "page" || operation.kind === "turn" || operation.kind === "pageRange") this.#judgePages(operation, rows);
    else if (operation.kind === "duty") this.#judgeDuty(operation, rows);
    else if (operation.kind === "orphan")
      check(rows[0]?.[0] === 0n, "no orphans", () => `operation ${operation.id} reads ${rows[0]?.[0]} at ${operation.at}`);
    else if (operation.kind === "atoms")
      check(rows[0]?.[1] === 1n, "acknowledged effects are there", () => `operation ${operation.id} lists no schema catalog at ${operation.at}`);
    else if (operation.kind === "hot" || operation.kind === "readHot") operation.value = rows[0]?.[0] as bigint;
    else operation.value = last.result.lastInsertRowid;
    if (operation.kind === "orphan") this.#cluster.coverage.count("invariants", "no orphans");
  }

  /** A row that is not held must not seem to be missing. */
  #judgePages({ id, kind, about, at }: Operation, rows: readonly (readonly SqlValue[])[]): void {
    const [first = 0, last = first] = about;
    const expected = BigInt(last - first + 1);
    check(
      rows.length === 1 && rows[0]?.[0] === expected,
      "acknowledged effects are there",
      () => `operation ${id} ${kind} finds ${rows[0]?.[0]} of pages ${first} to ${last} at ${at}`,
    );
  }

  #judgeSum(operation: Operation, rows: readonly (readonly SqlValue[])[]): void {
    const expected = BigInt(accountCount) * accountInitial;
    check(rows[0]?.[0] === expected, "totals are right", () => `operation ${operation.id} reads ${rows[0]?.[0]} at ${operation.at}, not ${expected}`);
    this.#cluster.coverage.count("invariants", "totals are right");
  }

  #judgeDuty({ id, at }: Operation, rows: readonly (readonly SqlValue[])[]): void {
    check((rows[0]?.[0] as bigint) >= 1n, "serializable", () => `operation ${id} finds nobody present at ${at}`);
    this.#cluster.coverage.count("invariants", "serializable");
  }

  /** Constraints and schema races are a client's daily bread; anything else is not. */
  #judgeFault(operation: Operation, code: string, message: string): void {
    const isExpected =
      code.startsWith("SQLITE_CONSTRAINT") ||
      (code.startsWith("SQLITE_ERROR") && /no such (table|column|index)|already exists|duplicate column/.test(message));
    check(isExpected, "failed effects are not there", () => `operation ${operation.id} ${operation.kind} at ${operation.at}: ${code} ${message}`);
  }

  #compose(kind: Exclude<OperationKind, "race" | "deal" | "ledger" | "past" | "migration">, id: number): Composed {
    const number = BigInt(id);
    switch (kind) {
      case "transfer":
        return this.#transfer(number);
      case "sum":
        return { about: [], steps: [step("select sum(balance) from accounts")] };
      case "item":
        return { about: [], steps: [step("insert into items (tag, note) values (?, ?)", number, `note ${id}`)] };
      case "pair": {
        const insert = "insert into items (tag, note) values (?, 'pair')";
        return { about: [], steps: [step(insert, -number), step(insert, number)] };
      }
      case "explicitItem": {
        const at = this.#below(400);
        return { about: [at], steps: [step("insert into items (id, tag, note) values (?, ?, 'explicit')", BigInt(at), number)] };
      }
      case "page": {
        const page = this.#below(pageCount);
        return { about: [page], steps: [step("select count(*) from pages where id = ? and length(body) = ?", BigInt(page), BigInt(pageBytes))] };
      }
      case "turn": {
        const page = this.#below(pageCount);
        return { about: [page], steps: [step("update pages set n = n + 1 where id = ? returning 1", BigInt(page))] };
      }
      case "pageRange": {
        const first = this.#below(pageCount);
        const last = Math.min(pageCount, first + this.#random.integer(8));
        return { about: [first, last], steps: [step("select count(*) from pages where id between ? and ?", BigInt(first), BigInt(last))] };
      }
      case "newPage": {
        const page = pageCount + this.#below(80);
        return { about: [page], steps: [step("insert into pages values (?, ?, 0, ?)", BigInt(page), number, "n".repeat(pageBytes))] };
      }
      case "tagged": {
        const first = 1 + pagesOfTags * this.#random.integer(pageCount / pagesOfTags);
        const tag = BigInt(firstTag(first));
        return { about: [first, first + pagesOfTags - 1], steps: [step("select count(*) from pages where tag in (?, ?)", tag, tag + 1n)] };
      }
      case "retag": {
        const page = this.#below(pageCount);
        const [from, to] = this.#random.integer(2) === 0 ? [0, 1] : [1, 0];
        const tag = firstTag(page);
        const sql = "update pages set tag = ? where tag = ? and (id = ? or n > 0)";
        return { about: [page], steps: [step(sql, BigInt(tag + to), BigInt(tag + from), BigInt(page))] };
      }
      case "big":
        return { about: [], steps: [step("insert into items (tag, note) values (?, ?)", number, "x".repeat(bigBytes))] };
      case "claim": {
        const name = this.#below(nameCount);
        return { about: [name], steps: [step("insert into names (name, owner) values (?, ?)", `n${name}`, number)] };
      }
      case "rename": {
        const [from, to] = [this.#below(nameCount), this.#below(nameCount)];
        return { about: [from, to], steps: [step("update names set name = ?, owner = ? where name = ?", `n${to}`, number, `n${from}`)] };
      }
      case "replace": {
        const name = this.#below(nameCount);
        return { about: [name], steps: [step("insert or replace into names (name, owner) values (?, ?)", `n${name}`, number)] };
      }
      case "unclaim": {
        const name = this.#below(nameCount);
        return { about: [name], steps: [step("delete from names where name = ?", `n${name}`)] };
      }
      case "child": {
        const parent = this.#below(parentCount);
        return { about: [parent], steps: [step("insert into children values (?, ?)", number, BigInt(parent))] };
      }
      case "parent": {
        const parent = BigInt(this.#below(parentCount));
        const choice = this.#random.integer(3);
        if (choice === 0) return { about: [], steps: [step("insert or ignore into parents values (?)", parent)] };
        if (choice === 1) return { about: [], steps: [step("delete from parents where id = ?", parent)] };
        return { about: [], steps: [step("delete from children where parent = ?", parent)] };
      }
      case "orphan":
        return { about: [], steps: [step("select count(*) from children where parent not in (select id from parents)")] };
      case "hot":
        return { about: [], steps: [step("update counters set n = n + 1 where id = 1 returning n")] };
      case "readHot":
        return { about: [], steps: [step("select n from counters where id = 1")] };
      case "tally": {
        const place = `${this.#random.integer(2) === 0 ? "P" : "p"}lace${this.#below(2)}`;
        const sql = "insert into tallies values (?, ?, 1) on conflict do update set n = n + 1";
        return { about: [], steps: [step(sql, place, BigInt(this.#below(2)))] };
      }
      case "order":
        return this.#order(number);
      case "unorder":
        return { about: [], steps: [step("delete from orders where id = (select min(id) from orders)")] };
      case "code":
        return { about: [], steps: [step("insert into codes (code) values (?)", BigInt(this.#below(60)))] };
      case "codeIndex": {
        const choice = this.#random.integer(3);
        if (choice === 0) return { about: [], steps: [step("create unique index codes_code on codes(code)")] };
        if (choice === 1) return { about: [], steps: [step("drop index codes_code")] };
        return { about: [], steps: [step("delete from codes where id not in (select min(id) from codes group by code)")] };
      }
      case "leaveDuty": {
        const doctor = this.#below(doctorCount);
        if (this.#random.integer(3) === 0) return { about: [doctor], steps: [step("update duty set present = 1 where doctor = ?", BigInt(doctor))] };
        // Each sees another one present: at snapshot isolation all would leave in the end.
        const leave = "update duty set present = 0 where doctor = ? and (select count(*) from duty where present = 1) > 1";
        return { about: [doctor], steps: [step("pragma atomcast.isolation = serializable"), step(leave, BigInt(doctor))] };
      }
      case "duty":
        return { about: [], steps: [step("select sum(present) from duty")] };
      case "table":
        return this.#table(number);
      case "document":
      case "title":
      case "undocument":
      case "readDocuments":
        return composeDocument(kind, id, this.#random);
      case "atoms":
        return { about: [], steps: [step("select count(*), sum(id = 1) from system.atoms")] };
      case "alter":
        // As a migration does.
        return {
          about: [],
          steps: [
            step("begin"),
            step(`alter table items add column c${id} integer default ${id}`),
            step(`pragma user_version = ${id}`),
            step("commit"),
          ],
        };
    }
  }

  #transfer(id: bigint): Composed {
    const [source, target, amount] = this.#sides();
    const statements = [
      step("begin"),
      step("update accounts set balance = balance - ? where id = ?", BigInt(amount), BigInt(source)),
      step("update accounts set balance = balance + ? where id = ?", BigInt(amount), BigInt(target)),
      step("insert into moves values (?, ?, ?, ?)", id, BigInt(source), BigInt(target), BigInt(amount)),
      step("commit"),
    ];
    return { about: [source, target, amount], steps: statements };
  }

  /** A parent with an id of the sequence, and two children that name it. */
  #order(id: bigint): Composed {
    const line = "insert into lines (order_id, tag) values ((select max(id) from orders where customer = ?), ?)";
    const statements = [
      step("begin"),
      step("insert into orders (customer) values (?)", id),
      step(line, id, 2n * id),
      step(line, id, 2n * id + 1n),
      step("commit"),
    ];
    return { about: [], steps: statements };
  }

  /** Makes, fills or drops a table of its own. */
  #table(id: bigint): Composed {
    const choice = this.#random.integer(3);
    const known = this.#ownTables[this.#random.integer(Math.max(1, this.#ownTables.length))];
    if (choice === 0 || known === undefined) {
      const name = `own${++this.#tables}`;
      this.#ownTables.push(name);
      return { about: [], steps: [step(`create table ${name} (id integer primary key, v integer unique)`)] };
    }
    if (choice === 1) return { about: [], steps: [step(`insert into ${known} (v) values (?)`, id)] };
    return { about: [], steps: [step(`drop table ${known}`)] };
  }
}
