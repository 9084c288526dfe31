/** design.md §4: "LEAVE … is proposed by the sequencer when … it has been silent (3 s by default …)": silent as a member, whatever came before. */
import { expect, test } from "vitest";
import type { Endpoint, NodeId, Nonce, Seq } from "../../src/base/ids.js";
import type { LogEntry } from "../../src/base/log-entry.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { Sequencer, silenceMs } from "../../src/engines/sequencer.js";
import type { StreamView } from "../../src/messages/stream/stream-node-types.js";
import { decodeEntry, encodeEntry } from "../../src/messages/wire/entry.js";
import { boot, genesis } from "./engine-parts.js";

/** A Sequencer that leads, with a log that commits at once; `heard` says when an endpoint was last heard. */
function leading(heard: Map<string, number>) {
  const self = { kind: "archive", nodeId: 11 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
  const context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
  const ordered: string[] = [];
  const order = (entries: readonly Uint8Array[]): LogEntry[] =>
    entries.map((bytes) => {
      const entry = decodeEntry(bytes);
      context.position = { ...context.position, seq: (context.position.seq + 1) as Seq };
      context.catalog.apply(context.position.seq, entry);
      ordered.push(entry.kind);
      return { ...context.position, bytes };
    });
  // Acks go by UDP: none has arrived, neither before the BOOT, which goes by TCP, nor after it.
  const view = {
    voters: [self.nodeId],
    leadsSurely: true,
    mayChangeVoters: true,
    uncommittedBytes: 0,
    oldestSnapshot: 0,
    get commitSeq() {
      return context.position.seq;
    },
    get last() {
      return context.position;
    },
    heardFrom: (endpoint: Endpoint) => {
      const atMs = heard.get(endpoint);
      return atMs === undefined ? null : { atMs, oldestSnapshot: 0 };
    },
  } as unknown as StreamView;
  const sequencer = new Sequencer(context, view, order, 1, 1000);
  const wait = (ms: number): void => {
    for (const endMs = context.nowMs + ms; context.nowMs < endMs; ) {
      context.nowMs += 25;
      sequencer.tick();
      sequencer.turnEnd();
    }
  };
  sequencer.begin([]);
  sequencer.boot(encodeEntry(boot(1, 11, "e1")));
  wait(10 * silenceMs);
  ordered.length = 0;
  return { context, ordered, sequencer, wait };
}

test("a member that has not been heard since its BOOT is given its time from there", () => {
  const { ordered, sequencer, wait } = leading(new Map());
  sequencer.boot(encodeEntry(boot(2, 12, "e2")));
  wait(silenceMs - 100);
  expect(ordered).toEqual(["boot"]);
  wait(200);
  expect(ordered).toEqual(["boot", "leave"]);
});

test.each([
  { what: "refused", tookMs: 1, heardMeanwhile: true, gone: true },
  { what: "without an answer, and nothing was heard meanwhile", tookMs: 250, heardMeanwhile: false, gone: true },
  { what: "without an answer, but it was heard meanwhile", tookMs: 250, heardMeanwhile: true, gone: false },
])("a probe ends $what: the member is gone: $gone", ({ tookMs, heardMeanwhile, gone }) => {
  const heard = new Map<string, number>();
  const { context, ordered, sequencer, wait } = leading(heard);
  sequencer.boot(encodeEntry(boot(2, 12, "e2")));
  wait(25);
  heard.set("e2", context.nowMs);
  sequencer.disconnected("e2" as Endpoint);
  context.nowMs += tookMs;
  if (heardMeanwhile) heard.set("e2", context.awakeMs);
  sequencer.probed("e2" as Endpoint, false);
  sequencer.turnEnd();
  expect(ordered).toEqual(gone ? ["boot", "leave"] : ["boot"]);
});

test("a probe of who was there before says nothing of who has booted since", () => {
  const { context, ordered, sequencer, wait } = leading(new Map());
  sequencer.boot(encodeEntry(boot(2, 12, "e2")));
  wait(25);
  sequencer.disconnected("e2" as Endpoint);
  context.nowMs += 1;
  sequencer.boot(encodeEntry(boot(3, 13, "e2")));
  sequencer.probed("e2" as Endpoint, false);
  sequencer.turnEnd();
  expect(ordered).toEqual(["boot", "boot"]);
});
