import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, Seq } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { Demotions, demoteEveryMs } from "../../src/engines/demotions.js";
import type { DemoteEntry, Entry, Fence } from "../../src/messages/wire/entry.js";
import { atom, boot, CacheParts, createTable, proposal, space } from "./engine-parts.js";

/** Archives 1 (the sequencer) and 2, Caches 3 and 4 and 5; Cache 3 made the table, 4 holds it, 5 does not. */
class History {
  readonly catalog = new Catalog();
  readonly demotions = new Demotions();
  #seq = 0;

  constructor() {
    const entries: Entry[] = [boot(1, 11), boot(2, 12), boot(3), boot(4), boot(5), proposal(3, 1, createTable())];
    for (const entry of entries) this.apply(entry);
    this.apply(proposal(4, 1, { kind: "hold", atoms: [atom] }));
    this.apply(proposal(4, 2, { kind: "ready", atoms: [atom] }));
  }

  apply(entry: Entry): Seq {
    this.catalog.apply(++this.#seq as Seq, entry);
    return this.#seq as Seq;
  }

  get fence(): Fence {
    const { id, originator, ownershipVersion } = this.catalog.atoms.get(atom) ?? {
      id: 0 as AtomId,
      originator: 0 as EngineId,
      ownershipVersion: 0 as Seq,
    };
    return { atom: id, originator, ownershipVersion };
  }

  complain(engine: number, nowMs: number, fence = this.fence): readonly DemoteEntry[] {
    const entries = this.demotions.decide(
      this.catalog,
      1 as EngineId,
      { kind: "silentOriginator", engine: engine as EngineId, fences: [fence] },
      nowMs,
    );
    for (const entry of entries) this.apply(entry);
    return entries;
  }
}

test("who complains and is a ready holder originates; the accused stands behind all others", () => {
  const h = new History();
  expect(h.complain(4, 0)).toEqual([{ kind: "demote", from: 3, to: 4, atoms: [atom] }]);
  expect(h.catalog.atoms.get(atom)).toMatchObject({
    originator: 4,
    ownershipVersion: 9,
    holders: [
      { engine: 4, state: "ready" },
      { engine: 3, state: "ready" },
    ],
  });
});

test("who complains and holds nothing is given the sequencer", () => {
  const h = new History();
  expect(h.complain(5, 0)).toEqual([{ kind: "demote", from: 3, to: 1, atoms: [atom] }]);
  expect(h.catalog.atoms.get(atom)).toMatchObject({ originator: 1, holders: [{ engine: 4 }, { engine: 3 }] });
});

test("what has moved meanwhile is no matter: the complaint names an ownership version", () => {
  const h = new History();
  const old = h.fence;
  h.complain(5, 0);
  expect(h.complain(4, 10 * demoteEveryMs, old)).toEqual([]);
});

test("the sequencer does not demote itself: the complaint has reached it", () => {
  const h = new History();
  h.complain(5, 0);
  expect(h.fence.originator).toBe(1);
  expect(h.complain(4, 10 * demoteEveryMs)).toEqual([]);
});

test("an atom is not passed to and fro faster than its bound", () => {
  const h = new History();
  h.apply(proposal(5, 1, { kind: "hold", atoms: [atom] }));
  h.apply(proposal(5, 2, { kind: "ready", atoms: [atom] }));
  let moves = 0;
  for (let nowMs = 0; nowMs <= 3 * demoteEveryMs; nowMs += 100) for (const asker of [4, 5]) moves += h.complain(asker, nowMs).length;
  expect(moves).toBe(4);
});

test("who is no member is not heard", () => {
  const h = new History();
  h.apply({ kind: "leave", engine: 5 as EngineId, ids: [] });
  expect(h.complain(5, 0)).toEqual([]);
});

test("a DEMOTE to one that has left meanwhile, or of one that does not originate any more, changes nothing", () => {
  const h = new History();
  const before = h.catalog.dump();
  h.apply({ kind: "demote", from: 3 as EngineId, to: 99 as EngineId, atoms: [atom] });
  h.apply({ kind: "demote", from: 4 as EngineId, to: 1 as EngineId, atoms: [atom] });
  h.apply({ kind: "demote", from: 3 as EngineId, to: 5 as EngineId, atoms: [atom, 77 as AtomId] });
  expect(h.catalog.dump()).toEqual(before);
});

/** The Cache under test (99) asks e2, which made the table. */
class Asking extends CacheParts {
  constructor() {
    super();
    this.apply(boot(1, 11));
    this.apply(boot(2));
    this.apply(boot(99));
    this.apply(proposal(2, 1, createTable()));
    this.take();
  }

  told(ms: number): number {
    return this.wait(ms).filter((effect) => effect.kind === "send" && effect.payload[0] === 86).length;
  }
}

/** The Cache under test (99) originates the table; e2 asks it for row 1. */
class Asked extends CacheParts {
  constructor() {
    super();
    this.apply(boot(1, 11));
    this.apply(boot(2));
    this.apply(boot(99));
    this.apply(proposal(3, 1, createTable()));
    this.take();
  }

  ask(transaction: number, attempt: number, beginMs: number): unknown[] {
    const key = integerKey(1n).toString("latin1");
    this.desk.onMessage("e2" as Endpoint, {
      kind: "permissionRequest",
      engine: 2 as EngineId,
      transaction,
      attempt,
      ageBeginMs: beginMs,
      ageCounter: transaction,
      snapshot: this.context.appliedSeq,
      applied: this.context.position,
      holdsNothing: false,
      fences: [{ atom, originator: 3 as EngineId, ownershipVersion: 4 as Seq }],
      items: [{ space, key, use: "write" }],
      wholeSpaces: [],
    });
    return this.sent().map(({ message }) => message);
  }
}

test("who waits and asks again is told that it waits, so that patience is not taken for silence", () => {
  const c = new Asked();
  expect(c.ask(1, 1, 20)).toMatchObject([{ outcome: "granted" }]);
  expect(c.ask(2, 1, 10)).toEqual([]);
  expect(c.ask(2, 2, 10)).toMatchObject([{ transaction: 2, attempt: 2, outcome: "waits" }]);
});

test("who waits at an originator that is deposed is sent on at once", () => {
  const c = new Asked();
  c.ask(1, 1, 20);
  c.ask(2, 1, 10);
  const seq = c.apply({ kind: "demote", from: 3 as EngineId, to: 1 as EngineId, atoms: [atom] });
  expect(c.sent().map(({ message }) => message)).toMatchObject([
    { kind: "permissionReply", transaction: 2, attempt: 1, outcome: "moved", reach: seq },
  ]);
  // What it had granted is of no use any more, and ends as ever.
  c.desk.release(2 as EngineId, 1, 1);
  expect(c.desk.table.grantCount).toBe(0);
});

test("ids that nobody gives: the sequencer hears of the table's originator after a second", () => {
  const c = new Asking();
  c.cache.ids.want(space, () => {});
  expect(c.told(900)).toBe(0);
  expect(c.told(600)).toBe(1);
  expect(c.told(3000)).toBeLessThan(5);
});
