/** Values as columns of any type meet them: mostly few and small, so that they collide; some odd. And how they are written, as literals or as parameters. */
import { largeValueBytes } from "../../src/base/large-values.js";
import type { Random } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";

export const oddities: readonly SqlValue[] = [
  5,
  5.5,
  -0.0,
  2 ** 53,
  2n ** 53n + 1n,
  9.3e18,
  2n ** 63n - 1n,
  -(2n ** 63n),
  Number.POSITIVE_INFINITY,
  "5",
  " 5",
  "5.0",
  "5x",
  "9007199254740993",
  "",
  "a ",
  "A",
  "B ",
  "b\0c",
  "B\0C",
  "é",
  "É",
  "\u{10000}",
  "\ufffe",
  Buffer.from("5"),
  Buffer.from("a"),
  // Each well-formed as text: what is not is refused where it becomes one, and SQLite would store it.
  Buffer.from([0, 127]),
  null,
];
const words: readonly string[] = ["a", "A", "b", "B", "c", "d", "e", "f"];

/** Texts of SQL for values about as long as those that leave their rows, few, so that they collide; alike beyond what keys keep of them, or not. */
const half = largeValueBytes / 2;
const zeros = `hex(zeroblob(${half}))`;
const largeTexts: readonly string[] = [
  zeros,
  `${zeros} || 'a'`,
  `${zeros} || 'A'`,
  `'a' || ${zeros}`,
  `'b' || ${zeros} || ${zeros}`,
  `zeroblob(${largeValueBytes})`,
  `zeroblob(${largeValueBytes + 1})`,
  `CAST('a' || ${zeros} AS BLOB)`,
];
/** As they are bound. */
const largeValues: readonly SqlValue[] = [
  ...["0", "a"].flatMap((letter) => [letter.repeat(largeValueBytes), letter.repeat(largeValueBytes + 1)]),
  `a${"0".repeat(largeValueBytes)}`,
  "\u{10000}".repeat(largeValueBytes / 4 + 1),
  Buffer.alloc(largeValueBytes + 1),
];

export type Domain = "number" | "word" | "any";

/** Chance, with what generators ask of it all the time. */
export class Chance {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  below(limit: number): number {
    return this.#random.integer(limit);
  }

  /** Once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  some<T>(list: readonly T[], count: number): T[] {
    const rest = [...list];
    return Array.from({ length: Math.min(count, rest.length) }, () => rest.splice(this.below(rest.length), 1)[0] as T);
  }

  value(domain: Domain): SqlValue {
    if (this.oneIn(domain === "any" ? 3 : 9)) return this.pick(oddities);
    if (this.oneIn(14)) return null;
    return domain === "word" || (domain === "any" && this.oneIn(3)) ? this.pick(words) : BigInt(this.below(12));
  }
}

/** A text that SQLite reads as exactly this value; null: there is none. */
export function literal(value: SqlValue): string | null {
  if (value === null) return "NULL";
  if (typeof value === "bigint") return value === -(2n ** 63n) ? null : String(value);
  if (typeof value === "string") return value.includes("\0") ? null : `'${value.replaceAll("'", "''")}'`;
  if (typeof value !== "number") return `x'${Buffer.from(value).toString("hex")}'`;
  if (!Number.isFinite(value)) return "9e999";
  return Object.is(value, -0) ? "-0.0" : Number.isInteger(value) ? value.toFixed(1) : String(value);
}

/** Collects the parameters of one statement while its text is put together from left to right. */
export class Writer {
  readonly #chance: Chance;
  readonly #hasLarge: boolean;
  readonly #values: SqlValue[] = [];

  /** `hasLarge`: some values are large. */
  constructor(chance: Chance, hasLarge = false) {
    this.#chance = chance;
    this.#hasLarge = hasLarge;
  }

  /** `?7` stands for the seventh value that was written, wherever it ends up in the text. */
  write(value: SqlValue): string {
    const text = this.#chance.oneIn(2) ? literal(value) : null;
    return text ?? this.#bind(value);
  }

  #bind(value: SqlValue): string {
    return `?${this.#values.push(value)}`;
  }

  any(domain: Domain): string {
    if (this.#hasLarge && this.#chance.oneIn(domain === "number" ? 20 : 4)) return this.#large();
    return this.write(this.#chance.value(domain));
  }

  /** Made by SQL, bound, or of both. */
  #large(): string {
    const chance = this.#chance;
    switch (chance.below(4)) {
      case 0:
        return this.#bind(chance.pick(largeValues));
      case 1:
        return `(${this.write(chance.value("word"))} || ${zeros})`;
      default:
        return `(${chance.pick(largeTexts)})`;
    }
  }

  /** Alternatives that were made and not taken leave no parameter behind: SQLite would count those too. */
  finish(text: string): { readonly sql: string; readonly args: readonly SqlValue[] } {
    const used: SqlValue[] = [];
    const sql = text.replace(/\?(\d+)/g, (_, number: string) => `?${used.push(this.#values[Number(number) - 1] ?? null)}`);
    return { sql, args: used };
  }
}

/** As a text that tells apart whatever SQLite does: 5 from 5.0, −0.0 from 0.0, text from blob. */
export function tell(value: SqlValue): string {
  if (value === null) return "NULL";
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return Object.is(value, -0) ? "-0.0" : Number.isInteger(value) ? value.toFixed(1) : String(value);
  return typeof value === "string" ? JSON.stringify(value) : `x'${Buffer.from(value).toString("hex")}'`;
}
