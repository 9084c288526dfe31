import { expect, test } from "vitest";
import type { Endpoint, EngineId, NodeId, Nonce, Seq, Term } from "../../src/base/ids.js";
import type { LogPosition } from "../../src/base/log-entry.js";
import type { Random } from "../../src/base/random.js";
import { type Acknowledged, Joining, type JoiningEffect } from "../../src/engines/joining.js";
import {
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
  };
}

class Transferring {
  readonly joining: Joining;
  nowMs = 0;

  constructor(acknowledged = { seq: 0, term: 0 }) {
    this.joining = new Joining("archive", first, acknowledged as unknown as Acknowledged);
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
