import { expect, test } from "vitest";
import type { Endpoint } from "../../../src/base/ids.js";
import { seededRandom } from "../../../src/base/random.js";
import { datagramFaults, parseFaults } from "../../../src/messages/network/datagram-faults.js";

const payload = Buffer.from("anything");
const near = "10.0.1.3:7000" as Endpoint;
const far = "10.0.2.3:7000" as Endpoint;

function share(happens: () => boolean): number {
  const count = 20_000;
  return Array.from({ length: count }, happens).filter(Boolean).length / count;
}

test("datagrams are lost, doubled and late as often as asked for; those of another network all are late", () => {
  const faults = datagramFaults(parseFaults("loss=1.5,double=10,reorder=20,far=50"), "10.0.1.2", seededRandom(1));
  expect(share(() => faults.drop(payload, near))).toBeCloseTo(0.015, 2);
  expect(share(() => faults.duplicate?.(payload, near) === true)).toBeCloseTo(0.1, 1);
  expect(share(() => (faults.delayMs?.(payload, near) ?? 0) > 0)).toBeCloseTo(0.2, 1);
  expect(share(() => (faults.delayMs?.(payload, far) ?? 0) >= 50)).toBe(1);
});

test("what is not named does not happen", () => {
  const faults = datagramFaults(parseFaults("far=5"), "10.0.1.2", seededRandom(1));
  expect(share(() => faults.drop(payload, near) || faults.duplicate?.(payload, near) === true || faults.delayMs?.(payload, near) !== 0)).toBe(0);
});

test.each(["", "loss", "loss=", "loss=101", "loss=-1", "far=20000", "lost=1", "loss=1,", "loss=1 double=2"])("%j is refused", (text) => {
  expect(() => parseFaults(text)).toThrow(/--faults takes loss=/);
});
