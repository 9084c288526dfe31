/** The rows of eviction.ts's table, on one Cache's parts. Of the local store, only what it answers is played. */
import { expect, test } from "vitest";
import type { AtomId, EngineId, ProposalSeq, SpaceId } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import { decodeEntry, type ProposalBody, type SplitPiece } from "../../src/messages/wire/entry.js";
import type { PullNeed, Usage } from "../../src/sql/local-store.js";
import type { LocalStoreCall } from "../../src/sql/local-store-calls.js";
import { atom, boot, CacheParts, createTable, proposal, sentOf, space } from "./engine-parts.js";

const quiet: Usage = { used: [], ids: [], open: [], usedBytes: 0, fileBytes: 0 };
const own = 4;
const atomCount = 10;
const atomBytes = 1000;

const idOf = (place: number): AtomId => (place === 0 ? atom : ((own * 2 ** 24 + place) as AtomId));
const keyOf = (place: number): string => integerKey(BigInt(place * 100)).toString("latin1");
const needOf = (...places: number[]): PullNeed => ({ space, ranges: places.map((place) => ({ low: keyOf(place), high: `${keyOf(place)}\0` })) });

/** Archives 1 and 3 of the nodes 11 and 13, a Cache 2 that made a table of ten atoms and wrote them, and the Cache under test, which holds all of them. */
class Scene extends CacheParts {
  #usage = quiet;
  #n = 1000;
  /** Bodies proposed, in order. */
  readonly proposed: ProposalBody[] = [];
  readonly given: LocalStoreCall[] = [];
  #waiting: ReturnType<typeof proposal>[] = [];

  constructor(budget: number) {
    super(undefined, undefined, undefined, 1, budget);
    for (const entry of [boot(1, 11), boot(2), boot(3, 13), boot(99), proposal(2, 1, createTable())]) this.apply(entry);
    const pieces = Array.from({ length: atomCount - 1 }, (_, index): SplitPiece => {
      return { atom: idOf(index + 1), low: integerKey(BigInt((index + 1) * 100)), taker: 0 as EngineId, bytes: 0, rows: 0 };
    });
    this.apply(
      proposal(2, 2, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n }),
    );
    const rows = Array.from({ length: atomCount }, (_, place) => {
      return { key: integerKey(BigInt(place * 100)), row: Buffer.alloc(atomBytes - 11, 1), oldBytes: 0, indexKeys: [] };
    });
    this.apply(proposal(2, 3, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }));
    const atoms = Array.from({ length: atomCount }, (_, place) => idOf(place));
    this.applyAs(own, { kind: "hold", atoms });
    this.applyAs(own, { kind: "ready", atoms });
    this.take();
  }

  applyAs(engine: number, body: ProposalBody): void {
    const fences = "atoms" in body ? body.atoms.map((id) => this.fence(id)) : [];
    this.apply(proposal(engine, ++this.#n as ProposalSeq, body, { fences }));
  }

  fence(id: AtomId) {
    const { originator = 0 as EngineId, ownershipVersion = 0 } = this.context.catalog.atoms.get(id) ?? {};
    return { atom: id, originator, ownershipVersion } as ReturnType<typeof proposal>["fences"][0];
  }

  get held(): AtomId[] {
    return [...(this.context.catalog.atoms.held ?? [])].map(({ id }) => id);
  }

  uses(usage: Partial<Usage>): void {
    this.#usage = { ...quiet, ...usage };
  }

  /** Time passes, and the local store answers at once. Proposals wait for `decide`. */
  play(ms: number): void {
    for (let left = ms; left > 0; left -= 5) this.#answer(this.wait(5));
  }

  #answer(effects: readonly CoreEffect[]): void {
    for (const { message } of sentOf(effects)) {
      if (message.kind !== "propose") continue;
      const entry = decodeEntry(message.entry);
      if (entry.kind !== "proposal") continue;
      this.proposed.push(entry.body);
      this.#waiting.push(entry);
    }
    for (const effect of effects) {
      if (effect.kind !== "local") continue;
      const { call } = effect;
      if (call.kind === "usage") {
        this.cache.local.onReply({ kind: "usage", id: call.id, usage: this.#usage });
        this.#usage = { ...this.#usage, used: [] };
      } else if (call.kind === "dropRange") {
        this.given.push(call);
        this.cache.local.onReply({ kind: "dropped", id: call.id });
      } else continue;
      this.#answer(this.take());
    }
  }

  /** As the sequencer does, in order. */
  decide(): void {
    for (const entry of this.#waiting.splice(0)) {
      const reason = this.context.catalog.objection(entry);
      const { engine, proposalSeq } = entry;
      this.apply(reason === null ? entry : { kind: "refused", engine, proposalSeq, reason });
    }
    this.#answer(this.take());
  }
}

test("E1, E2: within the budget nothing goes; near it the order of use is kept up", () => {
  const scene = new Scene(atomCount * atomBytes);
  scene.uses({ used: [needOf(0, 2)] });
  scene.play(2000);
  expect(scene.proposed).toEqual([]);
  expect(scene.held.slice(-2)).toEqual([idOf(0), idOf(2)]);
});

test("E3, E5: above it the coldest go, down to the low mark, and their ranges are given up when that is applied", () => {
  const scene = new Scene(8 * atomBytes);
  scene.uses({ used: [needOf(0, 2)] });
  scene.play(50);
  expect(scene.proposed).toEqual([{ kind: "drop", atoms: [idOf(1), idOf(3), idOf(4)] }]);
  expect(scene.given).toEqual([]);
  scene.play(300);
  expect(scene.proposed.length).toBe(1);
  scene.decide();
  const ranges = scene.given.map((call) =>
    call.kind === "dropRange" ? [call.low, call.high].map((key) => Buffer.from(key ?? []).toString("latin1")) : [],
  );
  expect(ranges).toEqual([1, 3, 4].map((place) => [keyOf(place), keyOf(place + 1)]));
  scene.play(500);
  expect(scene.held.length).toBe(7);
  expect(scene.proposed.length).toBe(1);
  expect(scene.cache.eviction.counters).toMatchObject({ proposed: 1, atoms: 3, bytes: 3 * atomBytes, refused: 0, exceeded: 0 });
});

test("E4: what this Cache originates is handed over first, to the next ready holder or to an Archive", () => {
  const scene = new Scene(9 * atomBytes);
  for (const place of [0, 1]) scene.applyAs(2, { kind: "handoff", to: own as EngineId, atoms: [idOf(place)] });
  scene.applyAs(2, { kind: "drop", atoms: [idOf(1)] });
  scene.play(50);
  const archive = scene.proposed[1]?.kind === "handoff" ? scene.proposed[1].to : 0;
  expect(scene.proposed).toEqual([
    { kind: "handoff", to: 2, atoms: [idOf(0)] },
    { kind: "handoff", to: archive, atoms: [idOf(1)] },
    { kind: "drop", atoms: [idOf(2)] },
  ]);
  expect([1, 3]).toContain(archive);
  scene.decide();
  expect(scene.given.length).toBe(1);
  scene.play(50);
  expect(scene.proposed.slice(3)).toEqual([{ kind: "drop", atoms: [idOf(0), idOf(1)] }]);
  scene.decide();
  expect(scene.held.length).toBe(7);
  expect(scene.context.catalog.atoms.get(idOf(1))).toMatchObject({ originator: archive, holders: [] });
  expect(scene.cache.eviction.counters).toMatchObject({ handedOver: 2, refused: 0 });
});

test("E6: a DROP that another entry overtakes is refused, and the next one is of what is there then", () => {
  const scene = new Scene(9 * atomBytes);
  scene.play(50);
  expect(scene.proposed).toEqual([{ kind: "drop", atoms: [idOf(0), idOf(1), idOf(2)] }]);
  // Its originator leaves: this Cache is the next ready holder of all.
  scene.apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  scene.decide();
  expect(scene.given).toEqual([]);
  expect(scene.held.length).toBe(atomCount);
  scene.play(200);
  expect(scene.proposed.slice(1).map(({ kind }) => kind)).not.toContain("drop");
  expect(scene.cache.eviction.counters.refused).toBe(1);
  for (let round = 0; round < 5; round++) {
    scene.decide();
    scene.play(200);
  }
  expect(scene.held.length).toBe(7);
});

test("E6: without a majority of the voters as members nothing is dropped", () => {
  const scene = new Scene(9 * atomBytes);
  scene.apply({ kind: "voters", voters: [11, 12, 13] as never });
  scene.apply({ kind: "leave", engine: 1 as EngineId, ids: [] });
  scene.play(50);
  scene.decide();
  expect(scene.given).toEqual([]);
  expect(scene.cache.eviction.counters.refused).toBe(1);
  scene.apply(boot(9, 11));
  scene.play(200);
  scene.decide();
  expect(scene.given.length).toBe(3);
});

test("E7: what transactions have pulled, ids to be given and what joins stay; the budget is exceeded for their time", () => {
  const scene = new Scene(atomBytes);
  scene.uses({ ids: [needOf(0, 1)] });
  scene.cache.pulls.ensure([], () => {});
  const transactions = scene.cache.transactions;
  transactions.begin(1, [], { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n }, null);
  const run = scene.take().find((effect) => effect.kind === "local" && effect.call.kind === "run");
  if (run?.kind !== "local" || run.call.kind !== "run") throw new Error("nothing runs");
  // All of it is held: it runs again at once, and has needed it.
  scene.cache.local.onReply({ kind: "ran", id: run.call.id, result: { kind: "pull", needs: [needOf(2, 3, 4, 5, 6, 7, 8)] } });
  scene.play(50);
  expect(scene.proposed).toEqual([{ kind: "drop", atoms: [idOf(9)] }]);
  scene.decide();
  scene.play(300);
  expect(scene.proposed.length).toBe(1);
  expect(scene.cache.eviction.counters.exceeded).toBeGreaterThan(2);
  transactions.failAll("it ends");
  scene.play(50);
  expect(scene.proposed.slice(1)).toEqual([{ kind: "drop", atoms: [2, 3, 4, 5, 6, 7, 8].map(idOf) }]);
});

test("a table that is dropped meanwhile takes its atoms with it", () => {
  const scene = new Scene(9 * atomBytes);
  scene.play(50);
  const gone = { kind: "ddl", sql: "DROP TABLE t", upserts: [], drops: ["t"], touchedTables: [space], newAtoms: [] } as const;
  scene.apply(proposal(2, 9, { kind: "transaction", exists: [], parts: [gone] }));
  scene.decide();
  scene.play(500);
  expect([scene.given, scene.held]).toEqual([[], []]);
  expect(scene.context.catalog.atoms.held?.bytes).toBe(0);
});

test("a drop counts as one that needs its fences, and not by who originates", () => {
  const scene = new Scene(Number.POSITIVE_INFINITY);
  const { catalog } = scene.context;
  const objection = (engine: number, atoms: readonly AtomId[], fences = atoms.map((id) => scene.fence(id))) =>
    catalog.objection(proposal(engine, 9, { kind: "drop", atoms }, { fences }));
  expect(objection(own, [idOf(1), idOf(2)])).toBeNull();
  expect(objection(own, [idOf(1)], [])).toBe("malformed");
  expect(objection(2, [idOf(1)])).toBe("stale");
  expect(objection(own, [5 as AtomId])).toBe("fence");
  expect(objection(own, [idOf(1)], [{ ...scene.fence(idOf(1)), ownershipVersion: 1 as never }])).toBe("fence");
  expect(catalog.atoms.ofSpace(space as SpaceId).length).toBe(atomCount);
});
