import { type Logger, pino } from "pino";
import { PinoPretty } from "pino-pretty";

/** Logs go to stderr: lines of JSON for machines, readable on a terminal. Synchronous, so that the last line before an exit is there. */
export function openLogger(level: string, name: string): Logger {
  const options = { level, name, base: { pid: process.pid, name } };
  if (process.stderr.isTTY) return pino(options, PinoPretty({ colorize: true, destination: 2, sync: true, ignore: "pid,hostname" }));
  const destination = pino.destination({ dest: 2, sync: true });
  // Nobody reads the log any more: the engine's work goes on.
  destination.on("error", () => {});
  return pino(options, destination);
}
