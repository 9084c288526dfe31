/** What a network tells its operator, held to a rate: whoever can reach the port can make it complain. */

export type NetworkLog = (level: "info" | "warn", message: string) => void;

/** Each topic speaks at most once in this many milliseconds; what was held back is counted in the next line. */
const quietMs = 10_000;

/** `topic` is one of a fixed set of words, so what is kept is bounded. */
export type LimitedLog = (topic: string, message: string) => void;

export function limitedLog(log: NetworkLog | undefined, nowMs: () => number): LimitedLog {
  const topics = new Map<string, { atMs: number; heldBack: number }>();
  return (topic, message) => {
    if (log === undefined) return;
    const last = topics.get(topic);
    const now = nowMs();
    if (last !== undefined && now - last.atMs < quietMs) {
      last.heldBack++;
      return;
    }
    topics.set(topic, { atMs: now, heldBack: 0 });
    log("warn", last === undefined || last.heldBack === 0 ? message : `${message} (and ${last.heldBack} more such events before)`);
  };
}
