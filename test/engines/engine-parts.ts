/** One engine's parts without a stream: entries are applied to its catalog one by one, as if committed, and its effects are read. */
import { genesisHash } from "../../src/base/chain-hash.js";
import type { AtomId, Endpoint, EngineId, NodeId, Nonce, ProposalSeq, Seq, SpaceId, Term } from "../../src/base/ids.js";
import type { LogPosition } from "../../src/base/log-entry.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog, type CatalogEvent } from "../../src/catalog/catalog.js";
import { CacheSide } from "../../src/engines/cache-side.js";
import { CoreContext } from "../../src/engines/core-context.js";
import type { CatalogLimits, CoreEffect } from "../../src/engines/core-types.js";
import { OriginatorDesk } from "../../src/engines/originator-desk.js";
import { ProposalQueue } from "../../src/engines/proposal-queue.js";
import { decodeEngineMessage, type EngineMessage } from "../../src/messages/wire/engine-messages.js";
import { decodeEntry, type Entry, encodeEntry, formatVersion, type ProposalBody, type ProposalEntry } from "../../src/messages/wire/entry.js";

export const genesis = { seq: 0 as Seq, term: 0 as Term, hash: genesisHash } as unknown as LogPosition;
/** A table that engine 2 makes. */
export const space = 131_073 as SpaceId;
export const atom = 2_097_153 as AtomId;

export function boot(nonce: number, node = 0, endpoint = `e${nonce}`): Entry & { kind: "boot" } {
  return {
    kind: "boot",
    engineKind: node > 0 ? "archive" : "cache",
    nodeId: node as NodeId,
    nonce: nonce as Nonce,
    endpoint: endpoint as Endpoint,
    http: "-",
    pid: 1,
    formatVersion,
  };
}

export function proposal(engine: number, n: number, body: ProposalBody, more: Partial<ProposalEntry> = {}): ProposalEntry {
  return {
    kind: "proposal",
    engine: engine as EngineId,
    proposalSeq: n as ProposalSeq,
    transactions: [],
    snapshot: 0 as Seq,
    fences: [],
    schemaVersions: [],
    body,
    ...more,
  };
}

/** `CREATE TABLE t(id INTEGER PRIMARY KEY)`. */
export function createTable(): ProposalBody {
  const object = {
    type: "table",
    name: "t",
    tableName: "t",
    sql: "CREATE TABLE t(id INTEGER PRIMARY KEY)",
    space,
    columns: [],
    uniques: [],
    indexed: [],
  } as const;
  return {
    kind: "transaction",
    exists: [],
    parts: [
      {
        kind: "ddl",
        sql: object.sql,
        upserts: [object],
        drops: [],
        touchedTables: [space],
        newAtoms: [{ space, atom, indexOf: 0 as SpaceId }],
      },
    ],
  };
}

export interface Sent {
  readonly to: Endpoint;
  readonly message: EngineMessage;
}

/** A Cache that becomes a member by the BOOT of nonce 99. */
export class CacheParts {
  readonly context: CoreContext;
  readonly proposals: ProposalQueue;
  readonly desk: OriginatorDesk;
  readonly cache: CacheSide;

  constructor(
    catalog = new Catalog(),
    position = genesis,
    limits: CatalogLimits = { partBytes: 1000, rangeAtomsMin: 2, knownAtomsMin: 100, keptBytesMax: 10_000, mergeEveryMs: 1000, markEveryMs: 1000 },
    seed = 1,
    memoryBytes = Number.POSITIVE_INFINITY,
  ) {
    const self = { kind: "cache", nodeId: 0 as NodeId, nonce: 99 as Nonce, endpoint: "e99" as Endpoint, http: "-", pid: 1 } as const;
    this.context = new CoreContext(self, catalog, seededRandom(seed), position, 0);
    this.context.sequencer = "e1" as Endpoint;
    this.proposals = new ProposalQueue(this.context);
    this.desk = new OriginatorDesk(this.context, this.proposals, limits.mergeEveryMs);
    this.cache = new CacheSide(this.context, this.proposals, this.desk, limits, memoryBytes);
  }

  /** The next committed entry, as EngineCore applies it. */
  apply(entry: Entry): Seq {
    const { context } = this;
    const seq = (context.position.seq + 1) as Seq;
    const bytes = encodeEntry(entry);
    const events = context.catalog.apply(seq, entry);
    context.position = { ...context.position, seq };
    this.cache.onEntry({ ...context.position, bytes }, entry);
    for (const event of events) this.#onEvent(event);
    this.desk.answerWaiting();
    this.cache.onApplied();
    return seq;
  }

  #onEvent(event: CatalogEvent): void {
    if (event.kind === "joined" && event.member.nonce === 99) {
      [this.context.engine, this.context.life] = [event.member.id, event.member.life];
      this.context.catalog.atoms.watch(event.member.id);
    }
    this.desk.onEvent(event);
    this.cache.onEvent(event);
    if (event.kind === "decided" && event.engine === this.context.engine) this.proposals.decided(event.proposalSeq, event.outcome, event.seq);
  }

  /** Applies, in order, what this engine has proposed since the last call. Returns all that it has sent. */
  applyOwn(): Sent[] {
    const sent = this.sent();
    for (const { message } of sent) if (message.kind === "propose") this.apply(decodeEntry(message.entry));
    return sent;
  }

  /** Time passes, as ticks and turns. */
  wait(ms: number): CoreEffect[] {
    const effects: CoreEffect[] = [];
    for (const endMs = this.context.nowMs + ms; this.context.nowMs < endMs; ) {
      this.context.nowMs += 5;
      this.proposals.tick();
      this.desk.tick();
      this.cache.tick();
      effects.push(...this.take());
    }
    return effects;
  }

  /** Where effects are taken, a turn ends. */
  take(): readonly CoreEffect[] {
    this.cache.turnEnd();
    this.proposals.flush();
    return this.context.take();
  }

  sent(): Sent[] {
    return sentOf(this.take());
  }
}

export function sentOf(effects: readonly CoreEffect[]): Sent[] {
  return effects.flatMap((effect) => (effect.kind === "send" ? [{ to: effect.to, message: decodeEngineMessage(effect.payload) }] : []));
}
