/** The benchmark's command line. */
import { resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { parseMemory } from "../src/bin/options.js";
import { memoryBytesMin } from "../src/engines/machine-memory.js";

export interface BenchOptions {
  readonly seconds: number;
  /** Of each kind of work, once for each system, before anything is measured. */
  readonly warmUpSeconds: number;
  readonly quick: boolean;
  readonly peers: boolean;
  readonly profile: boolean;
  /** Where everything is written as JSON; null: nowhere. */
  readonly json: string | null;
  readonly only: readonly Section[];
  /** Of the large table of eviction and pulls, and the memory of the Cache that reads it in the former. */
  readonly rows: number;
  readonly memoryBytes: number;
  /** Of updates, in the section curve. */
  readonly minutes: number;
  /** Of rows, in the section large, and the memory of its Caches. */
  readonly gigabytes: number;
  readonly largeMemoryBytes: number;
  /** Where its database is built, or is already; null: it is built for this run alone. */
  readonly keep: string | null;
  readonly parts: readonly LargePart[];
}

export const sections = ["embedded", "hrana", "libsql", "failover", "scaling", "eviction", "pulls", "curve", "large"] as const;
export type Section = (typeof sections)[number];
/** What is done with the database of the section large, in this order. */
export const largeParts = ["random", "queries", "join", "sweep"] as const;
export type LargePart = (typeof largeParts)[number];
/** Those that take long and answer a question of their own: only where they are named. */
const named: readonly Section[] = ["curve", "large"];

interface Given {
  readonly seconds?: number;
  readonly warmUp?: number;
  readonly quick: boolean;
  readonly peers: boolean;
  readonly profile: boolean;
  readonly json?: string;
  readonly only?: Section[];
  readonly rows?: number;
  readonly memory?: number;
  readonly minutes?: number;
  readonly gigabytes?: number;
  readonly keep?: string;
  readonly parts?: LargePart[];
}

export function parseOptions(args: readonly string[]): BenchOptions {
  const command = new Command("npm run bench --")
    .description("Measures a cluster of three Archives and two Caches on loopback, with real processes.")
    .option("--seconds <n>", "of each measurement", positive)
    .option("--warm-up <n>", "seconds of each kind of work before a system is measured: V8 compiles what runs often", positive)
    .option("--quick", "one second each, fewer of them: for CI", false)
    .option("--peers", "the same work on MariaDB Galera, PostgreSQL and etcd, and ratios", false)
    .option("--profile", "CPU profiles of every process under inserts, 64 in flight; nothing else is measured", false)
    .option("--json <file>", "write everything to a file")
    .option("--only <sections>", `of ${sections.join(",")}`, (text) => listOf(text, sections))
    .option("--rows <n>", "of the table of the sections eviction, pulls and curve, 200 bytes each", rowCount)
    .option(
      "--memory <size>",
      "of the Cache that reads it in the section eviction (default: a quarter of the table), of all Caches in the section large (default: 256MB)",
      parseMemory,
    )
    .option("--minutes <n>", "of updates in the section curve, which runs only where it is named (default: 60)", minuteCount)
    .option("--gigabytes <n>", "of rows in the section large, which runs only where it is named (default: 1)", gigabyteCount)
    .option("--keep <dir>", "where the section large builds its database and leaves it; where it is there already, it is not built again")
    .option("--parts <parts>", `of the section large, of ${largeParts.join(",")} (default: all)`, (text) => listOf(text, largeParts))
    .allowExcessArguments(false)
    .parse([...args], { from: "user" });
  const given = command.opts<Given>();
  const rows = given.rows ?? (given.quick ? 20_000 : 100_000);
  return {
    rows,
    memoryBytes: given.memory ?? Math.max(memoryBytesMin, (rows * 200) / 4),
    seconds: given.seconds ?? (given.quick ? 1 : 5),
    warmUpSeconds: given.warmUp ?? (given.quick ? 1 : 15),
    quick: given.quick,
    peers: given.peers,
    profile: given.profile,
    json: given.json ?? null,
    only: given.only ?? sections.filter((one) => !named.includes(one)),
    minutes: given.minutes ?? 60,
    gigabytes: given.gigabytes ?? 1,
    largeMemoryBytes: given.memory ?? 256 * 1024 ** 2,
    keep: given.keep === undefined ? null : resolve(given.keep),
    parts: given.parts ?? largeParts,
  };
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 3600)) throw new InvalidArgumentError("a number of seconds, up to 3600");
  return value;
}

function minuteCount(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 24 * 60)) throw new InvalidArgumentError("a number of minutes, up to a day");
  return value;
}

function gigabyteCount(text: string): number {
  const value = Number(text);
  if (!(value >= 0.01 && value <= 1000)) throw new InvalidArgumentError("a number of gigabytes, from 0.01 on");
  return value;
}

function rowCount(text: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value >= 1000 && value <= 1e8)) throw new InvalidArgumentError("a number of rows, from 1000 on");
  return value;
}

function listOf<T extends string>(text: string, known: readonly T[]): T[] {
  return text.split(",").map((name) => {
    const one = known.find((other) => other === name.trim());
    if (one === undefined) throw new InvalidArgumentError(`some of ${known.join(",")}`);
    return one;
  });
}
