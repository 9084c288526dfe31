/** CPU time of processes, from Linux's /proc; null where there is none. */
import { readdirSync, readFileSync } from "node:fs";

export interface CpuTime {
  /** All threads. */
  readonly totalMicros: number;
  /** The thread that runs the event loop. */
  readonly mainMicros: number;
}

/** Clock ticks of /proc are 1/100 s on every Linux that Node runs on (USER_HZ). */
const microsPerTick = 10_000;

export function cpuTimeOf(pid: number): CpuTime | null {
  try {
    return { totalMicros: ticksOf(`/proc/${pid}/stat`) * microsPerTick, mainMicros: ticksOf(`/proc/${pid}/task/${pid}/stat`) * microsPerTick };
  } catch {
    return null;
  }
}

/** utime + stime. The command's name stands in parentheses and may have any character in it. */
function ticksOf(path: string): number {
  const text = readFileSync(path, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** Of several processes at once, as one sum. */
export function cpuTimeOfAll(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + (cpuTimeOf(pid)?.totalMicros ?? 0), 0);
}

/** A process and all its descendants: servers that fork for each connection. */
export function withDescendants(roots: readonly number[]): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const text = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = new Set(roots);
  for (let grew = true; grew; ) {
    grew = false;
    for (const [pid, parent] of parents) {
      if (!found.has(parent) || found.has(pid)) continue;
      found.add(pid);
      grew = true;
    }
  }
  return [...found];
}
