/**
 * A whole database of real engines in one process and virtual time: Archives A1…, Caches C1…, on one fabric, from one seed. Processes are
 * started, killed, stopped and cut off by name; statements are sent to Caches by name. After every event invariants.ts looks at the engines
 * that it touched.
 */
import type { Endpoint, NodeId, Seq } from "../../src/base/ids.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import type { BatchAnswer, CatalogLimits } from "../../src/engines/core-types.js";
import { calmConditions, type FabricConditions } from "../../src/messages/network/memory-fabric-types.js";
import { MemoryFabric } from "../../src/messages/network/memory-network.js";
import type { StreamLimits } from "../../src/messages/stream/stream-node-types.js";
import { decodeEntry, type Entry } from "../../src/messages/wire/entry.js";
import type { SessionSettings, Step } from "../../src/sql/local-store.js";
import { check, InvariantError } from "./committed-stream.js";
import { Coverage } from "./coverage.js";
import { Invariants } from "./invariants.js";
import { type DiskTimes, SimulatedDisk } from "./simulated-disk.js";
import { type ProcessWorld, SimulatedProcess } from "./simulated-process.js";
import { VirtualTime } from "./virtual-time.js";

export interface ClusterOptions {
  readonly seed: number;
  readonly archives: number;
  readonly caches: number;
  readonly conditions?: FabricConditions;
  readonly diskTimes?: DiskTimes;
  /** Longest virtual time of a round of the local store, in milliseconds. */
  readonly storeMsMax?: number;
  /** Of rows that a Cache holds; without it, all that it has needed. */
  readonly memoryBytes?: number;
  /** `--history` of the founder; without it, none is said. */
  readonly historyMs?: number;
  /** Whose multicast each engine hears, by the engine's name; null: there is none. Default: all hear all. */
  readonly groupOf?: (name: string) => string | null;
  readonly acksBeforeSync?: boolean;
  readonly forgetsVotes?: boolean;
  readonly coverage?: Coverage;
  readonly trace?: (line: string) => void;
}

/** Shorter than the product's, so that much happens in a virtual second; bounds in bytes small enough to be met. */
const limits: Omit<StreamLimits, "datagramBytesMax"> = {
  heartbeatMs: 25,
  electionTimeoutMsMin: 150,
  electionTimeoutMsMax: 300,
  repairDelayMsMin: 1,
  repairDelayMsMax: 5,
  datagramsPerTurnMax: 16,
  windowBytesMax: 32 * 1024,
  keptBytesMax: 32 * 1024,
  catchUpBytes: 12 * 1024,
};

/** Two or three atoms in a part, so that catalogs take several and change between them. */
const catalogLimits: CatalogLimits = { partBytes: 100, rangeAtomsMin: 2, knownAtomsMin: 8, keptBytesMax: 4000, mergeEveryMs: 200, markEveryMs: 20 };

/** Named to every engine where multicast does not reach all: the first processes, of both kinds. */
const contacts = [1, 2, 3, 4, 5].map((index) => `10.0.0.${index}:7000` as Endpoint);

const quickDisk: DiskTimes = { syncMsMin: 0.1, syncMsMax: 0.6 };
/** How long the cluster waits for what must come in the end, in virtual milliseconds. */
const patienceMs = 12_000;
export const votersTarget = 3;

export const plainSettings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
export const outcomeUnknown: BatchAnswer = { kind: "failed", code: "ATOMCAST_OUTCOME_UNKNOWN", message: "its Cache was killed" };

export function step(sql: string, ...positional: SqlValue[]): Step {
  return { sql, args: { positional, named: [] }, wantRows: true, condition: null };
}

interface Pending {
  readonly process: SimulatedProcess;
  readonly life: number;
  readonly sinceMs: number;
  readonly what: string;
  resolve(answer: BatchAnswer): void;
}

export function cluster(options: ClusterOptions): SimulatedCluster {
  return new SimulatedCluster(options);
}

export class SimulatedCluster {
  readonly options: ClusterOptions;
  readonly random: Random;
  readonly coverage: Coverage;
  readonly fabric: MemoryFabric;
  readonly time: VirtualTime;
  readonly invariants: Invariants;
  readonly processes = new Map<string, SimulatedProcess>();
  readonly #disks = new Map<NodeId, SimulatedDisk>();
  readonly #touched = new Set<SimulatedProcess>();
  readonly #pending = new Set<Pending>();
  readonly #world: ProcessWorld;
  #failure: Error | null = null;
  #made = 0;
  /** Its disk is made to fail just now. */
  #failing: SimulatedProcess | null = null;
  #hasEnded = false;
  #voterCount = 0;

  constructor(options: ClusterOptions) {
    this.options = options;
    this.random = seededRandom(options.seed);
    this.coverage = options.coverage ?? new Coverage();
    const { random, coverage } = this;
    this.fabric = new MemoryFabric(random, options.conditions ?? calmConditions);
    this.time = new VirtualTime(this.fabric);
    this.invariants = new Invariants(coverage, random, this.#disks);
    this.invariants.committed.onEntry = (log, entry) => this.#onEntry(log.seq, entry);
    this.#world = {
      time: this.time,
      fabric: this.fabric,
      random,
      limits,
      catalogLimits,
      votersTarget,
      coverage,
      groupOf: options.groupOf ?? (() => "all"),
      contacts: options.groupOf === undefined ? [] : contacts,
      storeMsMax: options.storeMsMax ?? 0.5,
      memoryBytes: options.memoryBytes ?? Number.POSITIVE_INFINITY,
      historyMs: options.historyMs ?? null,
      touched: (process) => this.#touched.add(process),
      trace: (who, text) => this.trace(who, text),
      failed: (process, error) => {
        if (this.#failing === process) {
          this.#hasEnded = true;
          return;
        }
        this.trace(process.name, `fails: ${error.stack}`);
        this.#failure ??= new InvariantError("no engine fails", `${process.name}: ${error.stack}`);
      },
    };
    for (let index = 1; index <= options.archives; index++) this.add("archive", `A${index}`);
    for (let index = 1; index <= options.caches; index++) this.add("cache", `C${index}`);
  }

  get nowMs(): number {
    return this.time.nowMs;
  }

  trace(who: string, text: string): void {
    this.options.trace?.(`${this.nowMs.toFixed(3).padStart(10)} ${who.padEnd(3)} ${text}`);
  }

  /** A process that is down yet. The first Archive founds the database. */
  add(kind: "archive" | "cache", name: string): SimulatedProcess {
    const index = ++this.#made;
    const endpoint = `10.0.0.${index}:7000` as Endpoint;
    const disk = kind === "archive" ? this.#newDisk() : null;
    const process = new SimulatedProcess(this.#world, name, endpoint, disk);
    this.processes.set(name, process);
    return process;
  }

  #newDisk(): SimulatedDisk {
    const { random, coverage, options, invariants } = this;
    const nodeId = (random.integer(2 ** 40) + 1) as NodeId;
    const founder = this.#disks.size === 0;
    if (founder) coverage.count("archive", "nothing, founder");
    const disk = new SimulatedDisk({
      nodeId,
      founder,
      random,
      coverage,
      times: options.diskTimes ?? quickDisk,
      acksBeforeSync: options.acksBeforeSync ?? false,
      forgetsVotes: options.forgetsVotes ?? false,
      onEntry: (entry, previousHash) => invariants.committed.know(entry, previousHash),
    });
    this.#disks.set(nodeId, disk);
    return disk;
  }

  process(name: string): SimulatedProcess {
    const process = this.processes.get(name);
    if (process === undefined) throw new Error(`no process ${name}`);
    return process;
  }

  names(kind?: "archive" | "cache"): SimulatedProcess[] {
    return [...this.processes.values()].filter((process) => kind === undefined || process.kind === kind);
  }

  #onEntry(seq: Seq, entry: Entry): void {
    const { coverage } = this;
    if (this.options.trace !== undefined) this.trace("", `seq ${seq} ${describeEntry(entry)}`);
    if (entry.kind === "boot") coverage.count("sequencer", "BOOT ordered");
    if (entry.kind === "voters") {
      if (entry.voters.length < this.#voterCount) coverage.count("sequencer", "VOTERS: Archive removed");
      this.#voterCount = entry.voters.length;
    }
    if (entry.kind === "refused") {
      coverage.count("sequencer", "REFUSED ordered");
      if (entry.reason === "fence") coverage.count("transactions", "proposed: REFUSED for a fence");
      if (entry.reason === "schema") coverage.count("transactions", "proposed: REFUSED for a schema version");
    }
    if (entry.kind === "mark") coverage.count("sequencer", "MARK ordered");
    if (entry.kind === "leave" && entry.ids.length > 0) coverage.count("sequencer", "LEAVE: ids given back");
    if (entry.kind === "demote") {
      const isCache = this.invariants.committed.catalog.members.get(entry.to)?.kind === "cache";
      coverage.count("sequencer", isCache ? "DEMOTE: to the asker" : "DEMOTE: to the sequencer");
    }
    if (entry.kind !== "proposal") return;
    coverage.count("sequencer", "proposal ordered");
    const { body } = entry;
    if (body.kind === "hold") coverage.count("stream", "HOLD");
    if (body.kind === "ready") coverage.count("stream", "READY");
    if (body.kind === "drop") coverage.count("eviction", "DROP ordered");
    if (body.kind === "handoff") {
      coverage.count("stream", "HANDOFF");
      if (this.invariants.committed.catalog.members.get(body.to)?.kind === "archive") coverage.count("eviction", "HANDOFF to an Archive");
    }
    if (body.kind === "merge") coverage.count("stream", "MERGE");
    if (body.kind === "split") {
      const isNew = this.invariants.committed.catalog.schema.tables.get(body.space)?.sequenceNext === body.sequenceNext;
      coverage.count("stream", body.sequenceNext === 0n ? "SPLIT by size" : isNew ? "SPLIT for ids" : "SPLIT for ids given back");
    }
    if (body.kind !== "transaction") return;
    coverage.count("transactions", "asking: granted, proposed");
    if (entry.transactions.length > 1) coverage.count("stream", "group of transactions");
    if (body.parts.some((part) => part.kind === "ddl")) coverage.count("stream", "DDL");
  }

  /** Committed entries of a kind, in order. */
  seen<K extends Entry["kind"]>(kind: K): Extract<Entry, { kind: K }>[] {
    const entries = this.invariants.committed.entries.map(({ bytes }) => decodeEntry(bytes));
    return entries.filter((entry): entry is Extract<Entry, { kind: K }> => entry.kind === kind);
  }

  /** One moment of virtual time, and what must hold after it. Throws what an engine or an invariant has against it. */
  async step(): Promise<void> {
    const isGoingOn = await this.time.step();
    if (!isGoingOn) throw new Error("nothing happens any more");
    for (const process of this.#touched) this.invariants.look(process);
    this.#touched.clear();
    if (this.#failure !== null) throw this.#failure;
  }

  fail(error: Error): void {
    this.#failure ??= error;
  }

  async runFor(ms: number): Promise<void> {
    const endMs = this.nowMs + ms;
    while (this.nowMs < endMs) await this.step();
  }

  /** Until it holds; an invariant is broken when that takes too long. */
  async runUntil(what: string, holds: () => boolean, limitMs = patienceMs): Promise<void> {
    const endMs = this.nowMs + limitMs;
    let looks = 0;
    while (looks++ % 8 !== 0 || !holds()) {
      check(this.nowMs < endMs, "everything finishes", () => `not within ${limitMs} virtual ms: ${what}${this.#state()}`);
      await this.step();
    }
    this.coverage.count("invariants", "everything finishes");
  }

  #state(): string {
    const lines = [...this.processes.values()].map((process) => {
      const { core } = process;
      const at =
        core === null
          ? "no core"
          : `engine ${core.engine}, ${core.stream.role} of term ${core.stream.term}, applied ${core.context.position.seq} of ${core.stream.commitSeq}, voters [${core.stream.voters}]`;
      return `\n  ${process.name} ${process.state} (node ${process.disk?.nodeId ?? 0}): ${at}`;
    });
    const waiting = [...this.#pending].map(({ process, what, sinceMs }) => `\n  waits at ${process.name} since ${sinceMs.toFixed(0)}: ${what}`);
    return [...lines, ...waiting.slice(0, 10)].join("");
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.time.after(ms, resolve));
  }

  // Processes

  /** All of them, the founder first, until all are members and the voters are complete. */
  async start(): Promise<void> {
    const [founder, ...rest] = this.names();
    founder?.start();
    await this.runUntil("the founder is a member", () => founder?.isMember === true);
    for (const process of rest) process.start();
    await this.runUntil("all are members", () => this.isSettled());
  }

  /** All that are up are members, one of them leads, and there are as many voters as there can be. */
  isSettled(): boolean {
    const up = this.names().filter((process) => process.state !== "down");
    const archives = up.filter((process) => process.kind === "archive");
    const leaders = up.filter((process) => process.core?.stream.leadsSurely === true);
    const voters = this.invariants.committed.voters().length;
    return up.every((process) => process.isMember) && leaders.length >= 1 && voters >= Math.min(votersTarget, archives.length);
  }

  crash(name: string): void {
    const process = this.process(name);
    process.crash();
    this.#giveUp(process);
  }

  #giveUp(process: SimulatedProcess): void {
    for (const pending of [...this.#pending]) {
      if (pending.process !== process) continue;
      this.#pending.delete(pending);
      pending.resolve(outcomeUnknown);
    }
  }

  /** The engine must end by itself, at once; then the process is gone as after a crash. */
  failDisk(name: string): void {
    const process = this.process(name);
    this.#failing = process;
    this.#hasEnded = false;
    process.disk?.fail();
    check(this.#hasEnded, "no engine fails", () => `${name} goes on with a disk that fails`);
    this.#failing = null;
    this.crash(name);
  }

  restart(name: string): void {
    const process = this.process(name);
    if (process.state === "down" && process.disk?.isLost !== true) process.start();
  }

  leave(name: string, then: () => void = () => {}): void {
    const process = this.process(name);
    process.leave(() => {
      this.#giveUp(process);
      then();
    });
  }

  /** Of the process when it starts. */
  groupOf(name: string): string | null {
    return this.#world.groupOf(name);
  }

  /** Whose multicast it hears, and who its own, until it ends. */
  setGroup(process: SimulatedProcess, group: string | null): void {
    if (this.options.groupOf === undefined) return;
    this.trace(process.name, group === null ? "has no multicast" : `is in ${group}`);
    this.fabric.setGroup(process.endpoint, group);
  }

  /** Nothing passes from these to those; both ways unless `oneWay`. */
  cut(from: readonly SimulatedProcess[], to: readonly SimulatedProcess[], oneWay: boolean): void {
    this.trace("net", `${from.map(({ name }) => name)} cut from ${to.map(({ name }) => name)}${oneWay ? ", one way" : ""}`);
    for (const left of from) {
      for (const right of to) {
        this.fabric.cut(left.endpoint, right.endpoint);
        if (!oneWay) this.fabric.cut(right.endpoint, left.endpoint);
      }
    }
  }

  heal(): void {
    this.trace("net", "healed");
    this.fabric.healAll();
  }

  /** Every process ends; the local stores are closed. */
  end(): void {
    for (const process of this.processes.values()) process.crash();
  }

  // Clients

  /** Resolved by the answer, or as unknown when the Cache is killed. Time goes on only by `step`. */
  /** `giveUpMs`: its client goes away so much later. */
  batch(
    name: string,
    steps: readonly Step[],
    open: number | null = null,
    giveUpMs: number | null = null,
    settings: SessionSettings = plainSettings,
  ): Promise<BatchAnswer> {
    const process = this.process(name);
    const engine = process.cache;
    if (engine === null) return Promise.resolve({ kind: "failed", code: "ATOMCAST_UNAVAILABLE", message: `${name} is down` });
    return new Promise((resolve) => {
      const pending: Pending = { process, life: process.life, sinceMs: this.nowMs, what: steps.map(({ sql }) => sql).join("; "), resolve };
      this.#pending.add(pending);
      this.#touched.add(process);
      const { request, answered } = engine.run(steps, settings, open);
      if (giveUpMs !== null) this.sleep(giveUpMs).then(() => engine.cancel(request));
      answered.then((answer) => {
        if (this.#pending.delete(pending)) resolve(answer);
      });
    });
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Statements of one batch, in virtual time until they are answered; again where the Cache says that nothing was done. Throws what is not well. */
  async sql(name: string, ...statements: string[]): Promise<readonly (readonly SqlValue[])[]> {
    const steps = statements.map((sql) => step(sql));
    const what = statements.join("; ");
    const endMs = this.nowMs + patienceMs;
    for (;;) {
      let answer: BatchAnswer | null = null;
      const take = (given: BatchAnswer): void => {
        answer = given;
      };
      this.batch(name, steps).then(take);
      await this.runUntil(what, () => answer !== null);
      const given = answer ?? outcomeUnknown;
      if (given.kind === "done" || given.code !== "ATOMCAST_UNAVAILABLE") return rowsOf(given);
      check(this.nowMs < endMs, "everything finishes", () => `${name} cannot serve for ${patienceMs} virtual ms: ${what}${this.#state()}`);
      await this.runFor(20);
    }
  }

  /** As that engine answers once it has heard of what any other has committed by now: who did not wait for a commit hears of it a little later. */
  async expectRows(name: string, sql: string, expected: readonly (readonly (SqlValue | number)[])[]): Promise<void> {
    const seq = Math.max(...[...this.processes.values()].map(({ core }) => core?.stream.commitSeq ?? 0));
    await this.runUntil("it has heard of all commits", () => (this.process(name).core?.context.appliedSeq ?? 0) >= seq);
    const rows = await this.sql(name, sql);
    const plain = (value: unknown): string => JSON.stringify(value, (_, one) => (typeof one === "bigint" ? Number(one) : one));
    check(
      plain(rows) === plain(expected),
      "acknowledged effects are there",
      () => `${name}: ${sql} gives ${plain(rows)}, expected ${plain(expected)}`,
    );
  }

  // The end

  /** Every engine that is up is a member, has applied and stored the same, and holds the same. */
  async expectConverged(): Promise<void> {
    await this.runUntil("all are members again", () => this.isSettled() && this.isQuiet());
    for (const process of this.names()) {
      if (process.core === null) continue;
      this.invariants.compareCatalog(process, process.core);
      this.invariants.compareRows(process);
    }
  }

  /** Nothing is on its way to be applied anywhere. */
  isQuiet(): boolean {
    const seqs = new Set<number>([this.invariants.committed.lastSeq]);
    for (const { core, state, kind, disk } of this.names()) {
      if (state === "down") continue;
      if (core === null) return false;
      seqs.add(core.context.position.seq);
      seqs.add(core.stream.last.seq);
      seqs.add(kind === "archive" ? (disk?.store.position.seq ?? 0) : (core.cache?.local.applied ?? 0));
    }
    return seqs.size === 1;
  }
}

export function rowsOf(answer: BatchAnswer): readonly (readonly SqlValue[])[] {
  if (answer.kind === "failed") throw new Error(`${answer.code}: ${answer.message}`);
  const rows: (readonly SqlValue[])[] = [];
  for (const outcome of answer.outcomes) {
    if (outcome.kind === "error") throw new Error(`${outcome.fault.code}: ${outcome.fault.message}`);
    if (outcome.kind === "ok") rows.push(...outcome.result.rows);
  }
  return rows;
}

function describeEntry(entry: Entry): string {
  switch (entry.kind) {
    case "noop":
      return "noop";
    case "boot":
      return `boot ${entry.engineKind} ${entry.endpoint}`;
    case "leave":
      return `leave ${entry.engine}${entry.ids.map(({ space, first, next }) => ` ids ${first}…${next} of ${space}`)}`;
    case "voters":
      return `voters [${entry.voters}]`;
    case "refused":
      return `refused ${entry.engine}/${entry.proposalSeq} ${entry.reason}`;
    case "mark":
      return `mark ${entry.mark}`;
    case "demote":
      return `demote of ${entry.from} to ${entry.to}, atoms ${entry.atoms}`;
    case "proposal": {
      const { body } = entry;
      const head = `${body.kind} ${entry.engine}/${entry.proposalSeq} s=${entry.snapshot}`;
      if (body.kind === "split") return `${head} atom ${body.atom} into ${body.pieces.length + 1}, ids ${body.sequenceFirst}…${body.sequenceNext}`;
      if (body.kind === "merge") return `${head} atoms ${body.atoms} into ${body.into}`;
      if (body.kind === "handoff") return `${head} atoms ${body.atoms} to ${body.to}`;
      if (body.kind === "pin") return `${head} ${body.seq}${body.wantsStamp ? ", wants the time" : ""}`;
      if (body.kind !== "transaction") return `${head} atoms ${body.atoms}`;
      const parts = body.parts.map((part) =>
        part.kind === "ddl"
          ? `{${part.sql}}`
          : `${part.table}:[${part.rows.map((row) => `${row.row === null ? "-" : "+"}${Buffer.from(row.key).toString("hex")}`)}]`,
      );
      return `${head} ${parts.join(" ")}`;
    }
  }
}
