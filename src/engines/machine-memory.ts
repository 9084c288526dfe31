/** How much memory a Cache takes for rows where nobody says. */
import { totalmem } from "node:os";

/** Smaller budgets are refused: a few atoms must fit beside what is pulled. Bytes. */
export const memoryBytesMin = 1024 * 1024;

/**
 * Of the memory that this process may use (the machine's, or its control group's). Reason: other engines, the application that embeds this one, and
 * SQLite's indexes over the same rows want theirs; and what is dropped too early comes back from an Archive in a millisecond or two.
 */
const defaultShare = 1 / 4;

export function defaultMemoryBytes(): number {
  // Without a limit it tells a number beyond any memory, or nothing.
  const limit = process.constrainedMemory() ?? 0;
  const usable = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return Math.max(memoryBytesMin, Math.floor(usable * defaultShare));
}
