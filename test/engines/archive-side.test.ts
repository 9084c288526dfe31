import { expect, test } from "vitest";
import type { AtomId, Endpoint, NodeId, Nonce, Seq, SpaceId } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { ArchiveSide } from "../../src/engines/archive-side.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { genesis } from "./engine-parts.js";

const asker = "e2" as Endpoint;

test("pulls and cuts are answered from a store that has come as far as the asker", () => {
  const self = { kind: "archive", nodeId: 1 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
  const context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
  const archive = new ArchiveSide(context);
  const low = Buffer.alloc(0);
  const cuts = { kind: "cutsRequest", atom: 9 as AtomId, space: 7 as SpaceId, low, high: null, minSeq: 5 as Seq } as const;
  const pull = { kind: "pullRequest", pull: 1, space: 7 as SpaceId, low, high: null, minSeq: 6 as Seq, since: 0 as Seq, bytesMax: 1000 } as const;
  expect([archive.onMessage(asker, cuts), archive.onMessage(asker, pull)]).toEqual([true, true]);
  expect(context.take()).toEqual([]);
  archive.onStored(4 as Seq);
  expect(context.take()).toEqual([]);
  archive.onStored(5 as Seq);
  expect(context.take()).toEqual([{ kind: "serveCuts", to: asker, request: cuts }]);
  archive.onStored(7 as Seq);
  expect(context.take()).toEqual([{ kind: "serveRows", to: asker, request: pull }]);
  archive.onMessage(asker, cuts);
  expect(context.take()).toEqual([{ kind: "serveCuts", to: asker, request: cuts }]);
});
