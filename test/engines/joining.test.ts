import { expect, test } from "vitest";
import type { Endpoint, EngineId, NodeId, Nonce, Seq, Term } from "../../src/base/ids.js";
import type { LogPosition } from "../../src/base/log-entry.js";
import type { Random } from "../../src/base/random.js";
import { type Acknowledged, Joining, type JoiningEffect, partsUntakenMax } from "../../src/engines/joining.js";
import {
  type CatalogRequestMessage,
  decodeEngineMessage,
  type EngineMessage,
  encodeEngineMessage,
  type TransferRequestMessage,
} from "../../src/messages/wire/engine-messages.js";
import { formatVersion } from "../../src/messages/wire/entry.js";

const [s1, s2] = ["s1" as Endpoint, "s2" as Endpoint];
/** Always the source that was heard first. */
const first: Random = { integer: () => 0 } as unknown as Random;

function at(seq: number): LogPosition {
  return { seq: seq as Seq, term: 1 as Term, hash: `hash${seq}` } as unknown as LogPosition;
}

function announce(appliedSeq: number): EngineMessage {
  return {
    kind: "announce",
    engineKind: "archive",
    nodeId: 1 as NodeId,
    nonce: 1 as Nonce,
    engine: 1 as EngineId,
    sequencer: "",
    term: 1 as Term,
    commitSeq: appliedSeq as Seq,
    appliedSeq: appliedSeq as Seq,
    atomsHeld: 0,
    formatVersion,
    canServe: true,
    oldestSnapshot: 0 as Seq,
    versions: 0,
    versionBytes: 0,
    versionFloor: 0 as Seq,
    sweptVersions: 0,
    sweptBytes: 0,
    largeValues: 0,
    largeValueBytes: 0,
    openTransaction: 0,
    openMs: 0,
    by: "",
    parent: "",
  };
}

class Transferring {
  readonly joining: Joining;
  nowMs = 0;

  constructor(acknowledged = { seq: 0, term: 0 }) {
    this.joining = new Joining("archive", first, { acknowledged: acknowledged as unknown as Acknowledged });
  }

  hear(from: Endpoint, message: EngineMessage): readonly JoiningEffect[] {
    return this.joining.step({ kind: "message", nowMs: this.nowMs, from, payload: encodeEngineMessage(message) });
  }

  part(from: Endpoint, transfer: number, position: LogPosition, cursor: string, next: string, part = "rows"): readonly JoiningEffect[] {
    return this.hear(from, { kind: "transferReply", transfer, position, cursor, part: Buffer.from(part), next });
  }

  /** The first source dies; the other one is chosen. */
  lose(from: Endpoint): readonly JoiningEffect[] {
    this.joining.step({ kind: "disconnected", nowMs: this.nowMs, endpoint: from });
    return this.joining.step({ kind: "tick", nowMs: this.nowMs });
  }
}

function requests(effects: readonly JoiningEffect[]): (TransferRequestMessage & { readonly to: Endpoint })[] {
  return effects.flatMap((effect) => {
    if (effect.kind !== "send") return [];
    const message = decodeEngineMessage(effect.payload);
    return message.kind === "transferRequest" ? [{ ...message, to: effect.to }] : [];
  });
}

function parts(effects: readonly JoiningEffect[]): { seq: number; restart: boolean; last: boolean }[] {
  return effects.flatMap((effect) => (effect.kind === "part" ? [{ seq: effect.position.seq, restart: effect.restart, last: effect.last }] : []));
}

test("another source's store is of another seq: what was taken in before is void", () => {
  const j = new Transferring();
  j.hear(s1, announce(10));
  j.hear(s2, announce(20));
  expect(parts(j.part(s1, 1, at(10), "", "a"))).toEqual([{ seq: 10, restart: true, last: false }]);
  expect(requests(j.lose(s1))).toMatchObject([{ to: s2, cursor: "a" }]);
  // s2 has a transfer of that number open, for somebody else, of its own seq.
  expect(parts(j.part(s2, 1, at(20), "a", "b"))).toEqual([]);
  const again = requests(j.joining.step({ kind: "tick", nowMs: 20 }));
  expect(again).toMatchObject([{ to: s2, transfer: 0, cursor: "" }]);
  expect(parts(j.part(s2, 2, at(20), "", "a"))).toEqual([{ seq: 20, restart: true, last: false }]);
  expect(parts(j.part(s2, 2, at(20), "a", "", ""))).toEqual([{ seq: 20, restart: false, last: true }]);
});

test("an Archive whose disk is slower than the network asks for no more than it can take in", () => {
  const j = new Transferring();
  const taken = () => j.joining.step({ kind: "taken", nowMs: j.nowMs });
  j.hear(s1, announce(10));
  let asked = "";
  let came = 0;
  // Every question is answered at once, nothing is taken in.
  for (let effects = j.part(s1, 1, at(10), asked, `${++came}`); requests(effects).length > 0; effects = j.part(s1, 1, at(10), asked, `${++came}`)) {
    asked = requests(effects)[0]?.cursor ?? "";
    expect(came).toBeLessThan(100);
  }
  expect(came).toBe(partsUntakenMax);
  // However long that takes, the source is not given up for it; nor is it asked.
  j.nowMs = 60_000;
  j.hear(s1, announce(10));
  expect(requests(j.joining.step({ kind: "tick", nowMs: j.nowMs }))).toEqual([]);
  expect(requests(taken())).toMatchObject([{ to: s1, transfer: 1, cursor: `${came}` }]);
  // One was taken in, so one may come.
  expect(requests(taken())).toEqual([]);
});

test("an Archive that was busy with its disk when its source died goes on with another one", () => {
  const j = new Transferring();
  j.hear(s1, announce(10));
  j.hear(s2, announce(10));
  for (let part = 0; part < partsUntakenMax; part++) j.part(s1, 1, at(10), part === 0 ? "" : `${part}`, `${part + 1}`);
  expect(requests(j.lose(s1))).toEqual([]);
  expect(requests(j.joining.step({ kind: "taken", nowMs: 10 }))).toEqual([]);
  expect(requests(j.joining.step({ kind: "tick", nowMs: 20 }))).toMatchObject([{ to: s2, cursor: `${partsUntakenMax}` }]);
});

test("a source of the same seq goes on where the other one stopped", () => {
  const j = new Transferring();
  j.hear(s1, announce(10));
  j.hear(s2, announce(10));
  j.part(s1, 1, at(10), "", "a");
  j.lose(s1);
  expect(parts(j.part(s2, 1, at(10), "a", "b"))).toEqual([{ seq: 10, restart: false, last: false }]);
});

test("a voter takes no store that is behind what it has acknowledged: a majority may count on it", () => {
  const j = new Transferring({ seq: 15, term: 1 });
  expect(requests(j.hear(s1, announce(10)))).toEqual([]);
  expect(requests(j.hear(s2, announce(15)))).toMatchObject([{ to: s2 }]);
  // It had said so, but its store is behind.
  expect(parts(j.part(s2, 1, at(12), "", "a"))).toEqual([]);
  expect(requests(j.hear(s2, announce(15)))).toMatchObject([{ to: s2, transfer: 0, cursor: "" }]);
  expect(parts(j.part(s2, 2, at(15), "", "a"))).toEqual([{ seq: 15, restart: true, last: false }]);
});

test("a store of a later term has all that was committed: it will do though the voter's own tail is longer", () => {
  const j = new Transferring({ seq: 15, term: 0 });
  expect(requests(j.hear(s1, announce(10)))).toMatchObject([{ to: s1 }]);
  expect(parts(j.part(s1, 1, at(10), "", "a"))).toEqual([{ seq: 10, restart: true, last: false }]);
});

function catalogRequests(effects: readonly JoiningEffect[]): (CatalogRequestMessage & { readonly to: Endpoint })[] {
  return effects.flatMap((effect) => {
    if (effect.kind !== "send") return [];
    const message = decodeEngineMessage(effect.payload);
    return message.kind === "catalogRequest" ? [{ ...message, to: effect.to }] : [];
  });
}

test("an engine that was given contacts seeks there too, and at whom these name", () => {
  const joining = new Joining("cache", first, { contacts: [s1] });
  const sought = (nowMs: number) =>
    joining.step({ kind: "tick", nowMs }).flatMap((effect) => (effect.kind === "send" && effect.channel === "datagram" ? [effect.to] : []));
  expect(sought(0)).toEqual([s1]);
  const named = encodeEngineMessage({ kind: "contacts", endpoints: [s2, s1] });
  joining.step({ kind: "message", nowMs: 10, from: s1, payload: named });
  expect(sought(200)).toEqual([s1, s2]);
  // Bounded, however many are named, and a few of them in turn.
  const many = Array.from({ length: 200 }, (_, index) => `x${index}` as Endpoint);
  joining.step({ kind: "message", nowMs: 210, from: s1, payload: encodeEngineMessage({ kind: "contacts", endpoints: many }) });
  const asked = new Set<Endpoint>();
  for (let nowMs = 400; nowMs < 4000; nowMs += 100) for (const to of sought(nowMs)) asked.add(to);
  expect(asked.size).toBe(64);
});

/** A Cache that takes the root catalog, with numbers of questions of its own. */
class Beginning {
  readonly joining: Joining;
  #questions = 0;
  nowMs = 0;

  constructor() {
    const random = { integer: (below: number) => (below > 100 ? ++this.#questions : 0) } as unknown as Random;
    this.joining = new Joining("cache", random, { catalogPartBytes: 500 });
  }

  hear(from: Endpoint, message: EngineMessage): readonly JoiningEffect[] {
    return this.joining.step({ kind: "message", nowMs: this.nowMs, from, payload: encodeEngineMessage(message) });
  }

  part(request: CatalogRequestMessage & { readonly to: Endpoint }, seq: number, name: string, isLast: boolean, read = 5): readonly JoiningEffect[] {
    const records = new Map([[name, Buffer.from([seq])]]);
    const { pull, catalog, part } = request;
    return this.hear(request.to, { kind: "catalog", pull, catalog, read, part, position: at(seq), records, isLast });
  }
}

test("the root catalog comes in parts of one source; where that is lost, silent or has given it up, all begins again with another", () => {
  const j = new Beginning();
  const [first] = catalogRequests(j.hear(s1, announce(10)));
  j.hear(s2, announce(10));
  if (first === undefined) throw new Error("nobody was asked");
  expect(first).toMatchObject({ to: s1, catalog: 0, read: 0, part: 0, bytesMax: 500 });
  const [second] = catalogRequests(j.part(first, 10, "old", false));
  if (second === undefined) throw new Error("the rest was not asked for");
  expect(second).toMatchObject({ to: s1, read: 5, part: 1 });
  j.joining.step({ kind: "disconnected", nowMs: 0, endpoint: s1 });
  const [other] = catalogRequests(j.joining.step({ kind: "tick", nowMs: 0 }));
  if (other === undefined) throw new Error("the other one was not asked");
  expect(other).toMatchObject({ to: s2, read: 0, part: 0 });
  // Late, from the first one.
  expect(j.part(second, 10, "late", true)).toEqual([]);
  const [given] = catalogRequests(j.part(other, 11, "old", false, 6));
  if (given === undefined) throw new Error("the rest was not asked for");
  expect(j.part(given, 11, "", false, 0)).toEqual([]);
  expect(catalogRequests(j.joining.step({ kind: "tick", nowMs: 0 }))).toMatchObject([{ to: s2, read: 0, part: 0 }]);
});

test("a root catalog is of one seq: an Archive that has started over counts its reads anew, and has another one under that number", () => {
  const j = new Beginning();
  const [first] = catalogRequests(j.hear(s1, announce(10)));
  if (first === undefined) throw new Error("nobody was asked");
  const [second] = catalogRequests(j.part(first, 10, "a", false));
  if (second === undefined) throw new Error("the rest was not asked for");
  expect(j.part(second, 11, "b", true)).toEqual([]);
  const [again] = catalogRequests(j.joining.step({ kind: "tick", nowMs: 0 }));
  if (again === undefined) throw new Error("nobody was asked again");
  expect(again).toMatchObject({ to: s1, read: 0, part: 0 });
  const [catalog] = j.part(again, 11, "c", true);
  expect(catalog?.kind === "catalog" && [...catalog.records.keys()]).toEqual(["c"]);
});

test("a root catalog that is whole has the records of its own parts alone", () => {
  const j = new Beginning();
  const [first] = catalogRequests(j.hear(s1, announce(10)));
  if (first === undefined) throw new Error("nobody was asked");
  const [second] = catalogRequests(j.part(first, 10, "a", false));
  if (second === undefined) throw new Error("the rest was not asked for");
  // Silent: the one source is asked anew, when it has been heard again.
  j.joining.step({ kind: "tick", nowMs: 3100 });
  j.nowMs = 3200;
  const [again] = catalogRequests(j.hear(s1, announce(20)));
  if (again === undefined) throw new Error("nobody was asked again");
  expect(again).toMatchObject({ read: 0, part: 0 });
  expect(j.part(second, 10, "b", true)).toEqual([]);
  const [last] = catalogRequests(j.part(again, 20, "c", false));
  if (last === undefined) throw new Error("the rest was not asked for");
  const [catalog] = j.part(last, 20, "d", true);
  expect(catalog).toMatchObject({ kind: "catalog", position: { seq: 20 } });
  expect(catalog?.kind === "catalog" && [...catalog.records.keys()]).toEqual(["c", "d"]);
});

test("a source that stands still for some seconds goes on with its copy; one that is silent for longer is given up", () => {
  const t = new Transferring();
  t.hear(s1, announce(5));
  expect(requests(t.part(s1, 7, at(5), "", "c1"))).toMatchObject([{ to: s1, transfer: 7, cursor: "c1" }]);
  const wait = (ms: number): readonly JoiningEffect[] => {
    t.nowMs += ms;
    t.hear(s2, announce(5));
    return t.joining.step({ kind: "tick", nowMs: t.nowMs });
  };
  expect(requests(wait(10_000))).toEqual([]);
  expect(requests(t.part(s1, 7, at(5), "c1", "c2"))).toMatchObject([{ to: s1, transfer: 7, cursor: "c2" }]);
  expect(requests(wait(10_000))).toEqual([]);
  expect(requests(wait(6000))).toMatchObject([{ to: s2 }]);
});
