import { expect, test } from "vitest";
import type { Endpoint, Seq } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import type { PullReplyMessage, PullRequestMessage } from "../../src/messages/wire/engine-messages.js";
import { boot, CacheParts, createTable, proposal, sentOf, space } from "./engine-parts.js";

/** Archives e1 and e3, a Cache e2 that made the table, and the Cache under test, which holds nothing. */
function pulling(): CacheParts {
  const parts = new CacheParts();
  parts.apply(boot(1, 11));
  parts.apply(boot(2));
  parts.apply(boot(3, 13));
  parts.apply(boot(99));
  parts.apply(proposal(2, 1, createTable()));
  parts.take();
  parts.cache.pulls.ensure([space], () => {});
  parts.applyOwn();
  return parts;
}

type Asked = { readonly to: Endpoint; readonly request: PullRequestMessage };

function asked(effects: readonly CoreEffect[]): Asked[] {
  return sentOf(effects).flatMap(({ to, message }) => (message.kind === "pullRequest" ? [{ to, request: message }] : []));
}

function reply(parts: CacheParts, { to, request }: Asked, keys: number[], next: number | null): void {
  const rows = keys.map((key) => ({ key: integerKey(BigInt(key)), row: Buffer.from([key]) }));
  const message: PullReplyMessage = {
    kind: "pullReply",
    pull: request.pull,
    seq: parts.context.appliedSeq as Seq,
    rows,
    next: next === null ? null : integerKey(BigInt(next)),
  };
  parts.cache.onMessage(to, message);
}

function installs(effects: readonly CoreEffect[]): { id: number; low: string; keys: number }[] {
  return effects.flatMap((effect) =>
    effect.kind === "local" && effect.call.kind === "install"
      ? [{ id: effect.call.id, low: Buffer.from(effect.call.low).toString("hex"), keys: effect.call.rows.length }]
      : [],
  );
}

test("the late answer to an earlier question is not taken for the chunk that the same source is asked for now", () => {
  const parts = pulling();
  const [first] = asked(parts.wait(5));
  // The first source is silent; the other one gives the chunk up to key 10.
  const [second] = asked(parts.wait(2500));
  if (first === undefined || second === undefined) throw new Error("nobody was asked");
  expect(second.to).not.toBe(first.to);
  reply(parts, second, [1, 2], 10);
  const [installed] = installs(parts.take());
  if (installed === undefined) throw new Error("nothing was installed");
  parts.cache.local.onReply({ kind: "installed", id: installed.id, outcome: "held" });
  const [third] = asked(parts.wait(5));
  expect(third?.to).toBe(first.to);
  expect(third?.request.low.equals(integerKey(10n))).toBe(true);
  // Now the first source answers its first question: rows from the beginning on.
  reply(parts, first, [1, 2, 3], 20);
  expect(installs(parts.wait(5))).toEqual([]);
  if (third === undefined) throw new Error("the rest was not asked for");
  reply(parts, third, [11], null);
  expect(installs(parts.wait(5))).toMatchObject([{ low: integerKey(10n).toString("hex"), keys: 1 }]);
});
