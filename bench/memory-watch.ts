/** The largest resident memory of processes, looked at twice a second from outside. From Linux's /proc. */
import { readFileSync } from "node:fs";

export interface PeakMemory {
  readonly name: string;
  /** Its own: heaps, stacks, buffers. */
  readonly anonBytes: number;
  /** With files that it has mapped: an Archive's store, of which the system keeps in memory what it likes. */
  readonly residentBytes: number;
}

const lookEveryMs = 500;

export interface MemoryWatch {
  add(child: { readonly name: string; readonly pid: number }): void;
  /** Since the last call, of those that were there. */
  take(): readonly PeakMemory[];
  stop(): void;
}

export function watchMemory(): MemoryWatch {
  const children: { readonly name: string; readonly pid: number }[] = [];
  const peaks = new Map<number, PeakMemory>();
  const look = (): void => {
    for (const { name, pid } of children) {
      const now = memoryOf(pid);
      if (now === null) continue;
      const { anonBytes = 0, residentBytes = 0 } = peaks.get(pid) ?? {};
      peaks.set(pid, { name, anonBytes: Math.max(anonBytes, now.anonBytes), residentBytes: Math.max(residentBytes, now.residentBytes) });
    }
  };
  const timer = setInterval(look, lookEveryMs);
  return {
    add: (child) => children.push(child),
    take() {
      look();
      const taken = [...peaks.values()];
      peaks.clear();
      return taken;
    },
    stop: () => clearInterval(timer),
  };
}

function memoryOf(pid: number): Omit<PeakMemory, "name"> | null {
  try {
    const text = readFileSync(`/proc/${pid}/status`, "utf8");
    const bytesOf = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) * 1024;
    return { anonBytes: bytesOf("RssAnon"), residentBytes: bytesOf("VmRSS") };
  } catch {
    return null;
  }
}
