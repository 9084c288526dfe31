/** A seed's case: a schema, some rows, and then requests of several clients, among which stores start over, give up ranges, and see tables cut anew. */
import { seededRandom } from "../../src/base/random.js";
import { Chance } from "../sql/odd-values.js";
import type { Case, CaseEvent, Statement } from "./case.js";
import { SchemaMaker } from "./schema-maker.js";
import { StatementMaker } from "./statement-maker.js";

const eventsOfCase = 36;
const rowsAtOnce = 6;

/** Of so many cases one has large values: it takes several times as long as another. */
const casesOfLarge = 25;

export function hasLargeValues(seed: number): boolean {
  return seed % casesOfLarge === 0;
}

export function makeCase(seed: number): Case {
  return new CaseMaker(seed).make();
}

class CaseMaker {
  readonly #chance: Chance;
  readonly #schema: SchemaMaker;
  readonly #statements: StatementMaker;
  readonly #events: CaseEvent[] = [];
  readonly #stores: number;
  /** Some sessions are without foreign keys, and leave rows without their parent. */
  readonly #hasOrphans: boolean;

  constructor(seed: number) {
    this.#chance = new Chance(seededRandom(seed));
    const hasLarge = hasLargeValues(seed);
    this.#schema = new SchemaMaker(this.#chance, hasLarge);
    this.#statements = new StatementMaker(this.#chance, this.#schema, hasLarge);
    this.#stores = 2 + this.#chance.below(2);
    this.#hasOrphans = this.#chance.oneIn(2);
  }

  make(): Case {
    const chance = this.#chance;
    for (const sql of this.#schema.first()) this.#run(0, [this.#statements.plain("schema", sql)]);
    for (const table of this.#schema.tables)
      for (let count = chance.below(4); count >= 0; count--)
        this.#run(chance.below(this.#stores), [this.#statements.insert(table, 1 + chance.below(rowsAtOnce))]);
    this.#disturb(1);
    for (let count = 0; count < eventsOfCase; count++) {
      if (chance.oneIn(3)) this.#disturb(null);
      const store = chance.oneIn(3) ? 0 : 1 + chance.below(this.#stores - 1);
      const choice = chance.below(24);
      if (choice === 0) this.#run(store, [this.#change()]);
      else if (choice < 4) this.#run(store, this.#transaction());
      else if (choice === 4 || choice === 5) this.#open(store);
      else if (choice === 6 && this.#hasOrphans) this.#run(store, this.#withoutForeignKeys());
      else this.#run(store, [chance.oneIn(2) ? this.#statements.select() : this.#statements.write()]);
    }
    return { stores: this.#stores, events: this.#events };
  }

  #run(store: number, statements: readonly Statement[]): void {
    this.#events.push({ kind: "run", store, statements });
  }

  /** `store`: it starts over. */
  #disturb(store: number | null): void {
    const chance = this.#chance;
    const choice = store === null ? chance.below(8) : 0;
    const on = store ?? chance.below(this.#stores);
    if (choice === 0) this.#events.push({ kind: "restart", store: on });
    else if (choice < 6) this.#events.push({ kind: "drop", store: on, seed: chance.below(2 ** 31) });
    else this.#events.push({ kind: "cut", seed: chance.below(2 ** 31) });
  }

  #change(): Statement {
    return this.#statements.plain("ddl", this.#schema.change(!this.#hasOrphans));
  }

  #inner(): Statement {
    const chance = this.#chance;
    const choice = chance.below(12);
    if (choice < 3) return this.#statements.plain("savepoint", ["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"][choice] ?? "");
    return choice < 6 ? this.#statements.select() : this.#statements.write();
  }

  /** A COMMIT that fails leaves it open: what follows ends it. */
  #transaction(): Statement[] {
    const chance = this.#chance;
    const inner = Array.from({ length: 1 + chance.below(5) }, () => (chance.oneIn(12) ? this.#change() : this.#inner()));
    if (chance.oneIn(8)) inner.unshift(this.#statements.plain("pragma", "PRAGMA defer_foreign_keys = 1"));
    const begin = chance.pick(["BEGIN", "BEGIN IMMEDIATE"]);
    const end = chance.oneIn(5) ? "ROLLBACK" : "COMMIT";
    return [begin, ...inner, end, "ROLLBACK"].map((one) => (typeof one === "string" ? this.#statements.plain("transaction", one) : one));
  }

  /** A session without foreign keys: they are off to the end of the request. */
  #withoutForeignKeys(): Statement[] {
    const off = this.#statements.plain("foreign_keys off", "PRAGMA foreign_keys = OFF");
    return [off, ...(this.#chance.oneIn(2) ? this.#transaction() : [this.#statements.write(), this.#statements.write()])];
  }

  /** A transaction that stays open over several requests, among which others write, on its own store too. Its first statement is what makes its snapshot. */
  #open(store: number): void {
    const chance = this.#chance;
    const request = (statements: readonly Statement[]): void => void this.#events.push({ kind: "request", store, statements });
    const isAlone = chance.oneIn(3);
    const changesSchema = chance.oneIn(3);
    const inner = (): Statement => (changesSchema && chance.oneIn(3) ? this.#change() : this.#inner());
    request([this.#statements.plain("open", "BEGIN"), this.#statements.plain("open", "SELECT count(*) FROM sqlite_schema"), inner()]);
    for (let count = chance.below(4); count > 0; count--) {
      if (chance.oneIn(2)) this.#events.push({ kind: "cut", seed: chance.below(2 ** 31) });
      if (chance.oneIn(2)) this.#events.push({ kind: "drop", store, seed: chance.below(2 ** 31) });
      for (let others = isAlone ? 0 : chance.below(3); others > 0; others--)
        this.#run(chance.below(this.#stores), [chance.oneIn(3) ? this.#statements.select() : this.#statements.write()]);
      request([inner(), ...(chance.oneIn(2) ? [inner()] : [])]);
    }
    request([this.#statements.plain("open", chance.oneIn(5) ? "ROLLBACK" : "COMMIT")]);
    request([this.#statements.plain("open", "ROLLBACK")]);
  }
}
