/** What Caches count of themselves, told to the coverage as it grows. */
import type { CacheSide } from "../../src/engines/cache-side.js";
import type { EngineCore } from "../../src/engines/engine-core.js";
import type { Coverage, CoverageRow, CoverageTable } from "./coverage.js";

interface Counter {
  tell(coverage: Coverage, times: number): void;
  read(cache: CacheSide): number;
}

function counter<T extends CoverageTable>(table: T, row: CoverageRow<T>, read: (cache: CacheSide) => number): Counter {
  return { tell: (coverage, times) => coverage.count(table, row, times), read };
}

const counters: readonly Counter[] = [
  counter("transactions", "proposed: applied", (cache) => cache.transactions.counters.commits),
  counter("transactions", "asking: changed since the snapshot", (cache) => cache.transactions.counters.conflicts),
  counter("transactions", "asking: refused for its age", (cache) => cache.transactions.counters.tooYoung),
  counter("transactions", "asking: originator moved", (cache) => cache.transactions.counters.moved),
  counter("catalogs", "catalog pulled", (cache) => cache.catalogs.counters.pulled),
  counter("catalogs", "catalog pull restarted", (cache) => cache.catalogs.counters.restarted),
  counter("catalogs", "buffer overflow", (cache) => cache.catalogs.counters.overflowed),
  counter("catalogs", "space gone during a catalog pull", (cache) => cache.catalogs.counters.gone),
  counter("catalogs", "atoms forgotten", (cache) => cache.catalogEviction.counters.forgotten),
  counter("catalogs", "nothing to forget", (cache) => cache.catalogEviction.counters.exceeded),
  counter("pulls", "chunk from an Archive", (cache) => cache.pulls.questions.counters.byArchive),
  counter("pulls", "chunk from a Cache", (cache) => cache.pulls.questions.counters.byCache),
  counter("pulls", "refused: busy", (cache) => cache.pulls.questions.counters.busy),
  counter("pulls", "refused: not held", (cache) => cache.pulls.questions.counters.notHeld),
  counter("pulls", "source silent", (cache) => cache.pulls.questions.counters.silent),
  counter("pulls", "source lost", (cache) => cache.pulls.questions.counters.lost),
  counter("pulls", "gone on with another source", (cache) => cache.pulls.questions.counters.elsewhere),
  counter("pulls", "large value", (cache) => cache.values.counters.values),
  counter("pulls", "large value gone", (cache) => cache.values.counters.gone),
  counter("eviction", "above the budget: proposed", (cache) => cache.eviction.counters.proposed),
  counter("eviction", "DROP applied: atoms given up", (cache) => cache.eviction.counters.atoms),
  counter("eviction", "DROP or HANDOFF refused", (cache) => cache.eviction.counters.refused),
  counter("eviction", "nothing may go", (cache) => cache.eviction.counters.exceeded),
  counter("eviction", "pulled again after a DROP", (cache) => cache.pulls.counters.again),
];

export class CounterWatch {
  readonly #coverage: Coverage;
  /** At the last look, in the order of `counters`. */
  readonly #seen = new WeakMap<EngineCore, number[]>();

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  look(core: EngineCore): void {
    const { cache } = core;
    if (cache === null) return;
    let seen = this.#seen.get(core);
    if (seen === undefined) {
      seen = counters.map(() => 0);
      this.#seen.set(core, seen);
    }
    for (let index = 0; index < counters.length; index++) {
      const one = counters[index] as Counter;
      const now = one.read(cache);
      const former = seen[index] as number;
      if (now === former) continue;
      seen[index] = now;
      one.tell(this.#coverage, now - former);
    }
  }
}
