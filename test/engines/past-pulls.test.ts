/** Pulling what a store of the past needs, without a store: each chunk counts as installed when it is given to one. */
import { expect, test } from "vitest";
import { genesisHash } from "../../src/base/chain-hash.js";
import { type Endpoint, type NodeId, type Nonce, noSeq, noTerm, type Seq, type SpaceId } from "../../src/base/ids.js";
import { type BinaryRange, binaryKey, rangeOfKey } from "../../src/base/key-ranges.js";
import { seededRandom } from "../../src/base/random.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { LargeValuePulls } from "../../src/engines/large-value-pulls.js";
import type { LocalDriver } from "../../src/engines/local-driver.js";
import { PastPulls } from "../../src/engines/past-pulls.js";
import { boot, sentOf } from "./engine-parts.js";

const archive = "e7" as Endpoint;
const table = 65_537 as SpaceId;
const asOf = 9 as Seq;

function begin(): { readonly context: CoreContext; readonly pulls: PastPulls } {
  const self = { kind: "cache", nodeId: 0 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
  const catalog = Catalog.load(new Map());
  catalog.apply(2 as Seq, boot(7, 7));
  const context = new CoreContext(self, catalog, seededRandom(1), { seq: noSeq, term: noTerm, hash: genesisHash }, 0);
  return { context, pulls: new PastPulls(context, new LargeValuePulls(context)) };
}

/** It says that each chunk is held. */
function driver(): LocalDriver {
  const install: LocalDriver["install"] = (_space, _low, _high, _seq, _changedSeq, _rows, done) => done("held");
  return { beginHold: () => {}, abandonHold: () => {}, install } as Partial<LocalDriver> as LocalDriver;
}

test("a statement that needs very many keys is told when all have come, and its ranges are not all looked at each time that one has", () => {
  const { context, pulls } = begin();
  const count = 300;
  let looks = 0;
  const ranges = Array.from({ length: count }, (_, id): BinaryRange => {
    const { low, high } = rangeOfKey(binaryKey(integerKey(BigInt(id))));
    return {
      get low() {
        looks++;
        return low;
      },
      high,
    };
  });
  const told: string[] = [];
  pulls.ensure({ seq: asOf, driver: driver(), bytes: 0 }, [{ space: table, ranges }], (outcome) => told.push(outcome));
  let answered = 0;
  while (told.length === 0) {
    pulls.turnEnd();
    for (const { message } of sentOf(context.take())) {
      if (message.kind !== "pullRequest") continue;
      pulls.onReply(archive, { kind: "pullReply", pull: message.pull, seq: asOf, rows: [], next: null, images: [], imagesFrom: asOf });
      answered++;
    }
  }
  expect([told, answered]).toEqual([["held"], count]);
  expect(looks).toBeLessThan(4 * count * count);
});
