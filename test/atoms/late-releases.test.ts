/** Releases and requests that arrive late, twice, or after their transaction is decided: resent messages and a connection that was made anew bring them. */
import { expect, test } from "vitest";
import { type PermissionRequest, PermissionTable } from "../../src/atoms/permission-table.js";
import { RecentKeys } from "../../src/atoms/recent-keys.js";
import type { EngineId, Seq, SpaceId } from "../../src/base/ids.js";

const space = 7 as SpaceId;

function ask(engine: number, transaction: number, attempt: number, more: Partial<PermissionRequest> = {}): PermissionRequest {
  return {
    engine: engine as EngineId,
    transaction,
    attempt,
    age: { beginMs: transaction, engine: engine as EngineId, counter: transaction },
    snapshot: 10 as Seq,
    items: [{ space, key: "a", use: "write" }],
    wholeSpaces: [],
    holdsNothing: true,
    ...more,
  };
}

const table = (): PermissionTable => new PermissionTable(new RecentKeys(0 as Seq));
const one = 1 as EngineId;

test("a release that is sent again does not end what a later attempt was granted", () => {
  const desk = table();
  desk.request(ask(1, 1, 1));
  desk.release(one, 1, 1);
  expect(desk.request(ask(1, 1, 2))).toEqual({ kind: "granted" });
  desk.release(one, 1, 1);
  expect(desk.request(ask(2, 2, 1))).toBeNull();
  desk.release(one, 1, 2);
  expect(desk.answerWaiting()).toEqual([{ engine: 2, transaction: 2, attempt: 1, outcome: { kind: "granted" } }]);
});

test("an older release does not open a closed attempt again", () => {
  const desk = table();
  desk.release(one, 1, 5);
  desk.release(one, 1, 2);
  expect(desk.request(ask(1, 1, 4))).toEqual({ kind: "tooYoung" });
});

test("what a transaction still waits for when it is decided is never granted: nobody would give it back", () => {
  const desk = table();
  desk.request(ask(2, 9, 1));
  expect(desk.request(ask(1, 1, 1))).toBeNull();
  // It was granted elsewhere meanwhile, the atom having moved, and is committed.
  desk.decided(one, 1);
  desk.decided(2 as EngineId, 9);
  expect(desk.answerWaiting()).toEqual([]);
  expect(desk.grantCount).toBe(0);
});

test("a request that arrives after its transaction was decided is void", () => {
  const desk = table();
  desk.request(ask(1, 1, 1));
  desk.decided(one, 1);
  expect(desk.request(ask(1, 1, 2))).toEqual({ kind: "tooYoung" });
  expect(desk.grantCount).toBe(0);
});
