/**
 * Random tables, indexes, triggers and views, and what makers of statements must know of them.
 *
 * Left out, because it is an accepted difference (docs/decisions.md):
 * - RESTRICT, which behaves as NO ACTION;
 * - ids that are not integers, and STRICT tables with values of a wrong type: of a statement of several rows SQLite leaves those before the one that does not fit;
 * - what shows which id a row would have got that was never stored: triggers name the id only where the row is there, and no trigger that an INSERT
 *   sets off fails so that its row stays (FAIL), since nobody is told its id then;
 * - foreign keys of which some are deferred and some are not, in one table: a statement that fails for the one leaves SQLite's count of the other as it was,
 *   and its COMMIT fails though nothing is wrong;
 * - DROP TABLE where rows had lost their parents before: SQLite counts those that lose them by it, here none may be left;
 * - parents' keys of a primary key with a collation that is not the column's: an INSERT of a single row into the parent does not tell the mismatch in SQLite.
 */
import { largeValueBytes } from "../../src/base/large-values.js";
import type { Chance, Domain } from "../sql/odd-values.js";

export interface Column {
  readonly name: string;
  readonly domain: Domain;
  /** Computed by SQLite: never written. */
  readonly isGenerated: boolean;
}

export interface Table {
  readonly name: string;
  /** What tells its rows apart; `rowid` where it is hidden. */
  readonly key: readonly string[];
  /** Where ids can be generated: `id` or `rowid`. */
  readonly idColumn: string | null;
  readonly columns: readonly Column[];
  /** Columns that an index begins with. */
  readonly indexed: readonly string[];
  /** Groups of columns that a UNIQUE constraint or an index without conditions is on. */
  readonly uniques: readonly (readonly string[])[];
  /** Others may refer to its key. */
  readonly isKeyReferable: boolean;
  /** A row may be passed over, or replace another one, or fail alone, without the statement's saying so. */
  readonly hasOwnConflicts: boolean;
}

export interface View {
  readonly name: string;
  readonly on: Table;
}

/** Columns that all tables have, so that any two can be joined. */
const common: readonly Column[] = [
  { name: "a", domain: "number", isGenerated: false },
  { name: "b", domain: "word", isGenerated: false },
  { name: "c", domain: "any", isGenerated: false },
];
const typesOf: Readonly<Record<Domain, readonly string[]>> = {
  number: ["INT", "INTEGER", "NUMERIC", "REAL", "BIGINT", ""],
  word: ["TEXT", "TEXT COLLATE NOCASE", "VARCHAR(9) COLLATE RTRIM", "TEXT COLLATE BINARY"],
  any: ["", "BLOB", "TEXT", "NUMERIC", "ANY"],
};

export class SchemaMaker {
  readonly #chance: Chance;
  readonly #hasLarge: boolean;
  readonly tables: Table[] = [];
  readonly views: View[] = [];
  readonly indexes: string[] = [];
  readonly triggers: string[] = [];
  #names = 0;

  constructor(chance: Chance, hasLarge: boolean) {
    this.#chance = chance;
    this.#hasLarge = hasLarge;
  }

  #name(prefix: string): string {
    this.#names++;
    return `${prefix}${this.#names}`;
  }

  /** The whole of a new database, in order of creation. */
  first(): string[] {
    const sql = ["CREATE TABLE log(x)"];
    const tables = 2 + this.#chance.below(3);
    for (let count = 0; count < tables; count++) sql.push(this.table());
    for (let count = this.#chance.below(4); count > 0; count--) sql.push(this.index());
    for (let count = this.#chance.below(3); count > 0; count--) sql.push(this.trigger());
    if (this.#chance.oneIn(2)) sql.push(...this.view());
    return sql;
  }

  table(): string {
    const chance = this.#chance;
    const name = this.#name("t");
    const columns = [...common];
    const uniques: string[][] = [];
    let hasOwnConflicts = false;
    const onConflict = (): string => {
      if (!chance.oneIn(6)) return "";
      hasOwnConflicts = true;
      return ` ON CONFLICT ${chance.pick(["REPLACE", "IGNORE", "ABORT", "ROLLBACK"])}`;
    };
    const definitions = common.map((column) => {
      let text = `${column.name} ${chance.pick(typesOf[column.domain])}`;
      if (chance.oneIn(6)) text += ` DEFAULT ${chance.pick(["5", "'x'", "NULL", "(1 + 2)", "-0.0"])}`;
      if (chance.oneIn(9)) text += ` NOT NULL${onConflict()}`;
      if (chance.oneIn(8)) {
        text += ` UNIQUE${onConflict()}`;
        uniques.push([column.name]);
      }
      if (chance.oneIn(12)) text += ` CHECK (${chance.pick([`${column.name} <> 7`, `length(${column.name}) < 6`, `${column.name} IS NOT 'e'`])})`;
      return text;
    });
    const constraints: string[] = [];
    const { key, idColumn, isWithoutRowid, isKeyReferable } = this.#key(definitions, constraints, columns);
    const deferred = chance.oneIn(4) ? " DEFERRABLE INITIALLY DEFERRED" : "";
    if (chance.oneIn(6) && key[0] === "id")
      this.#foreignKey({ name, key, columns: [], uniques: [], isKeyReferable }, deferred, definitions, constraints, columns);
    for (let count = chance.below(3); count > 0 && this.tables.length > 0; count--)
      this.#foreignKey(chance.pick(this.tables), deferred, definitions, constraints, columns);
    if (chance.oneIn(5)) {
      definitions.push(
        `g ${chance.pick(["", "INT", "TEXT"])} AS (${chance.pick(["a * 2", "a || b", "coalesce(c, 1)"])}) ${chance.pick(["VIRTUAL", "STORED"])}`,
      );
      columns.push({ name: "g", domain: "any", isGenerated: true });
      if (chance.oneIn(3)) constraints.push("UNIQUE (g)");
    }
    if (chance.oneIn(6)) {
      constraints.push(`UNIQUE (a, b)${onConflict()}`);
      uniques.push(["a", "b"]);
    }
    this.tables.push({
      name,
      key,
      idColumn,
      columns,
      indexed: uniques.map(([first]) => first ?? "a"),
      uniques,
      isKeyReferable,
      hasOwnConflicts,
    });
    return `CREATE TABLE ${name}(${[...definitions, ...constraints].join(", ")})${isWithoutRowid ? " WITHOUT ROWID" : ""}`;
  }

  #key(
    definitions: string[],
    constraints: string[],
    columns: Column[],
  ): { readonly key: readonly string[]; readonly idColumn: string | null; readonly isWithoutRowid: boolean; readonly isKeyReferable: boolean } {
    const chance = this.#chance;
    switch (chance.below(7)) {
      case 0:
      case 1:
        definitions.unshift("id INTEGER PRIMARY KEY");
        return { key: ["id"], idColumn: "id", isWithoutRowid: false, isKeyReferable: true };
      case 2:
        definitions.unshift("id INTEGER PRIMARY KEY AUTOINCREMENT");
        return { key: ["id"], idColumn: "id", isWithoutRowid: false, isKeyReferable: true };
      case 3:
        columns.unshift({ name: "k", domain: chance.pick(["word", "number", "any"]), isGenerated: false });
        definitions.unshift(`k ${chance.pick(["TEXT", "TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM", "REAL", ""])} PRIMARY KEY`);
        return { key: ["k"], idColumn: null, isWithoutRowid: true, isKeyReferable: true };
      case 4: {
        columns.unshift({ name: "k", domain: "word", isGenerated: false }, { name: "n", domain: "number", isGenerated: false });
        definitions.unshift(`k ${chance.pick(typesOf.word)}`, "n INT");
        const collation = chance.oneIn(3) ? " COLLATE NOCASE" : "";
        constraints.push(`PRIMARY KEY (k${collation}${chance.pick(["", " DESC"])}, n${chance.pick(["", " DESC"])})`);
        return { key: ["k", "n"], idColumn: null, isWithoutRowid: true, isKeyReferable: collation === "" };
      }
      case 5:
        columns.unshift({ name: "k", domain: "word", isGenerated: false });
        definitions.unshift("k TEXT PRIMARY KEY");
        return { key: ["rowid"], idColumn: "rowid", isWithoutRowid: false, isKeyReferable: false };
      default:
        return { key: ["rowid"], idColumn: "rowid", isWithoutRowid: false, isKeyReferable: false };
    }
  }

  #foreignKey(
    parent: Pick<Table, "name" | "key" | "columns" | "uniques" | "isKeyReferable">,
    deferred: string,
    definitions: string[],
    constraints: string[],
    columns: Column[],
  ): void {
    const chance = this.#chance;
    const targets = [...(parent.isKeyReferable ? [parent.key] : []), ...parent.uniques];
    if (targets.length === 0) return;
    const target = chance.pick(targets);
    const own = target.map(() => `f${columns.length}${this.#name("_")}`);
    for (const [place, column] of own.entries()) {
      const domain = parent.columns.find((one) => one.name === target[place])?.domain ?? "number";
      columns.push({ name: column, domain, isGenerated: false });
      definitions.push(
        `${column} ${chance.oneIn(4) ? chance.pick(typesOf.any) : chance.pick(typesOf[domain])}${chance.oneIn(8) ? " DEFAULT 1" : ""}`,
      );
    }
    const actions = ["CASCADE", "CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION"];
    const onDelete = chance.oneIn(4) ? "" : ` ON DELETE ${chance.pick(actions)}`;
    const onUpdate = chance.oneIn(4) ? "" : ` ON UPDATE ${chance.pick(actions)}`;
    constraints.push(`FOREIGN KEY (${own.join(", ")}) REFERENCES ${parent.name}(${target.join(", ")})${onDelete}${onUpdate}${deferred}`);
  }

  index(): string {
    const chance = this.#chance;
    const place = chance.below(this.tables.length);
    const table = this.tables[place] as Table;
    const name = this.#name("i");
    const column = chance.pick([
      "a",
      "b",
      "c",
      "b COLLATE NOCASE",
      "c DESC",
      "a, b",
      "b, a DESC",
      "c, a",
      "lower(b)",
      "a % 4",
      ...table.columns.map((one) => one.name),
    ]);
    const isUnique = chance.oneIn(4);
    const where = chance.oneIn(5) ? ` WHERE ${chance.pick(["a > 3", "b IS NOT NULL", "c < 'b'", "length(b) = 1"])}` : "";
    const isPlain = isUnique && where === "" && /^\w+(, \w+)?$/.test(column);
    this.indexes.push(name);
    this.tables[place] = {
      ...table,
      indexed: [...table.indexed, /^\w+/.exec(column)?.[0] === "lower" ? "b" : (/^\w+/.exec(column)?.[0] ?? "a")],
      uniques: isPlain ? [...table.uniques, column.split(", ")] : table.uniques,
    };
    return `CREATE ${isUnique ? "UNIQUE " : ""}INDEX ${name} ON ${table.name}(${column})${where}`;
  }

  trigger(): string {
    const chance = this.#chance;
    const place = chance.below(this.tables.length);
    const table = this.tables[place] as Table;
    const other = chance.pick(this.tables);
    const name = this.#name("g");
    this.triggers.push(name);
    const event = chance.pick(["INSERT", "UPDATE", "DELETE", "UPDATE OF a"]);
    const row = event === "DELETE" ? "old" : "new";
    const when = chance.oneIn(2) ? "" : ` WHEN ${row}.a ${chance.pick(["> 6", "IS 3", "< 2"])}`;
    const head = (time: string): string => `CREATE TRIGGER ${name} ${time} ${event} ON ${table.name}${when} BEGIN`;
    const same = table.key.map((column) => `${column} IS ${row}.${column}`).join(" AND ");
    const found = chance.pick([...other.key, ...other.indexed, "a"]);
    // Not by the id: of a row that was not stored nobody is told it.
    const by = `${row}.${chance.pick(["a", "a", "b", "c"])}`;
    const isFound = chance.oneIn(4) ? `${by} = ${found}` : `${found} = ${by}`;
    switch (chance.below(8)) {
      case 0: {
        const raise = chance.pick(["IGNORE", "ABORT, 'no'", event === "INSERT" ? "FAIL, 'no'" : "ABORT, 'not'", "ROLLBACK, 'no'"]);
        this.tables[place] = { ...table, hasOwnConflicts: true };
        return `${head("BEFORE")} SELECT raise(${raise}) WHERE ${row}.a IN (8, 9); END`;
      }
      case 1:
        return `${head(chance.pick(["AFTER", "AFTER", "BEFORE"]))} UPDATE ${other.name} SET c = ${row}.b WHERE ${isFound}; END`;
      case 2:
        return `${head("AFTER")} DELETE FROM ${other.name} WHERE ${isFound}; END`;
      case 3:
        return event === "DELETE"
          ? `${head("BEFORE")} INSERT INTO log VALUES (old.b); END`
          : `${head("AFTER")} UPDATE ${table.name} SET c = coalesce(c, 0) WHERE ${same}; END`;
      case 4:
        return `${head("BEFORE")} INSERT INTO log VALUES (${row}.a || 'before'); END`;
      case 5:
        this.tables[place] = { ...table, hasOwnConflicts: true };
        return `${head("AFTER")} SELECT raise(ABORT, 'found') WHERE EXISTS (SELECT 1 FROM ${other.name} WHERE ${isFound} AND b > 'a'); END`;
      case 6:
        return `${head("AFTER")} UPDATE ${other.name} SET b = (SELECT max(b) FROM ${chance.pick(this.tables).name} WHERE a = ${by}) WHERE ${isFound}; END`;
      default:
        return `${head("AFTER")} INSERT INTO log SELECT ${row}.${table.key[0]} || '${name}'; END`;
    }
  }

  view(): string[] {
    const chance = this.#chance;
    const on = chance.pick(this.tables);
    const name = this.#name("v");
    this.views.push({ name, on });
    const key = on.key[0] ?? "";
    const sql = [`CREATE VIEW ${name} AS SELECT ${key} AS k, a, b, c FROM ${on.name} WHERE ${chance.pick(["1", "a > 3", "b <> 'a'", "k < 6"])}`];
    if (chance.oneIn(2))
      sql.push(`CREATE TRIGGER ${this.#name("w")} INSTEAD OF UPDATE ON ${name} BEGIN UPDATE ${on.name} SET a = new.a WHERE ${key} IS old.k; END`);
    if (chance.oneIn(2))
      sql.push(`CREATE TRIGGER ${this.#name("w")} INSTEAD OF DELETE ON ${name} BEGIN DELETE FROM ${on.name} WHERE ${key} IS old.k; END`);
    return sql;
  }

  /** A change of what is there. The maker takes it for done: where it fails, later statements fail as well, on both sides. */
  change(dropsTables: boolean): string {
    const chance = this.#chance;
    const place = chance.below(this.tables.length);
    const table = this.tables[place] as Table;
    switch (chance.below(10)) {
      case 0:
      case 1: {
        const name = this.#name("z");
        this.tables[place] = { ...table, columns: [...table.columns, { name, domain: "any", isGenerated: false }] };
        const large = this.#hasLarge ? Array.from({ length: 3 }, () => `TEXT DEFAULT 'a${"0".repeat(largeValueBytes)}'`) : [];
        return `ALTER TABLE ${table.name} ADD COLUMN ${name} ${chance.pick([...large, "", "INT DEFAULT 5", "TEXT COLLATE NOCASE", "NOT NULL DEFAULT 'x'", "CHECK (b <> 'c')", "REAL NOT NULL"])}`;
      }
      case 2: {
        const added = table.columns.filter((column) => column.name.startsWith("z"));
        if (added.length === 0) return this.index();
        const { name } = chance.pick(added);
        if (chance.oneIn(2)) {
          this.tables[place] = { ...table, columns: table.columns.filter((column) => column.name !== name) };
          return `ALTER TABLE ${table.name} DROP COLUMN ${name}`;
        }
        const other = this.#name("z");
        this.tables[place] = { ...table, columns: table.columns.map((column) => (column.name === name ? { ...column, name: other } : column)) };
        return `ALTER TABLE ${table.name} RENAME COLUMN ${name} TO ${other}`;
      }
      case 3: {
        const name = this.#name("t");
        this.tables[place] = { ...table, name };
        return `ALTER TABLE ${table.name} RENAME TO ${name}`;
      }
      case 4:
        return this.indexes.length === 0 ? this.index() : `DROP INDEX ${chance.pick(this.indexes)}`;
      case 5:
        return this.triggers.length === 0 ? this.trigger() : `DROP TRIGGER ${chance.pick(this.triggers)}`;
      case 6:
        if (this.tables.length < 3 || !dropsTables) return this.table();
        this.tables.splice(place, 1);
        return `DROP TABLE ${table.name}`;
      case 7:
        return this.trigger();
      case 8:
        return this.tables.length > 5 ? this.index() : this.table();
      default:
        return this.index();
    }
  }
}
