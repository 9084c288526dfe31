/** Where a benchmark ran: a figure without it says little. */
import { spawnSync } from "node:child_process";
import { cpus, loadavg, release, totalmem } from "node:os";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly node: string;
  /** Load before the benchmark began: above about half the cores, figures are of a busy machine. */
  readonly loadBefore: number;
  readonly commit: string;
  readonly command: string;
}

export function describeMachine(args: readonly string[]): Machine {
  const list = cpus();
  return {
    cpu: list[0]?.model.trim() ?? "unknown",
    cores: list.length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    loadBefore: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    commit: commit(),
    command: `npm run bench${args.length > 0 ? ` -- ${args.join(" ")}` : ""}`,
  };
}

function commit(): string {
  const git = (...args: readonly string[]): string => (spawnSync("git", args, { encoding: "utf8" }).stdout ?? "").trim();
  const hash = git("rev-parse", "--short", "HEAD");
  if (hash === "") return "unknown";
  return git("status", "--porcelain", "--", "src", "bench") === "" ? hash : `${hash} with changes`;
}

export function machineLine(machine: Machine): string {
  const { cpu, cores, memoryGib, kernel, node, loadBefore, commit: hash, command } = machine;
  return `${cores} × ${cpu}, ${memoryGib} GiB, Linux ${kernel}, Node ${node}, load before ${loadBefore}; commit ${hash}; ${command}`;
}
