/** Fetching what rows refer to: each row of the table in large-value-pulls.ts. */
import { expect, test } from "vitest";
import { genesisHash } from "../../src/base/chain-hash.js";
import { type Endpoint, type NodeId, type Nonce, noSeq, noTerm, type Seq } from "../../src/base/ids.js";
import { chunksOf, detachValues, type LargeValue, valueChunkBytes } from "../../src/base/large-values.js";
import { seededRandom } from "../../src/base/random.js";
import { encodeRow } from "../../src/base/values.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { LargeValuePulls } from "../../src/engines/large-value-pulls.js";
import { decodeEngineMessage } from "../../src/messages/wire/engine-messages.js";
import { formatVersion } from "../../src/messages/wire/entry.js";

const archive = "10.0.0.1:7000" as Endpoint;
const other = "10.0.0.3:7000" as Endpoint;
const { row, values } = detachValues(encodeRow([{ columnId: 1, value: Buffer.alloc(2 * valueChunkBytes + 5, "x") }]));
const [value] = values as [LargeValue];
const chunks = chunksOf(value).map(({ key, bytes }) => ({ key, row: Buffer.from(bytes) }));

interface Asked {
  readonly to: Endpoint;
  readonly pull: number;
  readonly low: Buffer;
}

function begin(archives = [archive]): { readonly context: CoreContext; readonly pulls: LargeValuePulls; asked(): Asked } {
  const self = { kind: "cache" as const, nodeId: 0 as NodeId, nonce: 1 as Nonce, endpoint: "10.0.0.2:7000" as Endpoint, http: "-", pid: 1 };
  const catalog = Catalog.load(new Map());
  const common = { kind: "boot", engineKind: "archive", http: "-", pid: 1, formatVersion } as const;
  archives.forEach((endpoint, index) => {
    catalog.apply((2 + index) as Seq, { ...common, nodeId: (7 + index) as NodeId, nonce: (7 + index) as Nonce, endpoint });
  });
  const context = new CoreContext(self, catalog, seededRandom(1), { seq: noSeq, term: noTerm, hash: genesisHash }, 0);
  const pulls = new LargeValuePulls(context);
  return {
    context,
    pulls,
    asked() {
      pulls.turnEnd();
      const requests = context.take().flatMap((effect) => {
        const message = effect.kind === "send" ? decodeEngineMessage(effect.payload as Buffer) : null;
        const to = effect.kind === "send" ? effect.to : archive;
        return message?.kind === "pullRequest" ? [{ to, pull: message.pull, low: Buffer.from(message.low) }] : [];
      });
      expect(requests).toHaveLength(1);
      return requests[0] as Asked;
    },
  };
}

function reply(pull: number, rows: typeof chunks, next: Buffer | null) {
  return { kind: "pullReply", pull, seq: 9 as Seq, rows, next, images: [], imagesFrom: 9 as Seq } as const;
}

test("has come: chunk by chunk, going on where the last one ended", () => {
  const { pulls, asked } = begin();
  const told: (readonly LargeValue[] | "gone")[] = [];
  pulls.fetch([{ row }, { row: null }, { row }], 5 as Seq, (outcome) => told.push(outcome));
  const first = asked();
  pulls.onReply(archive, reply(first.pull, chunks.slice(0, 2), chunks[2]?.key ?? null));
  const second = asked();
  expect(second.low).toEqual(chunks[2]?.key);
  pulls.onReply(archive, reply(second.pull, chunks.slice(2), null));
  expect(told).toHaveLength(1);
  expect(told[0] !== "gone" && Buffer.from(told[0]?.[0]?.bytes ?? []).equals(Buffer.from(value.bytes))).toBe(true);
  expect(pulls.counters).toMatchObject({ values: 1, bytes: value.bytes.length, gone: 0 });
});

test("is not with the Archive that was asked: asked of another, from where the first one ended", () => {
  for (const count of [0, 1]) {
    const { pulls, asked } = begin([archive, other]);
    const told: (readonly LargeValue[] | "gone")[] = [];
    pulls.fetch([{ row }], 5 as Seq, (outcome) => told.push(outcome));
    const first = asked();
    pulls.onReply(first.to, reply(first.pull, chunks.slice(0, count), null));
    const second = asked();
    expect([second.to === first.to, second.low]).toEqual([false, chunks[count]?.key]);
    pulls.onReply(second.to, reply(second.pull, chunks.slice(count), null));
    expect(told.map((one) => one !== "gone" && Buffer.from(one[0]?.bytes ?? []).equals(Buffer.from(value.bytes)))).toEqual([true]);
  }
});

test("is with none of them: gone, at the beginning or in the middle", () => {
  for (const count of [0, 1]) {
    const { pulls, asked } = begin();
    const told: unknown[] = [];
    pulls.fetch([{ row }], 5 as Seq, (outcome) => told.push(outcome));
    pulls.onReply(archive, reply(asked().pull, chunks.slice(0, count), null));
    pulls.turnEnd();
    expect(told).toEqual(["gone"]);
    expect(pulls.counters.gone).toBe(1);
    pulls.turnEnd();
  }
});

test("nothing is referred to: told at once; whoever does not want it any more is not told", () => {
  const { pulls, asked } = begin();
  const told: unknown[] = [];
  pulls.fetch([{ row: encodeRow([{ columnId: 1, value: 5n }]) }], 5 as Seq, (outcome) => told.push(outcome));
  expect(told).toEqual([[]]);
  const forget = pulls.fetch([{ row }], 5 as Seq, (outcome) => told.push(outcome));
  const { pull } = asked();
  forget();
  pulls.onReply(archive, reply(pull, chunks, null));
  expect(told).toHaveLength(1);
});
