import { expect, test } from "vitest";
import type { ClusterId, Endpoint, Nonce } from "../../../src/base/ids.js";
import { type Choice, chooseConnection, type Held } from "../../../src/messages/network/connection-choice.js";
import type { Hello } from "../../../src/messages/network/hello.js";

const self = { endpoint: "10.0.0.5:1" as Endpoint, nonce: 50 as Nonce };
const lower = "10.0.0.4:1" as Endpoint;
const higher = "10.0.0.6:1" as Endpoint;
const base = { kind: "hello", clusterId: "00112233445566aa" as ClusterId, nonce: 60 as Nonce, takenDialNumber: 0, takenDialNonce: 0 } as const;
const fromHigher: Hello = { ...base, endpoint: higher, dialNumber: 7 };
const fromLower: Hello = { ...base, endpoint: lower, dialNumber: 7 };
const tookOur3: Hello = { ...fromHigher, takenDialNumber: 3, takenDialNonce: 50 };

const dial3 = { kind: "dial", dialNumber: 3, helloSent: true } as const;
const ours3 = { kind: "connection", nonce: 60 as Nonce, openedByUs: true, dialNumber: 3 } as const;
const theirs = (dialNumber: number): Held => ({ kind: "connection", nonce: 60 as Nonce, openedByUs: false, dialNumber });

const cases: readonly [row: Choice["row"], held: Held, hello: Hello, take: boolean][] = [
  ["nothing", { kind: "nothing" }, fromHigher, true],
  ["dial unsaid", { ...dial3, helloSent: false }, fromHigher, true],
  ["dial lost", dial3, tookOur3, true],
  ["dial wins", dial3, fromHigher, false],
  // What it took of a former process of ours, with other numbers, says nothing.
  ["dial wins", dial3, { ...tookOur3, takenDialNonce: 49 }, false],
  ["dial wins", { ...dial3, dialNumber: 4 }, tookOur3, false],
  ["dial yields", dial3, fromLower, true],
  ["restarted", { ...ours3, nonce: 61 as Nonce }, fromHigher, true],
  ["theirs newer", theirs(6), fromHigher, true],
  ["theirs older", theirs(8), fromHigher, false],
  ["theirs older", theirs(7), fromHigher, false],
  ["ours lost", ours3, tookOur3, true],
  ["ours unknown", ours3, fromHigher, false],
  ["ours unknown", { ...ours3, dialNumber: 4 }, tookOur3, false],
];

for (const [row, held, hello, take] of cases) {
  test(`${row}: ${take ? "take" : "refuse"}, having ${JSON.stringify(held)}, taken ${hello.takenDialNumber}`, () => {
    expect(chooseConnection(self, held, hello)).toEqual({ take, row });
  });
}
