/**
 * The size of three Archives' folders under updates of a fixed set of rows, minute after minute: journals must go as the store is flushed, and versions as the
 * low-water mark passes them, or the curve rises for ever.
 */
import type { Status } from "../src/engines/database.js";
import { execute, integer } from "./clients/hrana-client.js";
import { openPoster } from "./clients/http-post.js";
import { type DiskUsage, diskUsageOf } from "./disk-usage.js";
import { mean } from "./statistics.js";
import { pause, urlOf, withWideTable } from "./wide-table.js";

export interface CurveOptions {
  readonly rows: number;
  readonly minutes: number;
}

export interface ArchiveSize extends DiskUsage {
  readonly versions: number;
  readonly sweptVersions: number;
}

export interface CurveSample {
  readonly second: number;
  readonly perSecond: number;
  readonly archives: readonly ArchiveSize[];
  /** Entries that are committed and that the low-water mark has not passed. */
  readonly markLag: number;
}

export interface CurveRun extends CurveOptions {
  readonly updates: number;
  /** Answered with an error, or not at all: each may be there or not. */
  readonly failed: number;
  readonly firstError: string | null;
  readonly samples: readonly CurveSample[];
}

const lanes = 32;
/** After a failure. An hour on a busy machine may see one; what was answered is counted in the end. */
const failurePauseMs = 100;
const sampleEveryMs = 10_000;
/** Of its mean in the third quarter, what the size may have grown by in the last one to be called level: a journal's segments come and go. */
const levelGrowthMax = 0.05;

export async function measureCurve(options: CurveOptions, note: (text: string) => void): Promise<CurveRun> {
  return withWideTable("curve", { rows: options.rows }, note, async ({ folders, startCache }) => {
    const url = urlOf(await startCache());
    const control = openPoster(url);
    const endMs = performance.now() + options.minutes * 60_000;
    let updates = 0;
    let failed = 0;
    let firstError: string | null = null;
    const lane = async (): Promise<void> => {
      const poster = openPoster(url);
      while (performance.now() < endMs) {
        const id = 1 + Math.floor(Math.random() * options.rows);
        try {
          const { result } = await execute(poster, "update wide set n = n + 1 where id = ?", [integer(id)]);
          if (result.affected_row_count !== 1) throw new Error(`row ${id} is not there`);
          updates++;
        } catch (error) {
          failed++;
          firstError ??= String(error);
          await pause(failurePauseMs);
        }
      }
      poster.close();
    };
    const running = Promise.all(Array.from({ length: lanes }, lane));
    const samples: CurveSample[] = [];
    const beganMs = performance.now();
    for (let [lastMs, before] = [beganMs, 0]; performance.now() < endMs; ) {
      await Promise.race([pause(Math.min(sampleEveryMs, Math.max(0, endMs - performance.now()))), running]);
      const { collector, commitSeq } = JSON.parse(await control.get("/v1/status")) as Status;
      const usages = await Promise.all(folders.map(diskUsageOf));
      const nowMs = performance.now();
      const sample: CurveSample = {
        second: (nowMs - beganMs) / 1000,
        perSecond: (updates - before) / ((nowMs - lastMs) / 1000),
        // An Archive whose figures were not heard yet is left out of status.
        archives: usages.map((usage, index) => {
          const { versions = 0, sweptVersions = 0 } = collector.archives[index] ?? {};
          return { ...usage, versions, sweptVersions };
        }),
        markLag: commitSeq - collector.mark,
      };
      samples.push(sample);
      note(sampleText(sample));
      [lastMs, before] = [nowMs, updates];
    }
    await running;
    // Every update is there: none was lost on the way.
    const { result } = await execute(control, "select sum(n) from wide");
    const counted = Number(result.rows[0]?.[0]?.value);
    if (counted < updates || counted > updates + failed)
      throw new Error(`${updates} updates were answered, ${failed} failed, and the rows count ${counted}`);
    control.close();
    return { ...options, updates, failed, firstError, samples };
  });
}

const megabytes = (bytes: number): string => (bytes / 1024 ** 2).toFixed(0);

function sampleText({ second, perSecond, archives, markLag }: CurveSample): string {
  const each = (figure: (archive: ArchiveSize) => string | number): string => archives.map(figure).join("/");
  return [
    `${second.toFixed(0)} s: ${perSecond.toFixed(0)} commits/s`,
    `journals ${each((one) => megabytes(one.journalBytes))} MB`,
    `stores ${each((one) => megabytes(one.storeBytes))} MB, used ${each((one) => megabytes(one.storeUsedBytes))}`,
    `versions ${each((one) => one.versions)}, swept ${each((one) => one.sweptVersions)}`,
    `mark ${markLag} entries behind`,
  ].join("; ");
}

/** Of all Archives together, how much the last quarter's mean is above the third quarter's. */
export function lateGrowth(samples: readonly CurveSample[], of: "storeBytes" | "journalBytes"): number {
  const sizes = samples.map(({ archives }) => archives.reduce((sum, one) => sum + one[of], 0));
  const [half, threeQuarters] = [samples.length >> 1, Math.floor((samples.length * 3) / 4)];
  const [third, last] = [mean(sizes.slice(half, threeQuarters)), mean(sizes.slice(threeQuarters))];
  return third === null || last === null ? 0 : last / third - 1;
}

export function curveText(run: CurveRun): string {
  const { rows, minutes, updates, failed, firstError, samples } = run;
  // Twenty lines tell the curve; all samples are in the JSON.
  const every = Math.max(1, Math.ceil(samples.length / 20));
  const lines = samples.filter((_, index) => (index + 1) % every === 0).map(sampleText);
  const verdict = (of: "storeBytes" | "journalBytes", bound: string): string => {
    const growth = lateGrowth(samples, of);
    const told = samples.length < 8 ? "too short to tell" : growth <= levelGrowthMax ? "level" : `growing${bound}`;
    return `${told} (the last quarter ${(100 * growth).toFixed(1)} % above the third)`;
  };
  const journals = verdict("journalBytes", ", as they may up to 200,000 entries or 1 GiB behind the store");
  const title = `${updates} updates of ${rows} rows in ${minutes} minutes, ${lanes} in flight, ${failed} failed${firstError === null ? "" : ` (${firstError})`}`;
  return `${title}:\n${lines.join("\n")}\nstores: ${verdict("storeBytes", "")}; journals: ${journals}`;
}
