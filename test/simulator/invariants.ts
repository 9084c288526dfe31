/**
 * What must hold of the running engines, looked at after every event of theirs. Cheap things each time; hashes of whole states now and then,
 * and once more of everything when a run has ended.
 */
import type { Endpoint, NodeId, SpaceId } from "../../src/base/ids.js";
import type { Random } from "../../src/base/random.js";
import { indexEntryKey } from "../../src/base/row-index.js";
import { encodeCount } from "../../src/catalog/atom-map.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { indexesOf } from "../../src/catalog/schema-catalog.js";
import type { EngineCore } from "../../src/engines/engine-core.js";
import type { AtomStore } from "../../src/storage/atom-store.js";
import { CommittedStream, catalogHash, check, rowHash, sumHashes } from "./committed-stream.js";
import type { Coverage, CoverageRow, CoverageTable } from "./coverage.js";
import { HoldingWatch } from "./holding-watch.js";
import type { SimulatedDisk } from "./simulated-disk.js";
import type { SimulatedProcess } from "./simulated-process.js";

/** One look in so many compares hashes of catalogs, or of rows. */
const catalogEvery = 150;
const rowsEvery = 2500;

/** Counters of catalog-pulls.ts, and the rows that they count. */
const catalogRows = {
  pulled: "catalog pulled",
  restarted: "catalog pull restarted",
  overflowed: "buffer overflow",
  gone: "space gone during a catalog pull",
} as const;

/** Likewise of pull-questions.ts. */
const pullRows = {
  byArchive: "chunk from an Archive",
  byCache: "chunk from a Cache",
  busy: "refused: busy",
  notHeld: "refused: not held",
  silent: "source silent",
  lost: "source lost",
  elsewhere: "gone on with another source",
} as const;

interface TransactionCounters {
  commits: number;
  conflicts: number;
  tooYoung: number;
  refused: number;
  moved: number;
}

export class Invariants {
  readonly committed: CommittedStream;
  readonly #holding: HoldingWatch;
  readonly #coverage: Coverage;
  readonly #random: Random;
  readonly #disks: ReadonlyMap<NodeId, SimulatedDisk>;
  readonly #leaders = new Map<number, Endpoint>();
  readonly #counted = new WeakMap<EngineCore, Map<string, number>>();
  readonly #seen = new WeakMap<EngineCore, { hash: string; counters: TransactionCounters }>();
  /** (space, seq) → hash of a table's rows, where the first Cache that was looked at had it. */
  readonly #tables = new Map<string, string>();

  constructor(coverage: Coverage, random: Random, disks: ReadonlyMap<NodeId, SimulatedDisk>) {
    this.committed = new CommittedStream(coverage);
    this.#holding = new HoldingWatch(coverage);
    this.#coverage = coverage;
    this.#random = random;
    this.#disks = disks;
  }

  /** After an event of the process. */
  look(process: SimulatedProcess): void {
    const { core } = process;
    if (core === null) return;
    this.#lookAtLeader(process, core);
    this.#lookAtPosition(process, core);
    this.#lookAtSnapshots(process, core);
    this.#countTransactions(core);
    this.#countNew(core, "catalogs", core.cache?.catalogs.counters, catalogRows);
    this.#countNew(core, "pulls", core.cache?.pulls.questions.counters, pullRows);
    this.#holding.count(core);
    if (this.#random.integer(catalogEvery) === 0) this.compareCatalog(process, core);
    if (this.#random.integer(rowsEvery) === 0) this.compareRows(process);
  }

  #lookAtLeader(process: SimulatedProcess, core: EngineCore): void {
    const { role, term } = core.stream;
    if (role !== "sequencer") return;
    const leader = this.#leaders.get(term);
    if (leader === undefined) this.#leaders.set(term, process.endpoint);
    else check(leader === process.endpoint, "one leader per term", () => `${leader} and ${process.endpoint} lead term ${term}`);
    this.#coverage.count("invariants", "one leader per term");
  }

  #lookAtPosition(process: SimulatedProcess, core: EngineCore): void {
    const { position } = core.context;
    const stored = core.archive?.stored ?? core.cache?.local.applied ?? position.seq;
    const isInOrder = position.seq <= core.stream.commitSeq && stored <= position.seq;
    check(
      isInOrder,
      "applied is at most committed",
      () => `${process.name}: stored ${stored}, applied ${position.seq}, committed ${core.stream.commitSeq}`,
    );
    this.#coverage.count("invariants", "applied is at most committed");
    const seen = this.#seen.get(core);
    if (seen?.hash === position.hash) return;
    if (seen === undefined) this.#seen.set(core, { hash: position.hash, counters: { commits: 0, conflicts: 0, tooYoung: 0, refused: 0, moved: 0 } });
    else seen.hash = position.hash;
    const isNew = position.seq > this.committed.lastSeq;
    const before = this.committed.voters();
    this.committed.reach(position);
    if (isNew) this.#judgeDurability(process, core, before);
  }

  /** A member reads nothing below the newest MARK, whether or not it has it yet; one that has departed and does not know it, nothing below what it has. */
  #lookAtSnapshots({ name, local }: SimulatedProcess, core: EngineCore): void {
    const { cache, engine } = core;
    // Before its store has begun anew, what is open there is of a former life, and lost.
    if (local === null || cache === null || engine === 0 || local.store.appliedSeq < cache.local.applied) return;
    const { catalog } = this.committed;
    const mark = catalog.members.has(engine) ? catalog.mark : core.catalog.mark;
    const { oldestSnapshot } = local.store;
    if (oldestSnapshot === null) return;
    check(
      oldestSnapshot >= mark,
      "no snapshot below the low-water mark",
      () => `${name} reads a snapshot of ${oldestSnapshot}, and the mark is ${mark}`,
    );
    if (mark === 0) return;
    this.#coverage.count("invariants", "no snapshot below the low-water mark");
    if (oldestSnapshot === mark) this.#coverage.count("sequencer", "MARK held back by an open transaction");
  }

  /** Everything that is committed for the first time is on the disks of a majority, whoever of the last voters is counted. */
  #judgeDurability(process: SimulatedProcess, core: EngineCore, before: readonly NodeId[]): void {
    const { lastSeq, lastHash } = this.committed;
    const durable = [...this.#disks.values()].filter((disk) => disk.hasDurably(lastSeq, lastHash)).map((disk) => disk.nodeId);
    const isMajority = (voters: readonly NodeId[]): boolean => durable.filter((node) => voters.includes(node)).length * 2 > voters.length;
    const sets = [core.stream.voters, this.committed.voters(), before];
    check(
      sets.some((voters) => voters.length > 0 && isMajority(voters)),
      "a commit is durable on a majority",
      () => `${process.name} took ${lastSeq} for committed, and it is durable on [${durable}] of voters [${core.stream.voters}]`,
    );
    this.#coverage.count("invariants", "a commit is durable on a majority");
  }

  #countTransactions(core: EngineCore): void {
    const now = core.cache?.transactions.counters;
    const seen = this.#seen.get(core);
    if (now === undefined || seen === undefined) return;
    const { counters } = seen;
    const more = (name: keyof TransactionCounters): number => {
      const count = now[name] - counters[name];
      counters[name] = now[name];
      return count;
    };
    const tell = (row: Parameters<typeof this.countRow>[0], count: number): void => {
      if (count > 0) this.countRow(row, count);
    };
    tell("proposed: applied", more("commits"));
    tell("asking: changed since the snapshot", more("conflicts"));
    tell("asking: refused for its age", more("tooYoung"));
    tell("asking: originator moved", more("moved"));
  }

  /** What has come since the last look. */
  #countNew<T extends CoverageTable>(
    core: EngineCore,
    table: T,
    now: Readonly<Record<string, number>> | undefined,
    rows: Readonly<Record<string, CoverageRow<T>>>,
  ): void {
    if (now === undefined) return;
    const seen = this.#counted.get(core) ?? new Map<string, number>();
    this.#counted.set(core, seen);
    for (const [name, row] of Object.entries(rows)) {
      const count = now[name] ?? 0;
      const more = count - (seen.get(row) ?? 0);
      if (more > 0) this.#coverage.count(table, row, more);
      seen.set(row, count);
    }
  }

  countRow(
    row: "proposed: applied" | "asking: changed since the snapshot" | "asking: refused for its age" | "asking: originator moved",
    count: number,
  ): void {
    this.#coverage.count("transactions", row, count);
  }

  compareCatalog(process: SimulatedProcess, core: EngineCore): void {
    const { seq } = core.context.position;
    const lacking = core.catalog.atoms.lacking();
    check(process.kind === "cache" || lacking.size === 0, "equal catalogs at equal seq", () => `${process.name} lacks catalogs`);
    const expected = this.committed.catalogHashAt(seq, lacking.keys());
    const actual = catalogHash(core.catalog.dump());
    check(actual === expected, "equal catalogs at equal seq", () => `${process.name} at ${seq} ${this.#catalogDifference(core)}`);
    this.#coverage.count("invariants", "equal catalogs at equal seq");
  }

  #catalogDifference(core: EngineCore): string {
    if (core.context.position.seq !== this.committed.lastSeq) return "";
    const mine = this.committed.catalog.dump();
    const theirs = core.catalog.dump();
    for (const space of core.catalog.atoms.lacking().keys()) {
      for (const atom of this.committed.catalog.atoms.ofSpace(space)) mine.delete(`a:${atom.id}`);
      mine.set(`c:${space}`, encodeCount(this.committed.catalog.atoms.countOf(space)));
    }
    const names = new Set([...mine.keys(), ...theirs.keys()]);
    const different = [...names].filter((name) => Buffer.compare(mine.get(name) ?? Buffer.alloc(0), theirs.get(name) ?? Buffer.alloc(0)) !== 0);
    return `differs in ${different.join(", ")}`;
  }

  compareRows(process: SimulatedProcess): void {
    if (process.local !== null) this.#compareCache(process);
    else if (process.archive !== null) this.compareArchive(process);
  }

  #compareCache(process: SimulatedProcess): void {
    const { local, core } = process;
    if (local === null || core === null) return;
    this.#holding.compare(process);
    const { store } = local;
    for (const { object } of core.catalog.schema.inOrder()) {
      if (object.type !== "table" || object.space === 0) continue;
      const { space, name } = object;
      const hash = store.tableHash(space);
      if (hash === null) {
        this.#comparePart(process, space, name);
        continue;
      }
      const at = store.appliedSeq;
      if (!this.committed.altered.has(space)) this.#compareWithCommitted(process, space, name, hash);
      const key = `${space}/${at}`;
      const other = this.#tables.get(key) ?? hash;
      this.#tables.set(key, other);
      check(other === hash, "equal rows at equal seq: Caches", () => `${process.name}: table ${name} at ${at} is not as on another Cache`);
      this.#coverage.count("invariants", "equal rows at equal seq: Caches");
    }
  }

  /** What a Cache holds of a table that it does not hold whole. */
  #comparePart(process: SimulatedProcess, space: SpaceId, name: string): void {
    const store = process.local?.store;
    if (store === undefined || store.appliedSeq !== this.committed.lastSeq || this.committed.altered.has(space)) return;
    const held = store.heldHash(space);
    if (held === null) return;
    const expected = this.committed.heldHash(space, held.ranges);
    check(
      expected === held.hash,
      "equal rows at equal seq: parts",
      () => `${process.name}: a part of ${name} at ${store.appliedSeq} is not what was committed`,
    );
    this.#coverage.count("invariants", "equal rows at equal seq: parts");
  }

  #compareWithCommitted(process: SimulatedProcess, space: SpaceId, name: string, hash: string): void {
    const at = process.local?.store.appliedSeq;
    if (at === undefined) return;
    const expected = this.committed.rowsHashAt(space, at);
    check(expected === hash, "equal rows at equal seq: Caches", () => `${process.name}: table ${name} at ${at} is not what was committed`);
  }

  /** Each index has the entries of its table's rows, and no other. */
  #compareIndexes(process: SimulatedProcess, store: AtomStore): void {
    const all = (space: SpaceId) => store.readRows(space, Buffer.alloc(0), null, Number.POSITIVE_INFINITY)?.rows ?? [];
    for (const [table, indexes] of indexesOf(Catalog.load(store.readCatalog()).schema)) {
      const rows = all(table);
      for (const { space, columns } of indexes) {
        const wanted = rows.flatMap(({ key, row }) => {
          const entry = indexEntryKey(columns, key, row);
          return entry === null ? [] : [`${entry.toString("hex")} ${Buffer.from(key).toString("hex")}`];
        });
        const found = all(space).map(({ key, row }) => `${Buffer.from(key).toString("hex")} ${Buffer.from(row).toString("hex")}`);
        check(
          wanted.sort().join() === found.join(),
          "index entries are those of the rows",
          () => `${process.name}: index ${space} of table ${table} at ${store.position.seq} has ${found.length} entries, not ${wanted.length}`,
        );
        this.#coverage.count("invariants", "index entries are those of the rows");
      }
    }
  }

  compareArchive(process: SimulatedProcess): void {
    const store = process.disk?.store;
    if (store === undefined || process.archive?.host === null) return;
    const { seq } = store.position;
    for (const space of this.committed.spaces()) {
      const rows = store.readRows(space, Buffer.alloc(0), null, Number.POSITIVE_INFINITY)?.rows ?? [];
      const actual = sumHashes(rows.map(({ key, row }) => rowHash(key, row)));
      const expected = this.committed.rowsHashAt(space, seq);
      check(actual === expected, "equal rows at equal seq: Archives", () => `${process.name}: space ${space} at ${seq} is not what was committed`);
    }
    this.#compareIndexes(process, store);
    // Records that never changed are not stored.
    const records = catalogHash(Catalog.load(store.readCatalog()).dump());
    const expected = this.committed.catalogHashAt(seq);
    if (seq > 0)
      check(
        records === expected,
        "equal rows at equal seq: Archives",
        () => `${process.name}: the stored catalogs at ${seq} are not what was committed`,
      );
    this.#coverage.count("invariants", "equal rows at equal seq: Archives");
  }
}
