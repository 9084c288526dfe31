/** The shell's history: a file of lines, appended to as they are entered, so that several shells and a crash lose nothing. */
import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Lines that are remembered. The file is cut to it when it holds twice as many. */
export const historyLinesMax = 1_000;

export interface ShellHistory {
  /** Newest first, as readline wants them. */
  readonly lines: string[];
  add(line: string): void;
}

/** $XDG_STATE_HOME/atomcast/history, by default ~/.local/state/atomcast/history. */
export function historyFile(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  const state = environment.XDG_STATE_HOME;
  return join(state === undefined || state === "" ? join(homedir(), ".local", "state") : state, "atomcast", "history");
}

/** A file that cannot be read or written is no reason not to run SQL: then nothing is remembered. */
export function openHistory(file: string | null): ShellHistory {
  let lines: string[] = [];
  let isWritable = file !== null;
  if (file !== null) {
    try {
      // Statements may hold secrets: for the owner alone.
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      lines = readLines(file);
      if (lines.length > 2 * historyLinesMax) {
        lines = lines.slice(-historyLinesMax);
        const next = `${file}.${process.pid}`;
        writeFileSync(next, `${lines.join("\n")}\n`, { mode: 0o600 });
        renameSync(next, file);
      }
    } catch {
      isWritable = false;
    }
  }
  let last = lines.at(-1);
  return {
    lines: lines.slice(-historyLinesMax).reverse(),
    add(line) {
      if (!isWritable || file === null || line.trim() === "" || line === last) return;
      last = line;
      try {
        appendFileSync(file, `${line}\n`, { mode: 0o600 });
      } catch {
        isWritable = false;
      }
    },
  };
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line !== "");
  } catch {
    return [];
  }
}
