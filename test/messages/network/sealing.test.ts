import { createCipheriv, hkdfSync } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Nonce } from "../../../src/base/ids.js";
import { seededRandom } from "../../../src/base/random.js";
import { ReplayWindow, replayWindowCounters } from "../../../src/base/replay-window.js";
import { endpointAddress } from "../../../src/messages/network/endpoint-address.js";
import { createOpener, createSealer, type Opened, sealedOverheadBytes, sendersMax, tlsKey } from "../../../src/messages/network/sealing.js";
import { formatVersion } from "../../../src/messages/wire/entry.js";
import { clusterId, otherClusterId, otherSecret, secret } from "./network-conformance.js";

const sourceAddress = "10.1.2.3";
const sourcePort = 4000;
const source = addressBytes(sourceAddress, sourcePort);
const receiverBytes = addressBytes("10.1.2.4", 4001);
const groupBytes = addressBytes("239.192.1.2", 20_001);
const nonce = 0x0102030405ff as Nonce;
const payload = Buffer.from("a payload that is longer than one block");

function addressBytes(address: string, port: number): Buffer {
  const parsed = endpointAddress(address, port);
  if (parsed === null) throw new Error("not an address");
  return parsed.bytes;
}

const identity = { clusterId, secret, nonce };
const newOpener = (ownNonce = 9) => createOpener({ clusterId, secret, nonce: ownNonce as Nonce }, { unicast: receiverBytes, multicast: groupBytes });

function outcome(opened: Opened): string {
  return opened.kind === "refused" ? opened.reason : opened.kind;
}

test("a sealed datagram opens once, with its payload, its sender's endpoint and nonce", () => {
  const sealed = createSealer(identity, source).seal("unicast", receiverBytes, payload);
  expect(sealed.length).toBe(payload.length + sealedOverheadBytes);
  expect(sealed.includes(payload)).toBe(false);
  const opener = newOpener();
  const opened = opener.open(sealed, "unicast", sourceAddress, sourcePort);
  expect(opened).toEqual({ kind: "opened", from: "10.1.2.3:4000", nonce, payload });
  expect(outcome(opener.open(sealed, "unicast", sourceAddress, sourcePort))).toBe("replayed");
});

test("the format, byte by byte: HKDF-SHA256, AES-256-GCM, header and both addresses authenticated", () => {
  const sealer = createSealer(identity, source);
  sealer.seal("multicast", groupBytes, payload);
  const sealed = sealer.seal("multicast", groupBytes, payload); // the second: counter 1
  const info = Buffer.concat([Buffer.from("atomcast udp v1"), Buffer.from("0102030405ff", "hex")]);
  const key = Buffer.from(hkdfSync("sha256", secret, Buffer.from(clusterId, "hex"), info, 32));
  const header = Buffer.from(`4143${Buffer.from([formatVersion]).toString("hex")}01${clusterId}0102030405ff000000000001`, "hex");
  const cipher = createCipheriv("aes-256-gcm", key, Buffer.from("010000000000000000000001", "hex"));
  cipher.setAAD(Buffer.concat([header, source, groupBytes]));
  const expected = Buffer.concat([header, cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
  expect(sealed.toString("hex")).toBe(expected.toString("hex"));
});

test("refused: each for its reason, and nothing of it is remembered", () => {
  const seal = (by = identity, version = formatVersion): Buffer => createSealer(by, source, version).seal("unicast", receiverBytes, payload);
  const opener = newOpener();
  const open = (datagram: Buffer, address = sourceAddress, port = sourcePort): string => outcome(opener.open(datagram, "unicast", address, port));
  expect(open(seal().subarray(0, sealedOverheadBytes - 1))).toBe("short");
  expect(open(Buffer.alloc(100))).toBe("not ours");
  expect(open(seal(identity, formatVersion + 1))).toBe("other version");
  expect(open(seal({ ...identity, clusterId: otherClusterId }))).toBe("other cluster");
  expect(open(seal({ ...identity, secret: otherSecret }))).toBe("forged");
  expect(open(seal().subarray(0, -1))).toBe("forged");
  expect(open(Buffer.concat([seal(), Buffer.alloc(1)]))).toBe("forged");
  expect(open(seal(), "10.1.2.99")).toBe("forged"); // another source than it was sealed for
  expect(open(seal(), sourceAddress, sourcePort + 1)).toBe("forged");
  const elsewhere = createSealer(identity, source).seal("unicast", addressBytes("10.1.2.5", 4001), payload);
  expect(open(elsewhere)).toBe("forged"); // meant for another engine
  const multicast = createSealer(identity, source).seal("multicast", groupBytes, payload);
  expect(open(multicast)).toBe("wrong channel");
  expect(opener.senderCount).toBe(0);
  expect(open(seal())).toBe("opened");
});

test("every change of one bit is refused, wherever it is", () => {
  const sealed = createSealer(identity, source).seal("unicast", receiverBytes, payload);
  const opener = newOpener();
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const changed = Buffer.from(sealed);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expect(opener.open(changed, "unicast", sourceAddress, sourcePort).kind, `bit ${bit}`).toBe("refused");
  }
  expect(opener.open(sealed, "unicast", sourceAddress, sourcePort).kind).toBe("opened");
});

test("arbitrary bytes never open and never throw", () => {
  const opener = newOpener();
  const header = Buffer.from(`41430100${clusterId}`, "hex");
  const anyBytes = fc.uint8Array({ maxLength: 200 });
  const plausible = anyBytes.map((tail) => Buffer.concat([header, tail]));
  fc.assert(
    fc.property(fc.oneof(anyBytes.map(Buffer.from), plausible), fc.constantFrom("unicast" as const, "multicast" as const), (datagram, channel) => {
      expect(opener.open(Buffer.from(datagram), channel, sourceAddress, sourcePort).kind).toBe("refused");
    }),
    { numRuns: 2000, seed: 1 },
  );
  expect(opener.senderCount).toBe(0);
});

test("a forged counter does not move the window of the sender whom it names", () => {
  const sealer = createSealer(identity, source);
  const opener = newOpener();
  const first = sealer.seal("unicast", receiverBytes, payload);
  const forged = Buffer.from(sealer.seal("unicast", receiverBytes, payload));
  forged.writeUIntBE(2 ** 47, 18, 6);
  const second = sealer.seal("unicast", receiverBytes, payload);
  const open = (datagram: Buffer): string => outcome(opener.open(datagram, "unicast", sourceAddress, sourcePort));
  expect([first, forged, second].map(open)).toEqual(["opened", "forged", "opened"]);
});

test("unicast and multicast count apart: a backlog on one socket is not refused for what the other has heard", () => {
  const sealer = createSealer(identity, source);
  const opener = newOpener();
  const late = sealer.seal("multicast", groupBytes, payload);
  for (let index = 0; index < replayWindowCounters + 10; index++) {
    const sealed = sealer.seal("unicast", receiverBytes, payload);
    expect(opener.open(sealed, "unicast", sourceAddress, sourcePort).kind).toBe("opened");
  }
  expect(opener.open(late, "multicast", sourceAddress, sourcePort).kind).toBe("opened");
});

test("a process's own multicast is told apart from a stranger's", () => {
  const sealed = createSealer(identity, source).seal("multicast", groupBytes, payload);
  expect(outcome(newOpener(nonce).open(sealed, "multicast", sourceAddress, sourcePort))).toBe("own");
});

test("senders are remembered up to a bound, the least recently heard forgotten first", () => {
  const opener = newOpener();
  const sealers = Array.from({ length: sendersMax + 1 }, (_, index) => createSealer({ ...identity, nonce: (index + 100) as Nonce }, source));
  const datagrams = sealers.map((sealer) => sealer.seal("unicast", receiverBytes, payload));
  const open = (index: number): string => outcome(opener.open(datagrams[index] ?? Buffer.alloc(0), "unicast", sourceAddress, sourcePort));
  for (let index = 0; index < sendersMax; index++) expect(open(index)).toBe("opened");
  const again = sealers[0]?.seal("unicast", receiverBytes, payload) ?? Buffer.alloc(0);
  expect(outcome(opener.open(again, "unicast", sourceAddress, sourcePort))).toBe("opened"); // 0 is now the youngest
  expect(open(sendersMax)).toBe("opened");
  expect(opener.senderCount).toBe(sendersMax);
  expect(open(0)).toBe("replayed");
  expect(open(1)).toBe("opened"); // forgotten: what the head of sealing.ts says of processes that were not heard before
});

test("the key of TLS is another than any process's, and than another cluster's", () => {
  expect(tlsKey(identity).length).toBe(32);
  expect(tlsKey(identity).equals(tlsKey({ clusterId: otherClusterId, secret }))).toBe(false);
  expect(tlsKey(identity).equals(secret)).toBe(false);
});

test("the replay window agrees with a plain set", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed);
    const window = new ReplayWindow();
    const heard = new Set<number>();
    let highest = -1;
    let base = seed % 2 === 0 ? 0 : 2 ** 47;
    for (let step = 0; step < 5000; step++) {
      if (random.integer(500) === 0) base += random.integer(3 * replayWindowCounters);
      base += random.integer(3);
      const counter = Math.max(0, base - random.integer(random.integer(10) === 0 ? 3000 : 20));
      const expected = !heard.has(counter) && counter > highest - replayWindowCounters;
      expect(window.accepts(counter), `seed ${seed}, step ${step}, counter ${counter}, highest ${highest}`).toBe(expected);
      if (!expected) continue;
      window.take(counter);
      heard.add(counter);
      highest = Math.max(highest, counter);
    }
  }
});
