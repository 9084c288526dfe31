import { expect, test } from "vitest";
import { type PermissionItem, type PermissionRequest, PermissionTable } from "../../src/atoms/permission-table.js";
import { RecentKeys, recentKeysMax } from "../../src/atoms/recent-keys.js";
import type { EngineId, Seq, SpaceId } from "../../src/base/ids.js";

const space = 7 as SpaceId;
const seq = (n: number): Seq => n as Seq;

function item(key: string, use: PermissionItem["use"] = "write"): PermissionItem {
  return { space, key, use };
}

function ask(transaction: number, items: PermissionItem[], more: Partial<PermissionRequest> = {}): PermissionRequest {
  const engine = more.engine ?? (1 as EngineId);
  return {
    engine,
    transaction,
    attempt: 1,
    age: { beginMs: transaction, engine, counter: transaction },
    snapshot: seq(10),
    items,
    wholeSpaces: [],
    holdsNothing: false,
    ...more,
  };
}

function setUp(): { recent: RecentKeys; table: PermissionTable } {
  const recent = new RecentKeys(seq(5));
  return { recent, table: new PermissionTable(recent) };
}

test("row 'changed since its snapshot': refused, naming the seq to reach", () => {
  const { recent, table } = setUp();
  recent.note(seq(12), space, "a", "write");
  expect(table.request(ask(1, [item("a")]))).toEqual({ kind: "conflict", reach: 12 });
  expect(table.request(ask(1, [item("a")], { attempt: 2, snapshot: seq(12) }))).toEqual({ kind: "granted" });
});

test("row 'granted all the same': who runs again finds its keys its own, and all others wait meanwhile without running", () => {
  const { recent, table } = setUp();
  table.request(ask(1, [item("hot")]));
  for (const transaction of [2, 3, 4]) expect(table.request(ask(transaction, [item("hot")], { holdsNothing: true }))).toBeNull();
  recent.note(seq(20), space, "hot", "write");
  table.decided(1 as EngineId, 1);
  expect(table.answerWaiting()).toEqual([{ engine: 1, transaction: 2, attempt: 1, outcome: { kind: "conflict", reach: 20 } }]);
  expect(table.answerWaiting()).toEqual([]);
  expect(table.request(ask(2, [item("hot")], { attempt: 2, snapshot: seq(20) }))).toEqual({ kind: "granted" });
  // One that does not come back gives its keys up.
  table.release(1 as EngineId, 2, 2);
  expect(table.answerWaiting().map(({ transaction }) => transaction)).toEqual([3]);
});

test("who holds something does not wait for a younger one that holds nothing, which waits for anybody: no circle comes of it, though both began at once", () => {
  const [here, there] = [setUp().table, setUp().table];
  here.request(ask(1, [item("a")]));
  there.request(ask(5, [item("c")]));
  const age = { beginMs: 5, engine: 1 as EngineId, counter: 6 };
  expect(here.request(ask(6, [item("a"), item("b")], { age, holdsNothing: true }))).toBeNull();
  expect(there.request(ask(1, [item("c")]))).toBeNull();
  // The first one waits for it.
  expect(here.request(ask(5, [item("b")]))).toEqual({ kind: "granted" });
});

test("a key that has changed and is granted to another: waits, or steps back, as if it had not", () => {
  const { recent, table } = setUp();
  table.request(ask(5, [item("a")]));
  recent.note(seq(20), space, "a", "write");
  expect(table.request(ask(3, [item("a")]))).toBeNull();
  expect(table.request(ask(9, [item("a")]))).toEqual({ kind: "tooYoung" });
});

test("an unknown key counts as changed at the floor", () => {
  const { table } = setUp();
  expect(table.request(ask(1, [item("a")], { snapshot: seq(4) }))).toEqual({ kind: "conflict", reach: 5 });
});

test("row 'keys granted to others, and it is older': waits, and goes on when they end", () => {
  const { table } = setUp();
  expect(table.request(ask(9, [item("a")]))).toEqual({ kind: "granted" });
  expect(table.request(ask(3, [item("a")]))).toBeNull();
  expect(table.answerWaiting()).toEqual([]);
  table.decided(1 as EngineId, 9);
  expect(table.answerWaiting()).toEqual([{ engine: 1, transaction: 3, attempt: 1, outcome: { kind: "granted" } }]);
});

test("row 'refused for its age': younger than the holder and holding elsewhere", () => {
  const { table } = setUp();
  table.request(ask(3, [item("a")]));
  expect(table.request(ask(9, [item("a")]))).toEqual({ kind: "tooYoung" });
});

/** Who is granted "a", one after another, once `first` is decided. */
function served(table: PermissionTable, first: number): number[] {
  const order: number[] = [];
  for (let last: number | undefined = first; last !== undefined; last = order.at(-1)) {
    table.decided(1 as EngineId, last);
    const answers = table.answerWaiting();
    if (answers.length === 0) break;
    order.push(...answers.map(({ transaction }) => transaction));
  }
  return order;
}

test("row 'it holds nothing anywhere': waits though younger, and in the order of arrival, whatever the clocks say", () => {
  const { table } = setUp();
  table.request(ask(3, [item("a")]));
  for (const transaction of [9, 5, 12, 4]) expect(table.request(ask(transaction, [item("a")], { holdsNothing: true }))).toBeNull();
  expect(served(table, 3)).toEqual([9, 5, 12, 4]);
});

test("who has been granted the key asks again in front of all who wait for it, older or not", () => {
  const { recent, table } = setUp();
  table.request(ask(3, [item("a")]));
  for (const transaction of [9, 5, 12]) table.request(ask(transaction, [item("a")], { holdsNothing: true }));
  recent.note(seq(20), space, "a", "write");
  table.decided(1 as EngineId, 3);
  expect(table.answerWaiting()).toMatchObject([{ transaction: 9, outcome: { kind: "conflict", reach: 20 } }]);
  expect(table.request(ask(9, [item("a")], { attempt: 2, snapshot: seq(20) }))).toEqual({ kind: "granted" });
});

test("who asks again keeps the place", () => {
  const { table } = setUp();
  table.request(ask(3, [item("a")]));
  for (const transaction of [9, 5, 12]) table.request(ask(transaction, [item("a")], { holdsNothing: true }));
  for (const transaction of [5, 9]) expect(table.request(ask(transaction, [item("a")], { holdsNothing: true, attempt: 2 }))).toBeNull();
  expect(served(table, 3)).toEqual([9, 5, 12]);
});

test("who holds something is served before all who are younger, and waits for nobody who is older", () => {
  const { table } = setUp();
  table.request(ask(10, [item("a")]));
  for (const transaction of [12, 6]) table.request(ask(transaction, [item("a")], { holdsNothing: true }));
  expect(table.request(ask(8, [item("a")]))).toBeNull();
  expect(served(table, 10)).toEqual([8, 12, 6]);
  const other = setUp().table;
  other.request(ask(10, [item("a")]));
  other.request(ask(6, [item("a")], { holdsNothing: true }));
  expect(other.request(ask(8, [item("a")]))).toEqual({ kind: "tooYoung" });
});

test("who waited for a commit conflicts with it afterwards", () => {
  const { recent, table } = setUp();
  table.request(ask(3, [item("a")]));
  table.request(ask(9, [item("a")], { holdsNothing: true }));
  recent.note(seq(20), space, "a", "write");
  table.decided(1 as EngineId, 3);
  expect(table.answerWaiting()[0]?.outcome).toEqual({ kind: "conflict", reach: 20 });
});

test("exist is shared with exist and with a write in place, and blocks a delete", () => {
  const { table } = setUp();
  expect(table.request(ask(1, [item("p", "exist")]))).toEqual({ kind: "granted" });
  expect(table.request(ask(2, [item("p", "exist")]))).toEqual({ kind: "granted" });
  expect(table.request(ask(3, [item("p", "write")]))).toEqual({ kind: "granted" });
  expect(table.request(ask(4, [item("p", "delete")]))).toEqual({ kind: "tooYoung" });
});

test("a committed exist disturbs a delete at an older snapshot, not a write", () => {
  const { recent, table } = setUp();
  recent.note(seq(15), space, "p", "exist");
  expect(table.request(ask(1, [item("p", "delete")]))).toEqual({ kind: "conflict", reach: 15 });
  table.release(1 as EngineId, 1, 1);
  expect(table.request(ask(2, [item("p", "write")]))).toEqual({ kind: "granted" });
});

test("a whole table keeps writers out, and they it", () => {
  const { table } = setUp();
  table.request(ask(1, [item("a")]));
  expect(table.request(ask(2, [], { wholeSpaces: [space] }))).toEqual({ kind: "tooYoung" });
  table.decided(1 as EngineId, 1);
  expect(table.request(ask(2, [], { wholeSpaces: [space], attempt: 2 }))).toEqual({ kind: "granted" });
  expect(table.request(ask(3, [item("b")]))).toEqual({ kind: "tooYoung" });
});

test("a release closes its attempt: what arrives late of it is void, a later attempt is not", () => {
  const { table } = setUp();
  table.release(1 as EngineId, 4, 2);
  expect(table.request(ask(4, [item("a")], { attempt: 2 }))).toEqual({ kind: "tooYoung" });
  expect(table.request(ask(4, [item("a")], { attempt: 3 }))).toEqual({ kind: "granted" });
});

test("grants end with their engine", () => {
  const { table } = setUp();
  table.request(ask(1, [item("a")]));
  table.departed(1 as EngineId);
  expect(table.grantCount).toBe(0);
  expect(table.request(ask(2, [item("a")], { engine: 2 as EngineId }))).toEqual({ kind: "granted" });
});

test("an id block keeps off grants, and is refused where one is", () => {
  const { table } = setUp();
  table.request(ask(1, [item("c")]));
  expect(table.block(space, "a", "d")).toBeNull();
  const unblock = table.block(space, "d", "h");
  expect(table.request(ask(2, [item("e")], { holdsNothing: true }))).toBeNull();
  unblock?.();
  expect(table.answerWaiting()[0]?.outcome).toEqual({ kind: "granted" });
});

test("what is forgotten raises the floor: nothing old is granted", () => {
  const recent = new RecentKeys(seq(0));
  for (let n = 1; n <= recentKeysMax; n++) recent.note(seq(n), space, `k${n}`, "write");
  expect(recent.size).toBe(recentKeysMax / 2);
  expect(recent.newerThan(seq(3), space, "k1", "write")).toBe(recentKeysMax / 2);
  expect(recent.newerThan(seq(recentKeysMax / 2), space, "k1", "write")).toBe(0);
});
