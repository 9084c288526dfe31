/** Leaves out what a difference does not need: runs of events, ever shorter, then statements within a request, as long as it stays the same kind of difference. */
import type { Case, CaseEvent } from "./case.js";
import { type Difference, runCase, show } from "./run-case.js";

export interface Minimised {
  readonly made: Case;
  readonly difference: Difference;
}

export function minimise(made: Case, difference: Difference): Minimised {
  let least: Minimised = { made, difference };
  const tries = (events: readonly CaseEvent[]): boolean => {
    const found = runCase({ ...made, events });
    if (found === null || found.label !== difference.label || found.sign !== difference.sign) return false;
    least = { made: { ...made, events }, difference: found };
    return true;
  };
  for (let before = -1; before !== size(least.made); ) {
    before = size(least.made);
    for (let length = Math.ceil(least.made.events.length / 2); length >= 1; length = length === 1 ? 0 : Math.ceil(length / 2)) {
      for (let first = least.made.events.length - length; first >= 0; first -= length) tries(least.made.events.toSpliced(first, length));
    }
    for (let place = 0; place < least.made.events.length; place++) {
      const event = least.made.events[place];
      if (event?.kind !== "run" && event?.kind !== "request") continue;
      let { statements } = event;
      for (let at = statements.length - 1; at >= 0; at--) {
        // A request's transaction must end, and one that stays open must begin by a read, which is when its snapshot is taken.
        if (statements[at]?.kind === "transaction" || statements[at]?.sql === "SELECT count(*) FROM sqlite_schema") continue;
        const fewer = statements.toSpliced(at, 1);
        if (fewer.length > 0 && tries(least.made.events.with(place, { ...event, statements: fewer }))) statements = fewer;
      }
    }
  }
  return least;
}

function size({ events }: Case): number {
  return events.reduce((sum, event) => sum + ("statements" in event ? event.statements.length : 1), 0);
}

export function tellCase({ events }: Case): string {
  return events.map((event) => `  ${tellEvent(event)}`).join("\n");
}

function tellEvent(event: CaseEvent): string {
  if (event.kind === "cut") return `cut (${event.seed})`;
  if (event.kind === "restart") return `store ${event.store} starts over`;
  if (event.kind === "drop") return `store ${event.store} drops (${event.seed})`;
  return `${event.kind === "request" ? "open, " : ""}store ${event.store}: ${event.statements.map(show).join("; ")}`;
}
