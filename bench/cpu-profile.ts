/** Which functions a process's time went to, from the profiles that `node --cpu-prof` leaves: one file for each thread that runs JavaScript. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  /** Microseconds since the sample before. */
  readonly timeDeltas: readonly number[];
}

export interface FunctionTime {
  readonly name: string;
  readonly micros: number;
}

export interface ThreadProfile {
  readonly pid: number;
  /** 0 is the thread of the event loop. */
  readonly thread: number;
  /** Time not idle. */
  readonly busyMicros: number;
  /** By self time, the longest first. */
  readonly functions: readonly FunctionTime[];
}

/** Not work of the thread. */
const idle = new Set(["(idle)", "(root)"]);

export function selfTimes(profile: CpuProfile): { readonly busyMicros: number; readonly functions: readonly FunctionTime[] } {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node)]));
  const micros = new Map<string, number>();
  for (const [index, sample] of profile.samples.entries()) {
    const name = names.get(sample) ?? "(unknown)";
    // A delta is the time up to its sample: what runs at a sample ran until the next one.
    micros.set(name, (micros.get(name) ?? 0) + Math.max(0, profile.timeDeltas[index + 1] ?? 0));
  }
  const functions = [...micros].filter(([name]) => !idle.has(name)).map(([name, time]) => ({ name, micros: time }));
  functions.sort((left, right) => right.micros - left.micros);
  return { busyMicros: functions.reduce((sum, one) => sum + one.micros, 0), functions };
}

function nameOf({ callFrame }: ProfileNode): string {
  const { functionName, url, lineNumber } = callFrame;
  if (url === "") return functionName === "" ? "(anonymous)" : functionName;
  const file = url.replace(/^.*\/(?:dist|node_modules)\/|^.*\/(?=(?:src|bench)\/)/, "").replace(/^file:\/\//, "");
  return `${functionName === "" ? "(anonymous)" : functionName} ${file}:${lineNumber + 1}`;
}

export function readProfiles(directory: string): ThreadProfile[] {
  const profiles: ThreadProfile[] = [];
  for (const file of readdirSync(directory).sort()) {
    const match = /^CPU\.\d+\.\d+\.(\d+)\.(\d+)\.\d+\.cpuprofile$/.exec(file);
    if (match === null) continue;
    const profile = JSON.parse(readFileSync(join(directory, file), "utf8")) as CpuProfile;
    profiles.push({ pid: Number(match[1]), thread: Number(match[2]), ...selfTimes(profile) });
  }
  return profiles;
}
