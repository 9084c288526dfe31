/**
 * What a run has really met: each invariant's checks, and the rows of the decision tables that head the engines' files. A simulation that
 * passes because nothing happened in it is no proof: `npm run sim` prints these counts, and fails where one is zero that should not be.
 */

/** Table → its rows, in the order of the table. The comments say what in a simulated run shows that a row was met. */
export const coverageRows = {
  /** How often each was checked with something to check. */
  invariants: [
    "one leader per term",
    "one hash per committed seq",
    "a commit is durable on a majority",
    "applied is at most committed",
    "equal catalogs at equal seq",
    "an engine knows what it holds",
    "equal rows at equal seq: Caches",
    "equal rows at equal seq: parts",
    "index entries are those of the rows",
    "equal rows at equal seq: Archives",
    "Caches hold what the catalog says",
    "a proposal has one outcome",
    "proposals are in order",
    "fences and versions hold when ordered",
    "no conflict between snapshot and commit",
    "transactions of a group touch different keys",
    "ranges without overlap or gap",
    "ids that are handed out are no row's",
    "originators are live",
    "acknowledged effects are there",
    "failed effects are not there",
    "unknown effects at most once",
    "totals are right",
    "what is acknowledged comes before what begins then",
    "no orphans",
    "no snapshot below the low-water mark",
    "history is kept",
    "the past is as it was",
    "open transactions read one snapshot",
    "open transactions see their own schema",
    "serializable",
    "unique names",
    "everything finishes",
  ],
  /** sequencer.ts: entries in the stream, messages on the wire, lines in the log. */
  sequencer: [
    "proposal ordered",
    "REFUSED ordered",
    "beyond the next: asks for the hole",
    "no member: told",
    "BOOT ordered",
    "BOOT asked twice, ordered once",
    "LEAVE: port refuses",
    "LEAVE: silent",
    "LEAVE: farewell",
    "LEAVE: ids given back",
    "DEMOTE: to the asker",
    "DEMOTE: to the sequencer",
    "VOTERS: Archive added",
    "VOTERS: Archive removed",
    "MARK ordered",
    "MARK held back by an open transaction",
  ],
  /** past-reads.ts, past-pulls.ts. */
  past: ["read by seq", "read by time", "gone by the mark", "no Archive knows it", "a table altered since", "a table dropped since"],
  /** transactions.ts: results of runs, counters, entries, answers. */
  transactions: [
    "running: done",
    "running: needs tables",
    "running: needs ranges",
    "running: needs ids",
    "running: something to commit",
    "asking: granted, proposed",
    "asking: changed since the snapshot",
    "asking: refused for its age",
    "asking: originator moved",
    "asking: originator silent, sequencer told",
    "proposed: applied",
    "proposed: REFUSED for a fence",
    "proposed: REFUSED for a schema version",
    "starts over: outcome unknown",
    "starts over: nothing changed",
    "running: kept open",
    "kept open: committed",
    "given up by its client",
    "kept open: conflict",
    "kept open: read committed",
    "kept open: lost",
    "kept open: pulled, with what rows were",
    "kept open: snapshot too old",
    "kept open: schema changed",
    "kept open: schema in conflict",
  ],
  /** catalog-pulls.ts, catalog-eviction.ts: their counters. */
  catalogs: [
    "catalog pulled",
    "catalog pull restarted",
    "buffer overflow",
    "space gone during a catalog pull",
    "a part is known",
    "atoms forgotten",
    "nothing to forget",
  ],
  /** pull-questions.ts: its counters. */
  pulls: [
    "chunk from an Archive",
    "chunk from a Cache",
    "refused: busy",
    "refused: not held",
    "source silent",
    "source lost",
    "gone on with another source",
    "large value",
    "large value gone",
  ],
  /** eviction.ts: its counters, and entries. */
  eviction: [
    "above the budget: proposed",
    "DROP ordered",
    "HANDOFF to an Archive",
    "DROP applied: atoms given up",
    "DROP or HANDOFF refused",
    "nothing may go",
    "pulled again after a DROP",
  ],
  /** archive-engine.ts */
  archive: [
    "nothing, founder",
    "nothing: transfer",
    "store and sound journal",
    "journal ends below the store",
    "damaged journal",
    "store behind every journal: transfer",
    "starts over",
  ],
  /** permission-table.ts: the outcome of each request. */
  permissions: [
    "changed since its snapshot",
    "granted",
    "waits: oldest",
    "waits: holds nothing",
    "refused for its age",
    "closed attempt",
    "grant ends with its engine",
  ],
  /** journal-recovery.ts, as far as the memory twin has it: bytes and segments are the storage tests'. */
  recovery: ["empty", "sound", "torn", "below commit", "below store"],
  /** The other kinds of entries, and what else a workload should reach. */
  stream: [
    "HOLD",
    "READY",
    "SPLIT by size",
    "SPLIT for ids",
    "SPLIT for ids given back",
    "HANDOFF",
    "MERGE",
    "DDL",
    "catch-up over TCP",
    "sequencer changed",
    "pull chunk",
    "group of transactions",
  ],
} as const;

export type CoverageTable = keyof typeof coverageRows;
export type CoverageRow<T extends CoverageTable> = (typeof coverageRows)[T][number];

export type CoverageCounts = Readonly<Record<string, number>>;

export class Coverage {
  /** Table → row → times: counted with nearly every event. */
  readonly #counts = new Map<string, Map<string, number>>();

  count<T extends CoverageTable>(table: T, row: CoverageRow<T>, times = 1): void {
    this.#count(table, row, times);
  }

  #count(table: string, row: string, times: number): void {
    let rows = this.#counts.get(table);
    if (rows === undefined) {
      rows = new Map();
      this.#counts.set(table, rows);
    }
    rows.set(row, (rows.get(row) ?? 0) + times);
  }

  add(counts: CoverageCounts): void {
    for (const [name, times] of Object.entries(counts)) {
      const end = name.indexOf(": ");
      this.#count(name.slice(0, end), name.slice(end + 2), times);
    }
  }

  counts(): CoverageCounts {
    return Object.fromEntries([...this.#counts].flatMap(([table, rows]) => [...rows].map(([row, times]) => [`${table}: ${row}`, times])));
  }

  /** Every row with its count, in the tables' order. */
  all(): { readonly name: string; readonly count: number }[] {
    return Object.entries(coverageRows).flatMap(([table, rows]) =>
      rows.map((row) => ({ name: `${table}: ${row}`, count: this.#counts.get(table)?.get(row) ?? 0 })),
    );
  }
}
