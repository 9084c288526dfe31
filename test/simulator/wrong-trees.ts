/**
 * For the time of a seed, every engine computes its relay tree of some of the members only, in an order of its own, and of others again and again: what
 * must hold, must hold all the same.
 */
import type { Random } from "../../src/base/random.js";
import { StreamNode } from "../../src/messages/stream/stream-node.js";
import type { StreamInput } from "../../src/messages/stream/stream-node-types.js";

type Engines = Extract<StreamInput, { kind: "engines" }>;

/** One tick of so many brings another tree. */
const everyTicks = 15;

/** Returns what mends it. */
export function withWrongTrees(random: Random): () => void {
  const { step } = StreamNode.prototype;
  const members = new WeakMap<StreamNode, Engines>();
  const wrong = ({ engines, contacts }: Engines): StreamInput => {
    const some = engines.filter(() => random.integer(4) > 0).map((engine) => ({ ...engine, id: random.integer(1000) }));
    return { kind: "engines", engines: some, contacts };
  };
  StreamNode.prototype.step = function (input) {
    if (input.kind === "engines") {
      members.set(this, input);
      return step.call(this, wrong(input));
    }
    const known = members.get(this);
    if (input.kind === "tick" && known !== undefined && random.integer(everyTicks) === 0) step.call(this, wrong(known));
    return step.call(this, input);
  };
  return () => {
    StreamNode.prototype.step = step;
  };
}
