/**
 * `npm run differential -- --cases N [--from SEED] [--jobs J]`: cases SEED … SEED + N − 1, each a random database on two or three local stores beside plain
 * SQLite (run-case.ts says what must be equal). On a difference it prints the seed, the fewest events that still show it and the command that replays it,
 * and exits with 1. What was pulled is told beside what would have been, were tables always pulled whole.
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeCase } from "./case-maker.js";
import { minimise, tellCase } from "./minimise.js";
import { count, emptyTally, runCase, type Tally } from "./run-case.js";

interface Settings {
  readonly cases: number;
  readonly from: number;
  readonly jobs: number;
}

/** What a worker tells: a difference at once, the rest in the end. */
interface Report {
  readonly failure: string | null;
  readonly kinds: readonly (readonly [string, number])[];
  readonly codes: readonly (readonly [string, number])[];
  readonly numbers: Omit<Tally, "kinds" | "codes">;
}

/** Differences told in full; each is minimised, which takes as long as hundreds of cases. */
const failuresToldMax = 10;

function settingsOf(args: readonly string[]): Settings {
  const { values } = parseArgs({
    args: [...args],
    options: { cases: { type: "string", default: "1000" }, from: { type: "string", default: "1" }, jobs: { type: "string", default: "2" } },
  });
  return { cases: numberOf("cases", values.cases), from: numberOf("from", values.from), jobs: Math.max(1, numberOf("jobs", values.jobs)) };
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} ${text}: not a whole number`);
  return value;
}

/** What differs, made small; null: nothing does. */
function failureOf(seed: number, tally: Tally, tellsInFull: boolean): string | null {
  const made = makeCase(seed);
  const difference = runCase(made, tally);
  if (difference === null) return null;
  const replay = `  replay: npm run differential -- --cases 1 --from ${seed}`;
  if (!tellsInFull) return `DIFFERS seed ${seed}: ${difference.label}\n${replay}`;
  const least = minimise(made, difference);
  return `DIFFERS seed ${seed}: ${least.difference.label}\n${tellCase(least.made)}\n  ${least.difference.text}\n${replay}`;
}

function runPlace({ cases, from, jobs }: Settings, place: number, onFailure: (text: string) => void): Tally {
  const tally = emptyTally();
  let failures = 0;
  for (let seed = from + place; seed < from + cases; seed += jobs) {
    const failure = failureOf(seed, tally, failures < failuresToldMax);
    if (failure === null) continue;
    failures++;
    onFailure(failure);
  }
  return tally;
}

function add(total: Tally, { kinds, codes, numbers }: Report): void {
  for (const [name, by] of kinds) count(total.kinds, name, by);
  for (const [name, by] of codes) count(total.codes, name, by);
  total.rowsPulled += numbers.rowsPulled;
  total.chunksRead += numbers.chunksRead;
  total.rowsIfWhole += numbers.rowsIfWhole;
  total.rangesPulled += numbers.rangesPulled;
  total.wholeTablesPulled += numbers.wholeTablesPulled;
}

function reportOf({ kinds, codes, ...numbers }: Tally, failure: string | null): Report {
  return { failure, kinds: [...kinds], codes: [...codes], numbers };
}

function tellTally(tally: Tally): void {
  for (const of of [tally.kinds, tally.codes])
    for (const [name, times] of [...of].sort()) process.stdout.write(`${String(times).padStart(10)}  ${name}\n`);
  const share = ((100 * tally.rowsPulled) / Math.max(1, tally.rowsIfWhole)).toFixed(0);
  process.stdout.write(`pulled ${tally.rowsPulled} rows, ${share} % of ${tally.rowsIfWhole} by whole tables; `);
  process.stdout.write(`${tally.rangesPulled} ranges and ${tally.wholeTablesPulled} whole tables asked for\n`);
}

function child(args: readonly string[], place: number, total: Tally, onFailure: (text: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const one = fork(fileURLToPath(import.meta.url), [...args], { env: { ...process.env, ATOMCAST_DIFFERENTIAL_PLACE: String(place) } });
    one.on("message", (report: Report) => {
      if (report.failure !== null) onFailure(report.failure);
      else add(total, report);
    });
    one.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`a process ended with code ${code}`))));
  });
}

async function main(args: readonly string[]): Promise<void> {
  const settings = settingsOf(args);
  const place = process.env.ATOMCAST_DIFFERENTIAL_PLACE;
  if (place !== undefined && process.send !== undefined) {
    const tell = (report: Report): void => void process.send?.(report);
    const tally = runPlace(settings, Number(place), (failure) => tell(reportOf(emptyTally(), failure)));
    tell(reportOf(tally, null));
    process.disconnect();
    return;
  }
  const beganMs = performance.now();
  const total = emptyTally();
  let failures = 0;
  const onFailure = (text: string): void => {
    failures++;
    process.stdout.write(`${text}\n`);
  };
  if (settings.jobs === 1) add(total, reportOf(runPlace(settings, 0, onFailure), null));
  else await Promise.all(Array.from({ length: settings.jobs }, (_, index) => child(args, index, total, onFailure)));
  tellTally(total);
  const seconds = (performance.now() - beganMs) / 1000;
  const statements = [...total.kinds.values()].reduce((sum, times) => sum + times, 0);
  process.stdout.write(
    `${settings.cases} cases, ${statements} statements in ${seconds.toFixed(1)} s, ${(settings.cases / seconds).toFixed(1)} cases per second, ${failures} differ\n`,
  );
  if (failures > 0) process.exitCode = 1;
}

await main(process.argv.slice(2));
