/**
 * `npm run sim -- --seeds N [--from S] [--profile P] [--mutant M] [--jobs J] [--trace]`: seeds S … S + N − 1, each a whole database under
 * faults. On a failure it prints the broken invariant, the seed and the command that replays it, and exits with 1. It also fails where a row
 * of a decision table was never met in a run long enough to meet each (expected-coverage.ts); a shorter one lists what it has not met.
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvariantError } from "./committed-stream.js";
import { Coverage, type CoverageCounts } from "./coverage.js";
import { coverageDemandedFrom, missingRows } from "./expected-coverage.js";
import { isMutant, type Mutant, profileOfMutant } from "./mutants.js";
import { isProfileName, type ProfileName, profileOfSeed } from "./profiles.js";
import { simulate } from "./simulation.js";

interface Settings {
  readonly seeds: number;
  readonly from: number;
  /** null: each seed its own. */
  readonly profile: ProfileName | null;
  readonly mutant: Mutant | null;
  readonly jobs: number;
  readonly trace: boolean;
}

interface Failure {
  readonly seed: number;
  readonly profile: ProfileName;
  readonly invariant: string;
  readonly message: string;
}

/** What a worker tells after each seed. */
interface Report {
  readonly seed: number;
  readonly failure: Failure | null;
  /** After its last seed. */
  readonly counts: CoverageCounts | null;
  readonly cpuSeconds: number;
}

/** Failures told in full; a broken build has thousands. */
const failuresToldMax = 10;
const progressEveryMs = 10_000;
/**
 * Each worker has a core to itself: helper threads would only take it from another, and what is short-lived may pile up between collections (in MiB). A seed
 * runs through much code once, so it is compiled simply at once, and kept: 2 to 8 % less CPU over 40 seeds.
 */
const workerFlags = ["--single-threaded", "--min-semi-space-size=32", "--max-semi-space-size=64", "--always-sparkplug", "--no-flush-bytecode"];

function settingsOf(args: readonly string[]): Settings {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seeds: { type: "string", default: "100" },
      from: { type: "string", default: "1" },
      profile: { type: "string" },
      mutant: { type: "string" },
      jobs: { type: "string", default: "2" },
      trace: { type: "boolean", default: false },
    },
  });
  const { profile, mutant } = values;
  if (profile !== undefined && !isProfileName(profile)) throw new Error(`no profile ${profile}`);
  if (mutant !== undefined && !isMutant(mutant)) throw new Error(`no mutant ${mutant}`);
  return {
    seeds: numberOf("seeds", values.seeds),
    from: numberOf("from", values.from),
    profile: profile ?? (mutant === undefined ? null : profileOfMutant[mutant]),
    mutant: mutant ?? null,
    jobs: numberOf("jobs", values.jobs),
    trace: values.trace,
  };
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} ${text}: not a whole number`);
  return value;
}

async function runSeed(seed: number, settings: Settings, coverage: Coverage): Promise<Failure | null> {
  const profile = settings.profile ?? profileOfSeed(seed);
  const trace = settings.trace ? (line: string): void => void process.stdout.write(`${line}\n`) : undefined;
  try {
    await simulate({ seed, profile, mutant: settings.mutant, coverage, ...(trace === undefined ? {} : { trace }) });
    return null;
  } catch (error) {
    const invariant = error instanceof InvariantError ? error.invariant : "the simulator itself";
    return { seed, profile, invariant, message: error instanceof InvariantError ? error.message : String((error as Error).stack) };
  }
}

function tell(failure: Failure, settings: Settings): void {
  const mutant = settings.mutant === null ? "" : ` --mutant ${settings.mutant}`;
  process.stdout.write(`FAILED seed ${failure.seed}, profile ${failure.profile}\n  ${failure.message}\n`);
  process.stdout.write(`  replay: npm run sim -- --seeds 1 --from ${failure.seed} --profile ${failure.profile}${mutant} --trace\n`);
}

/** Takes every jobs-th seed, and reports each to the parent. */
async function work(settings: Settings, place: number): Promise<void> {
  const coverage = new Coverage();
  const send = (report: Report): Promise<void> => new Promise((resolve) => process.send?.(report, () => resolve()));
  for (let seed = settings.from + place; seed < settings.from + settings.seeds; seed += settings.jobs) {
    const failure = await runSeed(seed, settings, coverage);
    await send({ seed, failure, counts: null, cpuSeconds: 0 });
  }
  await send({ seed: -1, failure: null, counts: coverage.counts(), cpuSeconds: cpuSeconds() });
  process.disconnect();
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

interface Run {
  readonly failures: readonly Failure[];
  readonly coverage: Coverage;
  readonly seconds: number;
  readonly cpuSeconds: number;
}

async function runAll(args: readonly string[], settings: Settings): Promise<Run> {
  const beganMs = performance.now();
  const coverage = new Coverage();
  const failures: Failure[] = [];
  let done = 0;
  let childrenCpuSeconds = 0;
  const note = (failure: Failure | null): void => {
    done++;
    if (failure === null) return;
    failures.push(failure);
    if (failures.length <= failuresToldMax) tell(failure, settings);
  };
  const progress = setInterval(() => {
    const seconds = (performance.now() - beganMs) / 1000;
    process.stdout.write(`${done} of ${settings.seeds} seeds, ${(done / seconds).toFixed(1)} per second, ${failures.length} failed\n`);
  }, progressEveryMs);
  if (settings.jobs <= 1 || settings.seeds === 1 || settings.trace) {
    for (let seed = settings.from; seed < settings.from + settings.seeds; seed++) note(await runSeed(seed, settings, coverage));
  } else {
    const places = Array.from({ length: settings.jobs }, (_, place) => place);
    await Promise.all(
      places.map(
        (place) =>
          new Promise<void>((resolve, reject) => {
            const options = { execArgv: [...process.execArgv, ...workerFlags], env: { ...process.env, ATOMCAST_SIM_PLACE: String(place) } };
            const child = fork(fileURLToPath(import.meta.url), [...args], options);
            let ended = false;
            child.on("message", (report: Report) => {
              if (report.counts === null) note(report.failure);
              else {
                coverage.add(report.counts);
                childrenCpuSeconds += report.cpuSeconds;
                ended = true;
              }
            });
            child.on("exit", (code) => (ended ? resolve() : reject(new Error(`a simulator process ended with code ${code}`))));
          }),
      ),
    );
  }
  clearInterval(progress);
  const seconds = (performance.now() - beganMs) / 1000;
  return { failures, coverage, seconds, cpuSeconds: childrenCpuSeconds + cpuSeconds() };
}

async function main(args: readonly string[]): Promise<void> {
  const settings = settingsOf(args);
  const place = process.env.ATOMCAST_SIM_PLACE;
  if (place !== undefined && process.send !== undefined) {
    await work(settings, Number(place));
    return;
  }
  const { failures, coverage, seconds, cpuSeconds: cpu } = await runAll(args, settings);
  for (const { name, count } of coverage.all()) process.stdout.write(`${String(count).padStart(10)}  ${name}\n`);
  const speed = `${(settings.seeds / seconds).toFixed(2)} per second, ${(cpu / settings.seeds).toFixed(2)} s of CPU each`;
  process.stdout.write(`${settings.seeds} seeds in ${seconds.toFixed(1)} s, ${speed}, ${failures.length} failed\n`);
  if (failures.length > 0) process.exitCode = 1;
  if (settings.mutant === null) judgeCoverage(coverage, settings);
}

function judgeCoverage(coverage: Coverage, { seeds, profile }: Settings): void {
  const missing = missingRows(coverage, profile);
  if (missing.length === 0) return;
  const demandedFrom = coverageDemandedFrom(profile);
  if (seeds < demandedFrom) {
    process.stdout.write(`not met in so few seeds (to be met from ${demandedFrom} on): ${missing.join("; ")}\n`);
    return;
  }
  for (const name of missing) process.stdout.write(`NEVER MET: ${name}\n`);
  process.exitCode = 1;
}

await main(process.argv.slice(2));
