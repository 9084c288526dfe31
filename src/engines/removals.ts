/**
 * Archives whose places as voters this engine was asked to have given up. The sequencer says that it has ordered it; whoever asked is told when it is
 * committed, and applied here: a question about the voters that comes next finds it done.
 */
import type { NodeId } from "../base/ids.js";
import type { RemoveVoterReplyMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";

/** Questions that wait; beyond it the oldest gets no answer, as when one is lost. */
const waitingMax = 64;

export class Removals {
  readonly #context: CoreContext;
  readonly #waiting = new Map<number, { readonly nodeId: NodeId; isOrdered: boolean }>();

  constructor(context: CoreContext) {
    this.#context = context;
  }

  /** `request`: this engine's number of it, for the answer. */
  ask(request: number, nodeId: NodeId): void {
    const { sequencer } = this.#context;
    if (sequencer === null) {
      this.#context.push({ kind: "voterRemoved", request, refusal: "no sequencer is known just now" });
      return;
    }
    this.#waiting.set(request, { nodeId, isOrdered: false });
    for (const oldest of this.#waiting.keys()) if (this.#waiting.size > waitingMax) this.#waiting.delete(oldest);
    this.#context.send(sequencer, { kind: "removeVoter", request, nodeId });
  }

  onReply({ request, refusal }: RemoveVoterReplyMessage): void {
    const one = this.#waiting.get(request);
    if (one === undefined) return;
    if (refusal !== "") {
      this.#answer(request, refusal);
      return;
    }
    one.isOrdered = true;
    this.look();
  }

  /** After the voters have changed. */
  look(): void {
    for (const [request, { nodeId, isOrdered }] of this.#waiting) {
      if (isOrdered && !this.#context.catalog.voters.includes(nodeId)) this.#answer(request, "");
    }
  }

  #answer(request: number, refusal: string): void {
    this.#waiting.delete(request);
    this.#context.push({ kind: "voterRemoved", request, refusal });
  }
}
