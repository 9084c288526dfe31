import fc from "fast-check";
import { expect, test } from "vitest";
import { MalformedBytesError } from "../../../src/base/bytes.js";
import type { ClusterId, Endpoint, Nonce } from "../../../src/base/ids.js";
import { FrameReader, SendQueue } from "../../../src/messages/network/frame-codec.js";
import { decodeGreeting, encodeGreeting, greetingBytesMax, type Hello } from "../../../src/messages/network/hello.js";

test("whatever the messages, the batches and the pieces: what was pushed is read, in order", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 40 });
  const sizes = fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(messages, sizes, sizes, (sent, batchSizes, pieceSizes) => {
      const queue = new SendQueue();
      for (const message of sent) queue.push(message);
      expect(queue.bytes).toBe(sent.reduce((sum, message) => sum + 4 + message.length, 0));
      const stream: Buffer[] = [];
      for (let index = 0; queue.bytes > 0; index++) stream.push(queue.take(batchSizes[index % batchSizes.length] ?? 1));
      const bytes = Buffer.concat(stream);
      const reader = new FrameReader(100);
      const received: Buffer[] = [];
      for (let offset = 0, index = 0; offset < bytes.length; index++) {
        const size = pieceSizes[index % pieceSizes.length] ?? 1;
        reader.append(bytes.subarray(offset, offset + size));
        offset += size;
        for (let frame = reader.next(); frame !== null; frame = reader.next()) received.push(Buffer.from(frame));
      }
      expect(received).toEqual(sent.map((message) => Buffer.from(message)));
    }),
    { numRuns: 500, seed: 1 },
  );
});

test("a queue that is used again and again keeps nothing of what has left", () => {
  const queue = new SendQueue();
  for (let index = 0; index < 5000; index++) {
    queue.push(Buffer.from([index & 0xff]));
    queue.push(Buffer.from("x"));
    expect(queue.take(5)).toEqual(
      Buffer.from([0, 0, 0, 1, Math.floor(index / 2) & 0xff].map((byte, at) => (at === 4 && index % 2 === 1 ? 120 : byte))),
    );
  }
  queue.clear();
  expect([queue.bytes, queue.take(10).length]).toEqual([0, 0]);
});

test("a message above the limit is malformed before any of it is kept", () => {
  const reader = new FrameReader(10);
  reader.append(Buffer.from([0, 0, 0, 11]));
  expect(() => reader.next()).toThrow(MalformedBytesError);
});

const hello: Hello = {
  kind: "hello",
  clusterId: "00112233445566aa" as ClusterId,
  nonce: 0xa1b2c3d4e5f6 as Nonce,
  endpoint: "255.255.255.255:65535" as Endpoint,
  dialNumber: 3,
  takenDialNumber: 2,
  takenDialNonce: 1,
};

test("greetings survive their codec; another version's says which", () => {
  const encoded = encodeGreeting(hello, 1);
  expect(encoded.length).toBeLessThan(greetingBytesMax);
  expect(decodeGreeting(encoded, 1)).toEqual(hello);
  expect(decodeGreeting(encodeGreeting({ kind: "refused", reason: "duplicate" }, 1), 1)).toEqual({ kind: "refused", reason: "duplicate" });
  expect(decodeGreeting(encodeGreeting(hello, 7), 1)).toEqual({ kind: "other version", version: 7 });
  expect(decodeGreeting(Buffer.concat([encoded.subarray(0, 4), Buffer.from([0, 9])]), 1)).toEqual({ kind: "other version", version: 9 });
});

test("bytes that are no greeting are malformed, and nothing else is thrown", () => {
  const encoded = encodeGreeting(hello, 1);
  for (let length = 0; length < encoded.length; length++) expect(() => decodeGreeting(encoded.subarray(0, length), 1)).toThrow(MalformedBytesError);
  expect(() => decodeGreeting(Buffer.concat([encoded, Buffer.alloc(1)]), 1)).toThrow(MalformedBytesError);
  const start = encoded.subarray(0, 6);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (tail, plausible) => {
      try {
        decodeGreeting(plausible ? Buffer.concat([start, tail]) : tail, 1);
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedBytesError);
      }
    }),
    { numRuns: 3000, seed: 1 },
  );
});
