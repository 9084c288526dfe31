/** Random statements on a schema (schema-maker.ts): what they mean is SQLite's to say, so they need not succeed; only the order of rows and generated ids must be known. */
import type { SqlValue } from "../../src/base/values.js";
import { type Chance, type Domain, Writer } from "../sql/odd-values.js";
import type { Statement, ToldIds } from "./case.js";
import type { Column, SchemaMaker, Table } from "./schema-maker.js";

interface Named {
  readonly table: Table;
  /** Empty: the only one, columns go without a name before them. */
  readonly as: string;
}

export class StatementMaker {
  readonly #chance: Chance;
  readonly #schema: SchemaMaker;
  readonly #hasLarge: boolean;
  #writer: Writer;

  constructor(chance: Chance, schema: SchemaMaker, hasLarge: boolean) {
    this.#chance = chance;
    this.#schema = schema;
    this.#hasLarge = hasLarge;
    this.#writer = new Writer(chance, hasLarge);
  }

  plain(kind: string, sql: string): Statement {
    return { kind, sql, args: [], isOrdered: true, told: null };
  }

  select(): Statement {
    this.#writer = new Writer(this.#chance, this.#hasLarge);
    const chance = this.#chance;
    const [x, y] = [this.#table(), this.#table()];
    switch (chance.below(17)) {
      case 16:
        return this.#window(x);
      case 0:
      case 1:
      case 2:
        return this.#finish("select by key", `SELECT * FROM ${x.name} WHERE ${this.#keyCondition({ table: x, as: "" })}`, false);
      case 3:
      case 4:
        return this.#ordered(
          "select",
          `SELECT ${this.#columns({ table: x, as: "x" })} FROM ${x.name} x WHERE ${this.#where({ table: x, as: "x" })}`,
          [{ table: x, as: "x" }],
        );
      case 5:
      case 6:
        return this.#joined(x, y, chance.pick(["JOIN", "JOIN", "CROSS JOIN"]));
      case 7:
        return this.#joined(x, y, chance.pick(["LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]));
      case 8: {
        const inner = `SELECT ${this.#column({ table: y, as: "y" })} FROM ${y.name} y WHERE ${this.#where({ table: y, as: "y" })}`;
        const isNot = chance.oneIn(3) ? "NOT " : "";
        return this.#ordered("select IN", `SELECT x.a, x.c FROM ${x.name} x WHERE ${this.#column({ table: x, as: "x" })} ${isNot}IN (${inner})`, [
          { table: x, as: "x" },
        ]);
      }
      case 9: {
        const inner = `SELECT 1 FROM ${y.name} y WHERE ${this.#link(this.#outer(x), { table: y, as: "y" })} AND ${this.#where({ table: y, as: "y" })}`;
        const isNot = chance.oneIn(3) ? "NOT " : "";
        return this.#ordered("select EXISTS", `SELECT * FROM ${x.name} x WHERE ${isNot}EXISTS (${inner}) AND ${this.#where({ table: x, as: "x" })}`, [
          { table: x, as: "x" },
        ]);
      }
      case 10:
        return this.#finish(
          "aggregate",
          `SELECT count(*), count(b), max(a), min(c) FROM ${x.name} WHERE ${this.#where({ table: x, as: "" })}`,
          false,
        );
      case 11: {
        const having = chance.oneIn(2) ? ` HAVING ${chance.pick(["count(*) > 1", `x.a > ${this.#writer.any("number")}`, "max(x.a) < 9"])}` : "";
        const group = chance.pick(["x.a", "x.b", "x.a, x.b"]);
        return this.#finish(
          "group",
          `SELECT ${group}, count(*), max(x.a) FROM ${x.name} x WHERE ${this.#where({ table: x, as: "x" })} GROUP BY ${group}${having}`,
          false,
        );
      }
      case 12: {
        const joiner = chance.pick(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
        return this.#finish(
          "compound",
          `SELECT a, b FROM ${x.name} WHERE ${this.#where({ table: x, as: "" })} ${joiner} SELECT a, b FROM ${y.name} WHERE ${this.#where({ table: y, as: "" })}`,
          false,
        );
      }
      case 13: {
        const of = this.#where({ table: x, as: "" });
        return this.#finish(
          "with",
          `WITH s AS (SELECT ${x.key.join(", ")}, a, b, c FROM ${x.name} WHERE ${of}) SELECT s.a, y.b FROM s JOIN ${y.name} y ON ${this.#link({ table: x, as: "s" }, { table: y, as: "y" }, false)}`,
          false,
        );
      }
      case 14: {
        return this.#ordered("scalar", `SELECT x.a, ${this.#scalar(x, y)} FROM ${x.name} x WHERE ${this.#where({ table: x, as: "x" })}`, [
          { table: x, as: "x" },
        ]);
      }
      default: {
        const view = this.#schema.views[0];
        if (view === undefined) return this.#window(x);
        return this.#finish("view", `SELECT * FROM ${view.name} WHERE ${this.#condition(chance.pick(["k", "a", "b"]), "any")}`, false);
      }
    }
  }

  /** Over partitions; and where rows are looked for outside of it, by what it partitions by or by something else. */
  #window(table: Table): Statement {
    const chance = this.#chance;
    const key = table.key.join(", ");
    const made = chance.pick([
      `row_number() OVER (PARTITION BY a ORDER BY ${key})`,
      `sum(a) OVER (PARTITION BY b ORDER BY ${key} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)`,
      `lag(c) OVER (ORDER BY ${key})`,
      "count(*) OVER (PARTITION BY a)",
      "max(b) FILTER (WHERE a > 3) OVER (PARTITION BY b)",
      `first_value(b) OVER (PARTITION BY a, b ORDER BY ${key} DESC)`,
    ]);
    const inner = `SELECT a, b, ${made} AS w FROM ${table.name} WHERE ${chance.oneIn(2) ? "1" : this.#where({ table, as: "" })}`;
    if (chance.oneIn(2)) return this.#finish("window", inner, false);
    return this.#finish("window", `SELECT * FROM (${inner}) WHERE ${this.#condition(chance.pick(["a", "b", "w"]), "number")}`, false);
  }

  write(): Statement {
    this.#writer = new Writer(this.#chance, this.#hasLarge);
    const table = this.#table();
    switch (this.#chance.below(14)) {
      case 0:
      case 1:
      case 2:
        return this.insert(table, 1 + this.#chance.below(3));
      case 3:
        return this.#upsert(table);
      case 4:
        return this.#insertSelect(table);
      case 5:
      case 6:
        return this.#toldInsert(table);
      case 7:
      case 8:
        return this.#finish("delete", `DELETE FROM ${table.name} WHERE ${this.#where({ table, as: "" })}${this.#returning(table)}`, false);
      case 9: {
        const view = this.#schema.views[0];
        if (view === undefined) return this.#update(table);
        const where = this.#condition(this.#chance.pick(["k", "a"]), "number");
        return this.#chance.oneIn(2)
          ? this.#finish("view update", `UPDATE ${view.name} SET a = ${this.#writer.any("number")} WHERE ${where}`, false)
          : this.#finish("view delete", `DELETE FROM ${view.name} WHERE ${where}`, false);
      }
      default:
        return this.#update(table);
    }
  }

  /** With keys of its own. */
  insert(table: Table, rowCount: number): Statement {
    this.#writer = new Writer(this.#chance, this.#hasLarge);
    const names = this.#written(table);
    const rows = Array.from({ length: rowCount }, () => `(${names.map((name) => this.#new(table, name)).join(", ")})`);
    const verb = this.#chance.oneIn(9) ? "REPLACE" : `INSERT${this.#or()}`;
    const sql = `${verb} INTO ${table.name}(${names.join(", ")}) VALUES ${rows.join(", ")}${this.#returning(table)}`;
    return this.#finish(verb === "REPLACE" || verb.endsWith("REPLACE") ? "replace" : "insert", sql, true);
  }

  #upsert(table: Table): Statement {
    const names = this.#written(table);
    const values = names.map((name) => this.#new(table, name)).join(", ");
    const targets = [...(table.key[0] === "rowid" ? [] : [table.key]), ...table.uniques];
    const action = (): string => {
      const set = this.#chance.pick(["a = excluded.a", "c = excluded.b, a = coalesce(a, 0) + 1", `b = ${this.#writer.any("word")}`]);
      return this.#chance.oneIn(3) ? "NOTHING" : `UPDATE SET ${set}${this.#chance.oneIn(4) ? " WHERE excluded.a > 3" : ""}`;
    };
    // Only the last may be for whatever conflict there is.
    const named = this.#chance.some(targets, this.#chance.below(3)).map((target) => ` ON CONFLICT (${target.join(", ")}) DO ${action()}`);
    const last = named.length === 0 || this.#chance.oneIn(4) ? ` ON CONFLICT DO ${action()}` : "";
    return this.#finish(
      "upsert",
      `INSERT INTO ${table.name}(${names.join(", ")}) VALUES (${values})${named.join("")}${last}${this.#returning(table)}`,
      true,
    );
  }

  #insertSelect(table: Table): Statement {
    const source = this.#table();
    const names = this.#written(table);
    const from = { table: source, as: "x" };
    const order = source.key.map((name) => `x.${name}`).join(", ");
    const values = names.map((name) => {
      if (name === table.idColumn) return `${this.#chance.below(20)} + row_number() OVER (ORDER BY ${order})`;
      return this.#chance.oneIn(3) ? this.#writer.any(this.#domain(table, name)) : `x.${this.#chance.pick(["a", "b", "c"])}`;
    });
    const sql = `INSERT${this.#or()} INTO ${table.name}(${names.join(", ")}) SELECT ${values.join(", ")} FROM ${source.name} x WHERE ${this.#where(from)} ORDER BY ${order}${this.#chance.oneIn(2) ? " LIMIT 3" : ""}`;
    return this.#finish("insert select", sql, true);
  }

  /** Of one row, or of several where each is stored or none: so it is known which id each of them got. */
  #toldInsert(table: Table): Statement {
    const id = table.idColumn;
    if (id === null) return this.insert(table, 1);
    const chance = this.#chance;
    const isAlone = table.hasOwnConflicts || chance.oneIn(2);
    const names = this.#written(table).filter((name) => name !== id);
    const values = Array.from({ length: isAlone ? 1 : 1 + chance.below(3) }, () => names.map((name) => this.#new(table, name)).join(", "));
    const areReturned = !isAlone || chance.oneIn(3);
    const or = isAlone ? chance.pick(["", "", " OR REPLACE", " OR IGNORE", " OR ROLLBACK"]) : "";
    const isNamed = id === "id" && chance.oneIn(4);
    const end = areReturned ? ` RETURNING ${id}, a, b` : "";
    const rowsOf = (first: (place: number) => string): string => values.map((row, place) => `(${first(place)}${row})`).join(", ");
    const target = (column: string): string => `INSERT${or} INTO ${table.name}(${column}${names.join(", ")}) VALUES `;
    const sql = isNamed ? `${target(`${id}, `)}${rowsOf(() => "NULL, ")}${end}` : `${target("")}${rowsOf(() => "")}${end}`;
    const told = `${target(`${id}, `)}${rowsOf((place) => `_told(${place}), `)}${end}`;
    return this.#finish("insert generated", sql, true, { sql: told, table: table.name, idColumn: id, areReturned });
  }

  #update(table: Table): Statement {
    const chance = this.#chance;
    const names = chance.some(this.#written(table), 1 + chance.below(2));
    const sets = names.map((name) => {
      if (name === table.idColumn) return `${name} = ${chance.pick([`${name} + 1`, String(chance.below(20)), `${name} + 20`])}`;
      const of = this.#table();
      // Of its own rows it would see some as they were, and some as they are.
      if (of !== table && chance.oneIn(5)) return `${name} = ${this.#scalar(table, of)}`;
      const made = this.#writer.any(this.#domain(table, name));
      return `${name} = ${chance.pick([made, made, made, "a", `coalesce(${name}, 0) + 1`, `${name} || 'x'`])}`;
    });
    const from = chance.oneIn(8) && table.key[0] !== "rowid" ? this.#table() : null;
    const source = from === null || from === table ? "" : ` FROM (SELECT a AS ya, max(b) AS yb FROM ${from.name} GROUP BY a) y`;
    const where = `${this.#where({ table, as: "x" })}${source === "" ? "" : " AND x.a = y.ya"}`;
    return this.#finish(
      "update",
      `UPDATE${this.#or()} ${table.name} AS x SET ${sets.join(", ")}${source} WHERE ${where}${this.#returning(table)}`,
      false,
    );
  }

  #joined(left: Table, right: Table, joiner: string): Statement {
    const [x, y] = [
      { table: left, as: "x" },
      { table: right, as: "y" },
    ];
    const more = this.#chance.oneIn(3) ? ` AND ${this.#condition(this.#column(y), "any")}` : "";
    const end = this.#chance.oneIn(3) ? this.#where(y) : this.#where(x);
    const third = this.#table();
    const also = this.#chance.oneIn(5) ? ` LEFT JOIN ${third.name} z ON ${this.#link(y, { table: third, as: "z" })}` : "";
    const names = also === "" ? [x, y] : [x, y, { table: third, as: "z" }];
    return this.#ordered(
      joiner.toLowerCase(),
      `SELECT x.*, y.a, y.b FROM ${left.name} x ${joiner} ${right.name} y ON ${this.#link(x, y)}${more}${also} WHERE ${end}`,
      names,
    );
  }

  /** Behind all else a key of each table: one order only. */
  #ordered(kind: string, sql: string, of: readonly Named[]): Statement {
    const chance = this.#chance;
    if (chance.oneIn(3)) return this.#finish(kind, sql, false);
    const first = chance.oneIn(2) ? [`${this.#column(of[0] as Named)}${chance.pick(["", " DESC", " COLLATE NOCASE"])}`] : [];
    const keys = of.flatMap(({ table, as }) => table.key.map((name) => `${as}.${name}${chance.oneIn(6) ? " DESC" : ""}`));
    const limit = chance.oneIn(2) ? ` LIMIT ${chance.below(5)}${chance.oneIn(2) ? ` OFFSET ${chance.below(3)}` : ""}` : "";
    return this.#finish(kind, `${sql} ORDER BY ${[...first, ...keys].join(", ")}${limit}`, true);
  }

  #finish(kind: string, text: string, isOrdered: boolean, told: ToldIds | null = null): Statement {
    const { sql, args } = this.#writer.finish(text);
    return { kind, sql, args, isOrdered, told: told === null ? null : { ...told, sql: this.#writer.finish(told.sql).sql } };
  }

  #table(): Table {
    return this.#chance.pick(this.#schema.tables);
  }

  #columns(of: Named): string {
    return this.#chance.oneIn(2) ? "*" : of.table.columns.map(({ name }) => `${of.as}.${name}`).join(", ");
  }

  #column({ table, as }: Named): string {
    const name = this.#chance.pick([...table.key, ...table.indexed, ...table.columns.map((column) => column.name)]);
    return as === "" ? name : `${as}.${name}`;
  }

  /** Of the clause around a subquery: as a bare name it may mean the subquery's own. */
  #outer(x: Table): Named {
    return { table: x, as: this.#chance.oneIn(3) ? "" : "x" };
  }

  /** For a row of `x`. */
  #scalar(x: Table, y: Table): string {
    return `(SELECT ${this.#chance.pick(["count(*)", "max(y.a)", "min(y.b)"])} FROM ${y.name} y WHERE ${this.#link(this.#outer(x), { table: y, as: "y" })})`;
  }

  /** Most often by what is indexed on one side. */
  #link(x: Named, y: Named, hasAll = true): string {
    const left = hasAll ? this.#column(x) : `${x.as}.${this.#chance.pick(["a", "b", "c"])}`;
    return this.#chance.oneIn(5) ? `${left} > ${this.#column(y)}` : `${left} = ${this.#column(y)}`;
  }

  #domain(table: Table, name: string): Domain {
    return table.columns.find((column) => column.name === name)?.domain ?? "number";
  }

  #written(table: Table): string[] {
    const names = table.columns.filter((column: Column) => !column.isGenerated).map(({ name }) => name);
    return table.idColumn === null ? names : [table.idColumn, ...names];
  }

  #new(table: Table, name: string): string {
    if (name === table.idColumn)
      return this.#writer.write(this.#chance.oneIn(9) ? this.#chance.pick<SqlValue>(["5", 6, 2n ** 53n + 1n, -3n]) : BigInt(this.#chance.below(24)));
    return this.#writer.any(this.#domain(table, name));
  }

  #or(): string {
    return this.#chance.pick(["", "", "", "", " OR REPLACE", " OR IGNORE", " OR FAIL", " OR ROLLBACK", " OR ABORT"]);
  }

  #returning(table: Table): string {
    if (!this.#chance.oneIn(4)) return "";
    return ` RETURNING ${this.#chance.pick(["*", "a, b AS bee", table.key.join(", "), "a || 'x', c"])}`;
  }

  #keyCondition(of: Named): string {
    const prefix = of.as === "" ? "" : `${of.as}.`;
    return of.table.key.map((name) => this.#condition(`${prefix}${name}`, this.#domain(of.table, name))).join(" AND ");
  }

  #where(of: Named): string {
    const chance = this.#chance;
    if (chance.oneIn(12)) return "1";
    const column = (): string => {
      const full = this.#column(of);
      return this.#condition(full, this.#domain(of.table, full.slice(full.indexOf(".") + 1)));
    };
    const first = chance.oneIn(2) ? this.#keyCondition(of) : column();
    if (chance.oneIn(8)) return `(${first} OR ${column()})`;
    return chance.oneIn(3) ? `${first} AND ${column()}` : first;
  }

  #condition(column: string, domain: Domain): string {
    const value = (): string => this.#writer.any(this.#chance.oneIn(6) ? "any" : domain);
    switch (this.#chance.below(16)) {
      case 0:
        return `${column} IN (${Array.from({ length: this.#chance.below(4) }, value).join(", ")})`;
      case 1:
        return `${column} BETWEEN ${value()} AND ${value()}`;
      case 2:
      case 3:
        return `${column} ${this.#chance.pick([">", ">=", "<", "<="])} ${value()}`;
      case 4:
        return `(${column} < ${value()} AND ${column} >= ${value()})`;
      case 5:
        return `${column} IS ${this.#chance.pick(["NULL", "NOT NULL", value()])}`;
      case 6:
        return this.#chance.pick([
          `+${column} = ${value()}`,
          `NOT ${column} = ${value()}`,
          `${column} = ${value()} COLLATE NOCASE`,
          `coalesce(${column}, 1) <> ${value()}`,
        ]);
      case 7:
        return `(${column} = ${value()} OR ${column} = ${value()})`;
      case 8:
        return this.#chance.pick([`${column} LIKE ${this.#writer.any("word")}`, `${column} GLOB 'a*'`, `${value()} <> ${column}`]);
      default:
        return `${column} = ${value()}`;
    }
  }
}
