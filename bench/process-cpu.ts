/** CPU time of processes, from Linux's /proc. */
import { readdirSync, readFileSync } from "node:fs";

export interface CpuTime {
  /** All threads. */
  readonly totalMicros: number;
  /** The thread that runs the event loop. */
  readonly mainMicros: number;
}

/** Clock ticks of /proc are 1/100 s on every Linux that Node runs on (USER_HZ). */
const microsPerTick = 10_000;

/** Of several processes as one; those that have ended count nothing. */
export function cpuTimeOfAll(pids: readonly number[]): CpuTime {
  let totalMicros = 0;
  let mainMicros = 0;
  for (const pid of pids) {
    try {
      const total = ticksOf(`/proc/${pid}/stat`);
      mainMicros += ticksOf(`/proc/${pid}/task/${pid}/stat`) * microsPerTick;
      totalMicros += total * microsPerTick;
    } catch {
      // It has ended, or there is no /proc here.
    }
  }
  return { totalMicros, mainMicros };
}

/** What all processes of the machine have used since it started; null where there is no /proc. */
export function machineBusyMicros(): number | null {
  try {
    // user nice system idle iowait irq softirq …: what waits is not busy, what a hypervisor took is not ours.
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "")
      .split(/\s+/)
      .slice(1)
      .map(Number);
    return (user + nice + system + irq + softirq) * microsPerTick;
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
