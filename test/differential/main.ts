/**
 * `npm run differential -- --cases N [--from SEED] [--jobs J] [--large]`: cases SEED … SEED + N − 1 (of them all, or N of those with large values from there on), each a random database on two or three local stores beside plain
 * SQLite (run-case.ts says what must be equal), by as many processes as there are cores, or J. What a case is depends on its seed alone. On a difference it prints
 * the seed, the fewest events that still show it and the command that replays it, and exits with 1; and so it does where 1,000 cases or more have not met some
 * feature (features.ts). What was pulled is told beside what would have been, were tables always pulled whole.
 */
import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Case } from "./case.js";
import { hasLargeValues, makeCase } from "./case-maker.js";
import { casesEnough, featuresOf, neverMet } from "./features.js";
import { minimise, tellCase } from "./minimise.js";
import { addTally, count, emptyTally, runCase, type Tally } from "./run-case.js";

interface Settings {
  readonly cases: number;
  readonly from: number;
  readonly jobs: number;
  /** Seeds of cases without large values are passed over. */
  readonly isLarge: boolean;
}

/** What came of some cases; all that is counted is a sum. */
interface Batch {
  readonly tally: Tally;
  /** By feature. */
  readonly casesOf: Map<string, number>;
  cases: number;
  cpuSeconds: number;
  readonly failures: string[];
}

function emptyBatch(): Batch {
  return { tally: emptyTally(), casesOf: new Map(), cases: 0, cpuSeconds: 0, failures: [] };
}

/** Cases between two reports of a process. */
const casesOfBatch = 20;

/** Between two lines of progress, in milliseconds: a minute of silence would look like a hang. */
const progressMs = 30_000;

/** A case makes many short-lived objects: with room for them, V8 spends a tenth less on a case. In MiB. */
const youngSpaceMiB = 64;

/** Differences told in full; each is minimised, which takes as long as hundreds of cases. */
const failuresToldMax = 10;

function settingsOf(args: readonly string[]): Settings {
  const { values } = parseArgs({
    args: [...args],
    options: {
      cases: { type: "string", default: "1000" },
      from: { type: "string", default: "1" },
      jobs: { type: "string", default: String(availableParallelism()) },
      large: { type: "boolean", default: false },
    },
  });
  const jobs = Math.max(1, numberOf("jobs", values.jobs));
  return { cases: numberOf("cases", values.cases), from: numberOf("from", values.from), jobs, isLarge: values.large };
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} ${text}: not a whole number`);
  return value;
}

/** What differs, made small; null: nothing does. */
function failureOf(seed: number, made: Case, tally: Tally, tellsInFull: boolean): string | null {
  const difference = runCase(made, tally);
  if (difference === null) return null;
  const replay = `  replay: npm run differential -- --cases 1 --from ${seed}`;
  if (!tellsInFull) return `DIFFERS seed ${seed}: ${difference.label}\n${replay}`;
  const least = minimise(made, difference);
  return `DIFFERS seed ${seed}: ${least.difference.label}\n${briefly(`${tellCase(least.made)}\n  ${least.difference.text}`)}\n${replay}`;
}

/** Every `jobs`th from `place` on. */
function* seedsOf({ cases, from, jobs, isLarge }: Settings, place: number): Generator<number> {
  for (let [seed, made] = [from, 0]; made < cases; seed++) {
    if (isLarge && !hasLargeValues(seed)) continue;
    if (made++ % jobs === place) yield seed;
  }
}

/** Those of a place. */
async function runPlace(settings: Settings, place: number, tell: (batch: Batch) => Promise<void>): Promise<void> {
  let failuresTold = 0;
  let batch = emptyBatch();
  let cpu = process.cpuUsage();
  const end = async (): Promise<void> => {
    const used = process.cpuUsage(cpu);
    cpu = process.cpuUsage();
    batch.cpuSeconds = (used.user + used.system) / 1e6;
    await tell(batch);
    // What SQLite gave for copies of databases is freed when the loop turns, and to tell a batch turns none.
    await setImmediate();
    batch = emptyBatch();
  };
  for (const seed of seedsOf(settings, place)) {
    const [made, tally] = [makeCase(seed), emptyTally()];
    const failure = failureOf(seed, made, tally, failuresTold < failuresToldMax);
    for (const feature of featuresOf(made, [...tally.kinds.keys(), ...tally.codes.keys()])) count(batch.casesOf, feature);
    addTally(batch.tally, tally);
    batch.cases++;
    if (failure !== null) batch.failures.push(failure);
    if (failure !== null) failuresTold++;
    if (failure !== null || batch.cases === casesOfBatch) await end();
  }
  await end();
}

/** Large values are made of few characters, again and again. */
function briefly(text: string): string {
  return text.replace(/(..?)\1{99,}/gu, (all, part: string) => `${part}…(${all.length})`);
}

function statementsOf({ kinds }: Tally): number {
  return [...kinds.values()].reduce((sum, times) => sum + times, 0);
}

/** All that has been told so far, and what is printed of it. */
class Progress {
  readonly #total = emptyBatch();
  readonly #cases: number;
  readonly #beganMs = performance.now();
  #toldMs = performance.now();

  constructor(cases: number) {
    this.#cases = cases;
  }

  add({ tally, casesOf, cases, cpuSeconds, failures }: Batch): void {
    addTally(this.#total.tally, tally);
    for (const [name, by] of casesOf) count(this.#total.casesOf, name, by);
    this.#total.cases += cases;
    this.#total.cpuSeconds += cpuSeconds;
    this.#total.failures.push(...failures);
    for (const failure of failures) process.stdout.write(`${failure}\n`);
    if (performance.now() - this.#toldMs < progressMs) return;
    this.#toldMs = performance.now();
    process.stdout.write(`${this.#summary()}\n`);
  }

  #summary(): string {
    const { tally, cases, cpuSeconds, failures } = this.#total;
    const seconds = (performance.now() - this.#beganMs) / 1000;
    const rate = `${(cases / seconds).toFixed(1)} cases per second, ${((1000 * cpuSeconds) / Math.max(1, cases)).toFixed(0)} ms of CPU each`;
    return `${cases} of ${this.#cases} cases, ${statementsOf(tally)} statements, ${tally.rowsPulled} rows pulled, in ${seconds.toFixed(0)} s; ${rate}; ${failures.length} differ`;
  }

  /** Whether all is well. */
  end(): boolean {
    const { tally, casesOf, cases, failures } = this.#total;
    for (const [name, inCases] of [...casesOf].sort()) {
      const times = tally.kinds.get(name) ?? tally.codes.get(name);
      process.stdout.write(`${String(inCases).padStart(10)} cases  ${name}${times === undefined ? "" : `, ${times} times`}\n`);
    }
    const share = ((100 * tally.rowsPulled) / Math.max(1, tally.rowsIfWhole)).toFixed(0);
    process.stdout.write(`pulled ${tally.rowsPulled} rows, ${share} % of ${tally.rowsIfWhole} by whole tables; `);
    process.stdout.write(`${tally.rangesPulled} ranges and ${tally.wholeTablesPulled} whole tables asked for\n`);
    const missed = cases >= casesEnough ? neverMet(casesOf) : [];
    if (missed.length > 0) process.stdout.write(`met by no case: ${missed.join(", ")}\n`);
    process.stdout.write(`${this.#summary()}\n`);
    return failures.length === 0 && missed.length === 0 && cases === this.#cases;
  }
}

function child(args: readonly string[], place: number, tell: (batch: Batch) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const one = fork(fileURLToPath(import.meta.url), [...args], {
      env: { ...process.env, ATOMCAST_DIFFERENTIAL_PLACE: String(place) },
      execArgv: [`--max-semi-space-size=${youngSpaceMiB}`],
      // Maps go as they are.
      serialization: "advanced",
    });
    one.on("message", (batch: Batch) => tell(batch));
    one.on("exit", (code, signal) => (code === 0 ? resolve() : reject(new Error(`a process ended with ${signal ?? `code ${code}`}`))));
  });
}

async function main(args: readonly string[]): Promise<void> {
  const settings = settingsOf(args);
  const place = process.env.ATOMCAST_DIFFERENTIAL_PLACE;
  if (place !== undefined && process.send !== undefined) {
    // Whoever asked is gone.
    process.once("disconnect", () => process.exit());
    await runPlace(
      settings,
      Number(place),
      (batch) => new Promise((resolve) => process.send?.(batch, (error: Error | null) => (error === null ? resolve() : process.exit()))),
    );
    process.disconnect();
    return;
  }
  const progress = new Progress(settings.cases);
  // Who has seen enough is told what came of it; the others notice that nobody listens any more.
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      progress.end();
      process.exit(1);
    });
  const all = Array.from({ length: settings.jobs }, (_, index) => child(args, index, (batch) => progress.add(batch)));
  for (const { status, reason } of (await Promise.allSettled(all)).map((one) => ({ reason: null, ...one })))
    if (status === "rejected") process.stdout.write(`${String(reason)}\n`);
  if (!progress.end()) process.exitCode = 1;
}

await main(process.argv.slice(2));
