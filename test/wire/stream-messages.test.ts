import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedBytesError } from "../../src/base/bytes.js";
import type { ChainHash } from "../../src/base/chain-hash.js";
import type { Endpoint, NodeId, Nonce, Seq, Term } from "../../src/base/ids.js";
import {
  decodeStreamMessage,
  encodeStreamMessage,
  type FrameMessage,
  insteadMax,
  relayedHeadBytesMax,
  type StreamMessage,
} from "../../src/messages/wire/stream-messages.js";

const seq = fc.integer({ min: 0, max: 2 ** 50 }).map((value) => value as Seq);
const count = fc.integer({ min: 0, max: 2 ** 50 });
const term = fc.integer({ min: 1, max: 2 ** 40 }).map((value) => value as Term);
const node = fc.integer({ min: 0, max: 2 ** 48 - 1 }).map((value) => value as NodeId);
const hash = fc.stringMatching(/^[0-9a-f]{16}$/).map((value) => value as ChainHash);
const hashed = fc.record({ seq, hash });
const bytes = fc.uint8Array({ maxLength: 300 }).map((value) => Buffer.from(value));

const endpoint = fc.ipV4().map((address) => `${address}:7000` as Endpoint);

const header = fc
  .record({ term, sender: node, committed: fc.boolean(), round: count, left: hashed, right: hashed })
  .map(({ left, right, ...rest }) => ({
    ...rest,
    commit: left.seq <= right.seq ? left : right,
    last: left.seq <= right.seq ? right : left,
  }));

const frame: fc.Arbitrary<FrameMessage> = fc
  .record({
    header,
    firstSeq: fc.integer({ min: 1, max: 2 ** 50 }).map((value) => value as Seq),
    prevHash: hash,
    entries: fc.array(fc.record({ back: fc.integer({ min: 0, max: 2 ** 40 }), bytes }), { maxLength: 8 }),
    part: fc.record({ offset: fc.integer({ min: 0, max: 1000 }), after: fc.integer({ min: 0, max: 1000 }), bytes }),
    isPart: fc.boolean(),
  })
  .map(({ header, firstSeq, prevHash, entries, part, isPart }) => {
    const termBack = (back: number) => Math.max(1, header.term - back) as Term;
    const content =
      isPart && part.bytes.length > 0
        ? {
            kind: "fragment" as const,
            term: header.term,
            totalBytes: part.offset + part.bytes.length + part.after,
            offset: part.offset,
            bytes: part.bytes,
          }
        : { kind: "entries" as const, entries: entries.map((entry) => ({ term: termBack(entry.back), bytes: entry.bytes })) };
    return { kind: "frame" as const, ...header, firstSeq, prevHash, content };
  });

const message: fc.Arbitrary<StreamMessage> = fc.oneof(
  frame,
  fc.record({
    kind: fc.constant("ack" as const),
    term,
    nodeId: node,
    nonce: count.map((value) => value as Nonce),
    engine: count,
    durable: hashed,
    matchedSeq: seq,
    appliedSeq: seq,
    oldestSnapshot: seq,
    round: count,
  }),
  fc.record({ kind: fc.constant("voteRequest" as const), pre: fc.boolean(), term, nodeId: node, lastSeq: seq, lastTerm: term }),
  fc.record({ kind: fc.constant("voteReply" as const), pre: fc.boolean(), forTerm: term, term, nodeId: node, granted: fc.boolean() }),
  fc.record({ kind: fc.constant("repairRequest" as const), term, from: seq, offset: count, through: seq }),
  fc.record({ kind: fc.constant("repairRefusal" as const), term, from: seq }),
  fc.record({
    kind: fc.constant("catchUpRequest" as const),
    term,
    requestId: count,
    from: seq,
    offset: count,
    prevHash: hash,
    creditBytes: count,
  }),
  fc.record({
    kind: fc.constant("catchUpEnd" as const),
    term,
    requestId: count,
    outcome: fc.constantFrom("more" as const, "done" as const, "gone" as const),
  }),
  fc.record({ kind: fc.constant("relayed" as const), term, origin: endpoint, number: count, frame: bytes }),
  fc.record({ kind: fc.constant("subscribe" as const), term, forMs: count, multicast: fc.boolean(), atUs: count }),
  fc.record({ kind: fc.constant("subscribed" as const), term, atUs: count }),
  fc.record({ kind: fc.constant("subscribeRefusal" as const), term, instead: fc.array(endpoint, { maxLength: insteadMax }) }),
);

/** Whatever the bytes: a message, or MalformedBytesError. */
function decodeOrRefuse(payload: Uint8Array): StreamMessage | null {
  try {
    return decodeStreamMessage(payload);
  } catch (error) {
    expect(error).toBeInstanceOf(MalformedBytesError);
    return null;
  }
}

describe("stream messages", () => {
  test("decoding gives back what was encoded", () => {
    fc.assert(
      fc.property(message, (one) => {
        expect(decodeStreamMessage(encodeStreamMessage(one))).toEqual(one);
      }),
      { numRuns: 1000, seed: 1 },
    );
  });

  test("what the relay tree adds to a frame is no more than is left free for it", () => {
    const largest = { origin: "255.255.255.255:65535" as Endpoint, term: (2 ** 48) as Term, number: Number.MAX_SAFE_INTEGER };
    const payload = encodeStreamMessage({ kind: "relayed", ...largest, frame: Buffer.alloc(100) });
    expect(payload.length - 100).toBeLessThanOrEqual(relayedHeadBytesMax);
  });

  test("random bytes are refused, or are a message", () => {
    const random = fc.tuple(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 200 }));
    fc.assert(
      fc.property(random, ([kind, rest]) => {
        decodeOrRefuse(Buffer.concat([Buffer.from([kind]), rest]));
      }),
      { numRuns: 3000, seed: 2 },
    );
  });

  test("a message with some bytes changed, cut or added is refused, or is a message", () => {
    const changes = fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(message, changes, fc.nat(400), (one, edits, length) => {
        const payload = Buffer.from(encodeStreamMessage(one));
        for (const [at, value] of edits) if (at < payload.length) payload[at] = value;
        decodeOrRefuse(payload);
        decodeOrRefuse(payload.subarray(0, length));
        decodeOrRefuse(Buffer.concat([payload, Buffer.from([0])]));
      }),
      { numRuns: 2000, seed: 3 },
    );
  });

  test("kinds have the numbers that other versions know", () => {
    const numbers = new Map(fc.sample(message, { numRuns: 300, seed: 4 }).map((one) => [one.kind, encodeStreamMessage(one)[0]]));
    expect(Object.fromEntries([...numbers].sort((left, right) => (left[1] ?? 0) - (right[1] ?? 0)))).toEqual({
      frame: 1,
      ack: 2,
      voteRequest: 3,
      voteReply: 4,
      repairRequest: 5,
      repairRefusal: 6,
      catchUpRequest: 7,
      catchUpEnd: 8,
      relayed: 9,
      subscribe: 10,
      subscribeRefusal: 11,
      subscribed: 12,
    });
  });

  test("a frame's bytes are those that docs/stream.md draws", () => {
    const payload = encodeStreamMessage({
      kind: "frame",
      term: 3 as Term,
      sender: 5 as NodeId,
      committed: false,
      round: 7,
      commit: { seq: 8 as Seq, hash: "0102030405060708" as ChainHash },
      last: { seq: 10 as Seq, hash: "1112131415161718" as ChainHash },
      firstSeq: 9 as Seq,
      prevHash: "0102030405060708" as ChainHash,
      content: { kind: "entries", entries: [{ term: 2 as Term, bytes: Buffer.from([0]) }] },
    });
    expect(payload.toString("hex")).toBe(
      "01 03 05 00 07 08 0102030405060708 0a 1112131415161718 09 0102030405060708 00 01 01 00".replaceAll(" ", ""),
    );
  });

  test("fragments that do not fit their entry are refused", () => {
    const base = fc.sample(
      frame.filter((one) => one.content.kind === "fragment"),
      { numRuns: 1, seed: 5 },
    )[0] as FrameMessage;
    const encode = (totalBytes: number, offset: number): Buffer =>
      encodeStreamMessage({ ...base, content: { kind: "fragment", term: base.term, totalBytes, offset, bytes: Buffer.from([1, 2]) } });
    expect(decodeOrRefuse(encode(2, 0))).not.toBeNull();
    expect(decodeOrRefuse(encode(2, 1))).toBeNull();
    expect(decodeOrRefuse(encode(2 ** 30, 0))).toBeNull();
  });
});
