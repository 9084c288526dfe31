/**
 * A Cache that began with the root catalog, and two Archives that it pulls record catalogs from: the rows of catalog-pulls.ts, catalog-source.ts and
 * catalog-eviction.ts.
 */
import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, NodeId, Nonce, Seq } from "../../src/base/ids.js";
import { binaryKey, rangeOfKey, wholeRange } from "../../src/base/key-ranges.js";
import { seededRandom } from "../../src/base/random.js";
import { integerKey, integerOfKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { rootRecords } from "../../src/catalog/catalog-records.js";
import { CatalogSource } from "../../src/engines/catalog-source.js";
import { CoreContext } from "../../src/engines/core-context.js";
import type { CatalogLimits } from "../../src/engines/core-types.js";
import { type CatalogMessage, type CatalogRequestMessage, decodeEngineMessage } from "../../src/messages/wire/engine-messages.js";
import type { Entry, ProposalBody } from "../../src/messages/wire/entry.js";
import { atom, boot, CacheParts, createTable, genesis, proposal, sentOf, space } from "./engine-parts.js";

type Asked = { readonly to: Endpoint; readonly request: CatalogRequestMessage };

/** An Archive's part that answers for catalogs. */
class Source {
  readonly context: CoreContext;
  source: CatalogSource;

  constructor(readonly endpoint: Endpoint) {
    const self = { kind: "archive", nodeId: 11 as NodeId, nonce: 1 as Nonce, endpoint, http: "-", pid: 1 } as const;
    this.context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
    this.source = new CatalogSource(this.context);
  }

  apply(entry: Entry): void {
    const seq = (this.context.appliedSeq + 1) as Seq;
    this.context.catalog.apply(seq, entry);
    this.context.position = { ...this.context.position, seq };
    this.source.onApplied();
  }

  answer(request: CatalogRequestMessage): CatalogMessage[] {
    this.source.onRequest("e99" as Endpoint, request);
    return this.answers();
  }

  answers(): CatalogMessage[] {
    return sentOf(this.context.take()).map(({ message }) => message as CatalogMessage);
  }
}

/** Where to split the table's first atom. */
function split(piece: number, low: number): ProposalBody {
  const pieces = [{ atom: (atom + piece) as AtomId, low: integerKey(BigInt(low)), taker: 0 as EngineId, bytes: 0, rows: 0 }];
  return { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n };
}

function row(key: number, bytes: number): ProposalBody {
  const rows = [{ key: integerKey(BigInt(key)), row: Buffer.alloc(bytes), oldBytes: 0, indexKeys: [] }];
  return { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] };
}

function dropTable(): ProposalBody {
  return {
    kind: "transaction",
    exists: [],
    parts: [{ kind: "ddl", sql: "DROP TABLE t", upserts: [], drops: ["t"], touchedTables: [space], newAtoms: [] }],
  };
}

/** Of the Cache: the limits' `knownAtomsMin` alone says how many atoms it may know. */
const memoryBytes = 1;

class Database {
  readonly sources = [new Source("e1" as Endpoint), new Source("e3" as Endpoint)];
  parts: CacheParts;
  readonly #limits: CatalogLimits;
  #proposals = 1;
  called = 0;

  /** Engine 2 has made a table of so many atoms; then the Cache began. */
  constructor(atoms = 10, keptBytesMax = 10_000, partBytes = 100, knownAtomsMin = 100_000) {
    for (const entry of [boot(1, 11), boot(2), boot(3, 13), proposal(2, 1, createTable())]) for (const one of this.sources) one.apply(entry);
    for (let piece = 1; piece < atoms; piece++)
      for (const one of this.sources) one.apply(proposal(2, ++this.#proposals, split(piece, 1000 - piece * 10)));
    this.#limits = { partBytes, rangeAtomsMin: 2, knownAtomsMin, keptBytesMax, mergeEveryMs: 1000, markEveryMs: 1000 };
    this.parts = this.#begun(1);
    this.apply(boot(99));
    this.parts.take();
  }

  #begun(seed: number): CacheParts {
    const { catalog, position } = this.first.context;
    const records = new Map<string, Uint8Array>();
    const root = rootRecords(catalog);
    for (let next = root.next(); next.done !== true; next = root.next()) records.set(...next.value);
    return new CacheParts(Catalog.load(records), position, this.#limits, seed, memoryBytes);
  }

  startOver(): void {
    this.parts = this.#begun(2);
    this.apply(boot(99));
    this.parts.take();
  }

  get first(): Source {
    return this.sources[0] as Source;
  }

  get counters(): CacheParts["cache"]["catalogs"]["counters"] {
    return this.parts.cache.catalogs.counters;
  }

  apply(entry: Entry): void {
    for (const one of this.sources) one.apply(entry);
    this.parts.apply(entry);
  }

  /** By engine 2. */
  propose(body: ProposalBody): void {
    this.apply(proposal(2, ++this.#proposals, body));
  }

  want(...keys: number[]): Asked {
    const ranges = keys.length === 0 ? null : keys.map((key) => rangeOfKey(binaryKey(integerKey(BigInt(key)))));
    this.parts.cache.catalogs.ensure([{ space, ranges }], () => this.called++);
    return this.asked(5);
  }

  /** By where they begin. */
  known(): number[] {
    return this.parts.context.catalog.atoms.ofSpace(space).map(({ low }) => Number(integerOfKey(low) ?? 0n));
  }

  /** The one question of the next so many milliseconds. */
  asked(ms: number): Asked {
    const all = this.#asked(this.parts.wait(ms));
    expect(all).toHaveLength(1);
    return all[0] as Asked;
  }

  #asked(effects: Parameters<typeof sentOf>[0]): Asked[] {
    return sentOf(effects).flatMap(({ to, message }) => (message.kind === "catalogRequest" ? [{ to, request: message }] : []));
  }

  source({ to }: Asked): Source {
    return this.sources.find(({ endpoint }) => endpoint === to) as Source;
  }

  /** Question and answer; the next question, where there is one. */
  part(asked: Asked): Asked | undefined {
    for (const message of this.source(asked).answer(asked.request)) this.parts.cache.onMessage(asked.to, message);
    return this.#asked(this.parts.take())[0];
  }

  finish(first: Asked): number {
    let parts = 0;
    for (let next: Asked | undefined = first; next !== undefined; parts++) next = this.part(next);
    return parts;
  }

  expectEqual(): void {
    expect(this.parts.context.catalog.atoms.lacking().size).toBe(0);
    expect(this.parts.context.catalog.dump()).toEqual(this.first.context.catalog.dump());
    expect([...this.parts.context.catalog.oversize]).toEqual([...this.first.context.catalog.oversize]);
  }
}

test("catalog pulled: part by part, of one seq; what is done to the space meanwhile is applied to it", () => {
  const d = new Database(10, 1_000_000);
  const asked = d.want();
  const second = d.part(asked);
  if (second === undefined) throw new Error("one part was enough");
  d.propose(split(50, 5));
  d.propose(row(7, 300));
  d.apply(boot(77));
  d.propose({ kind: "hold", atoms: [atom] });
  d.propose(row(901, 200_000));
  d.propose({ kind: "ready", atoms: [atom] });
  d.apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  expect(d.called).toBe(0);
  expect(d.finish(second)).toBe(2);
  expect(d.called).toBe(1);
  expect(d.counters).toMatchObject({ pulled: 1, restarted: 0, overflowed: 0 });
  d.expectEqual();
  d.apply({ kind: "leave", engine: 1 as EngineId, ids: [] });
  d.expectEqual();
});

test("a catalog of a seq that is not applied here yet waits for it; what came before that seq is not applied twice", () => {
  const d = new Database();
  const asked = d.want();
  const ahead = [proposal(2, 100, split(50, 5)), proposal(2, 101, row(7, 300)), { kind: "leave", engine: 2 as EngineId, ids: [] } as const];
  for (const entry of ahead) for (const one of d.sources) one.apply(entry);
  d.finish(asked);
  expect(d.called).toBe(0);
  for (const entry of ahead.slice(0, 2)) d.parts.apply(entry);
  expect(d.called).toBe(0);
  d.parts.apply(ahead[2] as Entry);
  expect(d.called).toBe(1);
  d.expectEqual();
});

test("an Archive that is behind answers when it has come to the asker's seq", () => {
  const d = new Database();
  d.parts.apply(boot(77));
  const asked = d.want();
  const source = d.source(asked);
  expect(source.answer(asked.request)).toEqual([]);
  for (const one of d.sources) one.apply(boot(77));
  const answers = source.answers();
  expect(answers).toMatchObject([{ kind: "catalog", part: 0, isLast: false, position: { seq: asked.request.minSeq } }]);
});

test("catalog pull restarted: the source is lost, or silent, or has given the read up; late answers count for nothing", () => {
  const d = new Database();
  const first = d.want();
  const second = d.part(first) as Asked;
  d.parts.cache.disconnected(first.to);
  const other = d.asked(25);
  expect(other.to).not.toBe(first.to);
  expect(other.request).toMatchObject({ read: 0, part: 0 });
  expect(d.part(second)).toBeUndefined();
  // The other one is silent for more than two seconds; then its answer comes.
  const late = d.source(other).answer(other.request);
  const again = d.asked(2100);
  for (const message of late) d.parts.cache.onMessage(other.to, message);
  // The source has forgotten the read: it names no read, and all begins anew.
  const next = d.part(again) as Asked;
  d.parts.cache.onMessage(again.to, { ...(late[0] as CatalogMessage), pull: next.request.pull, read: 0 });
  const last = d.asked(25);
  expect(last.request).toMatchObject({ read: 0, part: 0 });
  d.finish(last);
  expect(d.called).toBe(1);
  expect(d.counters).toMatchObject({ pulled: 1, restarted: 3 });
  d.expectEqual();
});

test("catalog pull restarted: an Archive that has started over counts its reads anew, and has another one under that number", () => {
  const d = new Database(10, 1_000_000);
  const second = d.part(d.want()) as Asked;
  d.propose({ kind: "handoff", to: 1 as EngineId, atoms: [atom] });
  const restarted = d.source(second);
  restarted.source = new CatalogSource(restarted.context);
  expect(restarted.answer({ ...second.request, read: 0, part: 0, ranges: [wholeRange] })).toMatchObject([
    { read: second.request.read, isLast: false },
  ]);
  expect(d.part(second)).toBeUndefined();
  d.finish(d.asked(25));
  expect(d.called).toBe(1);
  expect(d.counters).toMatchObject({ pulled: 1, restarted: 1 });
  d.expectEqual();
});

test("buffer overflow: the pull begins again from this seq on, and ends", () => {
  const d = new Database(10, 2000);
  const second = d.part(d.want()) as Asked;
  for (let n = 0; n < 4; n++) d.propose(row(n, 600));
  expect(d.counters.overflowed).toBe(1);
  // The late part is nobody's; the next turn asks anew.
  const again = d.part(second) as Asked;
  expect(again.request).toMatchObject({ read: 0, part: 0 });
  expect(again.request.minSeq).toBeGreaterThan(second.request.minSeq);
  d.propose(row(50, 100));
  d.finish(again);
  expect(d.called).toBe(1);
  d.expectEqual();
});

test("space gone during a catalog pull: who waited goes on, late parts change nothing", () => {
  const d = new Database();
  const second = d.part(d.want()) as Asked;
  d.propose(dropTable());
  expect(d.called).toBe(1);
  expect(d.counters).toMatchObject({ pulled: 0, gone: 1 });
  expect(d.part(second)).toBeUndefined();
  // Asked for after it is gone, it has nothing.
  expect(d.first.answer({ ...second.request, read: 0, part: 0, minSeq: 0 as Seq })).toMatchObject([{ isLast: true, records: new Map() }]);
  d.expectEqual();
});

test("a space that is dropped and made anew meanwhile is another one, and here from birth", () => {
  const d = new Database();
  const second = d.part(d.want()) as Asked;
  d.propose(dropTable());
  const [part] = createTable().kind === "transaction" ? (createTable() as Extract<ProposalBody, { kind: "transaction" }>).parts : [];
  if (part?.kind !== "ddl") throw new Error("no DDL");
  const upserts = part.upserts.map((object) => ({ ...object, space: (space + 1) as typeof space }));
  const newAtoms = [{ space: (space + 1) as typeof space, atom: (atom + 500) as AtomId, indexOf: 0 as typeof space }];
  d.propose({ kind: "transaction", exists: [], parts: [{ ...part, upserts, newAtoms, touchedTables: [] }] });
  d.part(second);
  d.expectEqual();
});

test("two that want one space wait for one pull; spaces that are here are not waited for", () => {
  const d = new Database();
  const asked = d.want();
  d.parts.cache.catalogs.ensure([{ space, ranges: null }], () => d.called++);
  d.finish(asked);
  expect(d.called).toBe(2);
  d.parts.cache.catalogs.ensure([{ space, ranges: null }], () => d.called++);
  expect(d.called).toBe(3);
  expect(d.counters.pulled).toBe(1);
});

test("a key brings its atom and the next one; what is still a gap is pulled when it is needed", () => {
  const d = new Database();
  d.finish(d.want(925, 955));
  expect(d.called).toBe(1);
  expect(d.known()).toEqual([920, 930, 950, 960]);
  expect(d.counters.pulled).toBe(1);
  // Known: at once. Then one more, and all the rest.
  d.parts.cache.catalogs.ensure([{ space, ranges: [rangeOfKey(binaryKey(integerKey(939n)))] }], () => d.called++);
  expect(d.called).toBe(2);
  d.propose(split(50, 5));
  d.finish(d.want(948));
  expect(d.known()).toEqual([920, 930, 940, 950, 960]);
  d.finish(d.want());
  expect(d.called).toBe(4);
  d.expectEqual();
});

test("who asks about a table again and again gets more of its catalog each time", () => {
  const d = new Database(90);
  const brought = Array.from({ length: 9 }, (_, question) => {
    const before = d.known().length;
    d.finish(d.want(125 + 100 * (question % 9)));
    return d.known().length - before;
  });
  expect(brought).toEqual([2, 2, 2, 2, 2, 2, 2, 2, 4]);
});

test("two needs at once are two questions, and what both bring is taken once", () => {
  const d = new Database();
  const [first, second] = [d.want(925), d.want(935)];
  d.propose(row(926, 50));
  d.finish(second);
  d.propose(row(937, 50));
  d.finish(first);
  expect(d.called).toBe(2);
  expect(d.known()).toEqual([920, 930, 940]);
  d.finish(d.want());
  d.expectEqual();
});

test("a MERGE of known and unknown atoms makes a gap of what was here: who waited for it asks again", () => {
  const d = new Database(10, 10_000, 1000);
  d.finish(d.want(925));
  expect(d.known()).toEqual([920, 930]);
  const asked = d.want(945);
  const early = d.source(asked).answer(asked.request);
  const { atoms } = d.first.context.catalog;
  const ids = [930n, 940n].map((key) => atoms.at(space, binaryKey(integerKey(key)))?.id as AtomId);
  d.propose({ kind: "merge", space, atoms: ids, into: (atom + 90) as AtomId });
  expect(d.known()).toEqual([920]);
  // What was 940 then is no atom now, and where the one that it is part of begins, nobody has said.
  for (const message of early) d.parts.cache.onMessage(asked.to, message);
  expect(d.known()).toEqual([920, 950]);
  expect(d.called).toBe(1);
  d.finish(d.asked(25));
  expect(d.called).toBe(2);
  expect(d.known()).toEqual([920, 930, 950]);
  d.finish(d.want());
  d.expectEqual();
});

test("a Cache that has started over: what still arrives for its former core is not taken for an answer to this one", () => {
  const d = new Database();
  const former = d.want();
  const late = d.source(former).answer(former.request);
  const { counters } = d;
  d.startOver();
  const asked = d.want();
  for (const message of late) d.parts.cache.onMessage(asked.to, message);
  expect(d.counters.parts).toBe(0);
  d.finish(asked);
  expect(d.counters).toMatchObject({ pulled: 1, restarted: 0 });
  expect(counters.pulled).toBe(0);
  d.expectEqual();
});

test("reads: a part asked twice, or of a read that is not open, begins again; idle reads give way", () => {
  const d = new Database();
  const { request } = d.want();
  const open = (): CatalogMessage => d.first.answer({ ...request, read: 0, part: 0 })[0] as CatalogMessage;
  const { read } = open();
  expect(d.first.answer({ ...request, read, part: 1 })).toMatchObject([{ read, part: 1 }]);
  expect(d.first.answer({ ...request, read, part: 1 })).toMatchObject([{ read: 0, isLast: false }]);
  expect(d.first.answer({ ...request, read: 999, part: 1 })).toMatchObject([{ read: 0 }]);
  for (let n = 1; n < 32; n++) expect(open().read).not.toBe(0);
  expect(open().read).toBe(0);
  d.first.context.nowMs += 1500;
  expect(open().read).not.toBe(0);
  expect(d.first.answer({ ...request, read, part: 2 })).toMatchObject([{ read: 0 }]);
});

test("what a Cache joins a database of 20,000 atoms with, before and now", () => {
  const d = new Database(20_000);
  const { catalog } = d.first.context;
  const whole = [...catalog.dump()].reduce((sum, [name, bytes]) => sum + name.length + bytes.length + 2, 0);
  d.first.source.onRequest("e99" as Endpoint, {
    kind: "catalogRequest",
    pull: 1,
    catalog: 0 as typeof space,
    ranges: [],
    rangeAtomsMin: 0,
    read: 0,
    part: 0,
    minSeq: 0 as Seq,
    bytesMax: 256 * 1024,
  });
  const [sent] = d.first.context.take();
  if (sent?.kind !== "send") throw new Error("nothing was sent");
  expect(decodeEngineMessage(sent.payload)).toMatchObject({ kind: "catalog", isLast: true });
  expect(whole).toBeGreaterThan(500_000);
  expect(sent.payload.length).toBeLessThan(1000);
});

/** A Cache that may know 20 atoms beside the schema's, and has pulled a catalog of 60. */
function above(): Database {
  const d = new Database(60, 1_000_000, 100_000, 21);
  d.finish(d.want());
  expect(d.known()).toHaveLength(60);
  return d;
}

test("K2: above the limit those that were learned first are forgotten, and are pulled again where they are needed", () => {
  const d = above();
  d.parts.wait(200);
  const known = d.known();
  expect(known.length).toBeLessThanOrEqual(20);
  expect(known.length).toBeGreaterThanOrEqual(16);
  expect(d.parts.context.catalog.atoms.countOf(space)).toBe(60);
  // What comes about them passes by; what is known follows.
  for (const one of [split(70, 5), row(7, 300), row(995, 100), split(71, 3)]) d.propose(one);
  d.apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  expect(d.parts.context.catalog.atoms.countOf(space)).toBe(62);
  const next = d.want(7);
  expect(next.request.rangeAtomsMin).toBe(2);
  d.finish(next);
  expect(d.called).toBe(2);
  d.finish(d.want());
  d.expectEqual();
});

test("K3: what is held, asked to hold or needed may not go; a second later it is looked at again", () => {
  const d = above();
  const { cache, context } = d.parts;
  const ids = context.catalog.atoms.ofSpace(space).map(({ id }) => id);
  d.apply(proposal(Number(context.engine), 1, { kind: "hold", atoms: ids.slice(0, 25) }));
  // One that is waited for, with a part of the catalog that nobody answers for.
  cache.catalogs.ensure([{ space: 999 as typeof space, ranges: null }], () => {});
  d.parts.wait(200);
  expect(context.catalog.atoms.ofSpace(space).map(({ id }) => id)).toEqual(ids.slice(0, 25));
  expect(cache.catalogEviction.counters).toEqual({ forgotten: 35, exceeded: 1 });
  d.parts.wait(700);
  expect(cache.catalogEviction.counters.exceeded).toBe(1);
  d.apply(proposal(Number(context.engine), 2, { kind: "drop", atoms: ids.slice(0, 25) }));
  d.parts.wait(400);
  expect(context.catalog.atoms.size).toBeLessThanOrEqual(21);
  d.finish(d.want());
  d.expectEqual();
});

test("the atom of a unique index stays known: it may be handed to who has only asked for permissions there", () => {
  const d = new Database(60, 1_000_000, 100_000, 21);
  const index = { space: (space + 1) as typeof space, atom: (atom + 500) as AtomId, indexOf: space };
  d.propose({ kind: "transaction", exists: [], parts: [{ kind: "ddl", sql: "", upserts: [], drops: [], touchedTables: [], newAtoms: [index] }] });
  d.finish(d.want());
  d.parts.wait(200);
  expect(d.known().length).toBeLessThan(60);
  const { context } = d.parts;
  d.propose({ kind: "handoff", to: context.engine, atoms: [index.atom] });
  expect(d.first.context.catalog.atoms.get(index.atom)?.originator).toBe(context.engine);
  // Whoever asks here now is answered by who knows that it originates it.
  expect(context.catalog.atoms.get(index.atom)?.originator).toBe(context.engine);
});

test("a space that is needed as a whole, and is being pulled, is kept", () => {
  const d = above();
  d.parts.wait(200);
  const asked = d.want();
  d.finish(asked);
  expect(d.known()).toHaveLength(60);
  const { length } = d.known();
  // A row pull of everything waits for its HOLD.
  d.parts.cache.pulls.ensure([{ space, ranges: null }], () => {});
  d.parts.wait(500);
  expect(d.known()).toHaveLength(length);
});

test("a block of ids from an atom that was asked for it is known; one from an atom that was forgotten makes this Cache start over", () => {
  const d = above();
  d.parts.cache.ids.want(space, () => {});
  const { engine } = d.parts.context;
  const [asked] = d.parts.sent().flatMap(({ message }) => (message.kind === "blockRequest" ? [message.atom] : []));
  d.parts.wait(200);
  expect(d.parts.context.catalog.atoms.get(asked as AtomId)).toBeDefined();
  const block = (of: AtomId, piece: number, low: number): ProposalBody => {
    const pieces = [{ atom: (atom + piece) as AtomId, low: integerKey(BigInt(low)), taker: engine, bytes: 0, rows: 0 }];
    return {
      kind: "split",
      atom: of,
      space,
      firstTaker: 0 as EngineId,
      pieces,
      measured: null,
      sequenceFirst: BigInt(low),
      sequenceNext: BigInt(low + 32),
    };
  };
  d.propose(block(asked as AtomId, 80, 5));
  expect(d.parts.cache.hasLostTrack).toBe(false);
  const known = new Set(d.parts.context.catalog.atoms.ofSpace(space).map(({ id }) => id));
  const forgotten = d.first.context.catalog.atoms.ofSpace(space).find(({ id }) => !known.has(id));
  if (forgotten === undefined) throw new Error("nothing was forgotten");
  d.propose(block(forgotten.id, 81, Number(integerOfKey(forgotten.low) ?? 0n) + 1));
  expect(d.parts.cache.hasLostTrack).toBe(true);
});
