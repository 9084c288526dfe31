/**
 * What must hold of the running engines, looked at after every event of theirs. Cheap things each time; hashes of whole states now and then,
 * and once more of everything when a run has ended.
 */
import type { Endpoint, NodeId, SpaceId } from "../../src/base/ids.js";
import { rangeOfKey } from "../../src/base/key-ranges.js";
import type { Random } from "../../src/base/random.js";
import { indexEntryKey } from "../../src/base/row-index.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { indexesOf } from "../../src/catalog/schema-catalog.js";
import type { EngineCore } from "../../src/engines/engine-core.js";
import type { MemoryAtomStore } from "../../src/storage/memory-atom-store.js";
import { catalogHash, passingCatalogHash } from "./catalog-hash.js";
import { CommittedStream, check, rowHash, sumHashes } from "./committed-stream.js";
import { CounterWatch } from "./counter-watch.js";
import type { Coverage } from "./coverage.js";
import { HoldingWatch } from "./holding-watch.js";
import type { SimulatedDisk } from "./simulated-disk.js";
import type { SimulatedProcess } from "./simulated-process.js";

/** One look in so many compares hashes of catalogs, or of rows. */
const catalogEvery = 150;
const rowsEvery = 2500;

export class Invariants {
  readonly committed: CommittedStream;
  readonly #holding: HoldingWatch;
  readonly #counters: CounterWatch;
  readonly #coverage: Coverage;
  readonly #random: Random;
  readonly #disks: ReadonlyMap<NodeId, SimulatedDisk>;
  readonly #leaders = new Map<number, Endpoint>();
  /** Where the core was when it was looked at last: its hash. */
  readonly #seen = new WeakMap<EngineCore, string>();
  /** (space, seq) → hash of a table's rows, where the first Cache that was looked at had it. */
  readonly #tables = new Map<string, string>();

  constructor(coverage: Coverage, random: Random, disks: ReadonlyMap<NodeId, SimulatedDisk>) {
    this.committed = new CommittedStream(coverage);
    this.#holding = new HoldingWatch(coverage);
    this.#counters = new CounterWatch(coverage);
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
    this.#counters.look(core);
    if (this.#random.integer(catalogEvery) === 0) this.#compareCatalog(process, core, (catalog) => passingCatalogHash(catalog, "with parts"));
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
    if (this.#seen.get(core) === position.hash) return;
    this.#seen.set(core, position.hash);
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

  compareCatalog(process: SimulatedProcess, core: EngineCore): void {
    this.#compareCatalog(process, core, catalogHash);
  }

  #compareCatalog(process: SimulatedProcess, core: EngineCore, hash: (catalog: Catalog) => bigint): void {
    const { seq } = core.context.position;
    const lacking = core.catalog.atoms.lacking();
    check(process.kind === "cache" || lacking.size === 0, "equal catalogs at equal seq", () => `${process.name} lacks catalogs`);
    // What a part of a catalog was at an older seq, nobody keeps.
    const isComparable = lacking.size === 0 || seq === this.committed.lastSeq;
    const actual = isComparable ? hash(core.catalog) : passingCatalogHash(core.catalog, "without parts");
    const expected = seq === this.committed.lastSeq ? this.committed.catalogHashLike(core.catalog) : this.committed.catalogHashAt(seq, lacking);
    check(actual === expected, "equal catalogs at equal seq", () => `${process.name} at ${seq} ${this.#catalogDifference(core)}`);
    this.#coverage.count("invariants", "equal catalogs at equal seq");
    if (!isComparable) return;
    for (const space of lacking) {
      this.#judgeKnowledge(process, core, space);
      if (core.catalog.atoms.knownOf(space) > 0) this.#coverage.count("catalogs", "a part is known");
    }
  }

  /** It grants, gives up and gives rows of what it knows of alone. */
  #judgeKnowledge({ name }: SimulatedProcess, { catalog, engine }: EngineCore, space: SpaceId): void {
    if (engine === 0) return;
    for (const { low, high } of catalog.atoms.gapsWithin(space, null)) {
      for (const atom of this.committed.catalog.atoms.overlapping(space, low, high)) {
        const isUnknown = atom.lowKey >= low && (atom.originator === engine || atom.holders.some((holder) => holder.engine === engine));
        check(!isUnknown, "an engine knows what it holds", () => `${name} does not know atom ${atom.id} of space ${space}, and has it`);
      }
    }
    this.#coverage.count("invariants", "an engine knows what it holds");
  }

  #catalogDifference(core: EngineCore): string {
    if (core.context.position.seq !== this.committed.lastSeq) return "";
    const mine = this.committed.catalog.dump();
    const theirs = core.catalog.dump();
    const { atoms } = core.catalog;
    for (const space of atoms.lacking()) {
      theirs.delete(`c:${space}`);
      for (const atom of this.committed.catalog.atoms.ofSpace(space))
        if (atoms.gapsWithin(space, [rangeOfKey(atom.lowKey)]).length > 0) mine.delete(`a:${atom.id}`);
    }
    const names = new Set([...mine.keys(), ...theirs.keys()]);
    const different = [...names].filter((name) => Buffer.compare(mine.get(name) ?? Buffer.alloc(0), theirs.get(name) ?? Buffer.alloc(0)) !== 0);
    return `differs in ${different.join(", ")}, lacks ${[...atoms.lacking()].map((space) => `${atoms.countOf(space) - atoms.knownOf(space)} of ${space}`).join(", ")}`;
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
  #compareIndexes(process: SimulatedProcess, store: MemoryAtomStore): void {
    const all = (space: SpaceId) => store.readRows(space, Buffer.alloc(0), null, Number.POSITIVE_INFINITY)?.rows ?? [];
    for (const [table, indexes] of indexesOf(Catalog.load(store.catalog).schema)) {
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
    const records = catalogHash(Catalog.load(store.catalog));
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
