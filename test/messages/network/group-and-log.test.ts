import { expect, test } from "vitest";
import type { Endpoint } from "../../../src/base/ids.js";
import { seededRandom } from "../../../src/base/random.js";
import { parseEndpoint } from "../../../src/messages/network/endpoint-address.js";
import { groupOf } from "../../../src/messages/network/group.js";
import { dropsIn, procAddress } from "../../../src/messages/network/kernel-drops.js";
import { limitedLog } from "../../../src/messages/network/limited-log.js";
import { EventQueue } from "../../../src/messages/network/memory-event-queue.js";

test("a database's group never changes: engines of other versions must find it too", () => {
  expect(groupOf("demo")).toEqual({ groupAddress: "239.192.42.151", groupPort: 26_027 });
  for (const name of ["", "a", "Ж", "x".repeat(500)]) {
    const { groupAddress, groupPort } = groupOf(name);
    expect(groupAddress).toMatch(/^239\.192\.\d{1,3}\.\d{1,3}$/);
    expect(groupPort >= 20_000 && groupPort <= 29_999).toBe(true);
  }
});

test("endpoints are IPv4 addresses and ports, and nothing else", () => {
  expect(parseEndpoint("10.0.0.1:65535" as Endpoint)).toEqual({ address: "10.0.0.1", port: 65_535, bytes: Buffer.from("0a000001ffff", "hex") });
  for (const bad of [
    "",
    ":1",
    "10.0.0.1",
    "10.0.0.1:",
    "10.0.0.1:0",
    "10.0.0.1:65536",
    "10.0.0.1:1x",
    "10.0.0:1",
    "host:1",
    "::1:80",
    "10.0.0.256:1",
  ]) {
    expect(parseEndpoint(bad as Endpoint), bad).toBeNull();
  }
});

test("kernel drops are those of this process's sockets at the wanted addresses", () => {
  const table = [
    "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops",
    "  100: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 111 2 0000000000000000 5",
    "  101: 0102C0EF:4E20 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 222 2 0000000000000000 7",
    "  102: 0102C0EF:4E20 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 333 2 0000000000000000 900",
    "  103: 0100007F:1F91 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 444 2 0000000000000000 900",
    "garbage",
    "",
  ].join("\n");
  expect(dropsIn(table, new Set(["0100007F:1F90", "0102C0EF:4E20"]), new Set(["111", "222", "444"]))).toBe(12);
  const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  expect(procAddress("127.0.0.1", 8080)).toBe(littleEndian ? "0100007F:1F90" : "7F000001:1F90");
});

test("each topic is logged once in ten seconds, with a count of what was held back", () => {
  const lines: string[] = [];
  let nowMs = 0;
  const log = limitedLog(
    (_level, message) => void lines.push(message),
    () => nowMs,
  );
  for (nowMs = 0; nowMs <= 10_000; nowMs += 2500) log("key", `key at ${nowMs}`);
  log("version", "version");
  expect(lines).toEqual(["key at 0", "key at 10000 (and 3 more such events before)", "version"]);
});

test("events come in order of time, then of adding", () => {
  const random = seededRandom(4);
  const queue = new EventQueue();
  const expected = Array.from({ length: 2000 }, (_, order) => ({ atMs: random.integer(50), order }));
  const seen: number[] = [];
  for (const { atMs, order } of expected) queue.add(atMs, () => void seen.push(order));
  expect(queue.takeDue(-1)).toBeNull();
  for (let event = queue.takeDue(50); event !== null; event = queue.takeDue(50)) event.act();
  expected.sort((left, right) => left.atMs - right.atMs || left.order - right.order);
  expect(seen).toEqual(expected.map((one) => one.order));
  expect(queue.nextAtMs()).toBeNull();
});
