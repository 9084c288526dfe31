/** What a Cache does: clients' transactions on its local store, the pulls and id blocks that they need. */
import type { Endpoint } from "../base/ids.js";
import type { LogEntry } from "../base/log-entry.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import type { EngineMessage } from "../messages/wire/engine-messages.js";
import type { Entry } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import { IdBlocks } from "./id-blocks.js";
import { LocalDriver } from "./local-driver.js";
import type { OriginatorDesk } from "./originator-desk.js";
import type { ProposalQueue } from "./proposal-queue.js";
import { PullManager } from "./pull-manager.js";
import { SilentOriginators } from "./silent-originators.js";
import { Transactions } from "./transactions.js";

export class CacheSide {
  readonly local: LocalDriver;
  readonly pulls: PullManager;
  readonly ids: IdBlocks;
  readonly transactions: Transactions;
  readonly #context: CoreContext;

  constructor(context: CoreContext, proposals: ProposalQueue, desk: OriginatorDesk) {
    this.#context = context;
    this.local = new LocalDriver(context);
    this.pulls = new PullManager(context, this.local, proposals);
    const silent = new SilentOriginators(context);
    this.ids = new IdBlocks(context, this.local, desk, silent);
    this.transactions = new Transactions(context, this.local, proposals, desk, this.pulls, this.ids, silent);
  }

  /** Before the events of the entry go round: what they post must come after it in the local store. */
  onEntry(log: LogEntry, entry: Entry): void {
    this.local.add(log, entry.kind === "proposal" && (entry.body.kind === "transaction" || entry.body.kind === "split"));
  }

  onEvent(event: CatalogEvent): void {
    this.ids.onEvent(event);
    this.transactions.onEvent(event);
    if (event.kind === "spaceGone") this.pulls.spaceGone(event.space);
  }

  disconnected(endpoint: Endpoint): void {
    this.pulls.disconnected(endpoint);
    this.transactions.disconnected(endpoint);
  }

  /** True where the message was one for a Cache. */
  onMessage(from: Endpoint, message: EngineMessage): boolean {
    switch (message.kind) {
      case "permissionReply":
        this.transactions.onReply(from, message);
        return true;
      case "released":
        this.transactions.onReleased(from, message.transaction, message.attempt);
        return true;
      case "pullReply":
        this.pulls.onReply(from, message);
        return true;
      default:
        return false;
    }
  }

  tick(): void {
    this.ids.tick();
    this.transactions.tick();
  }

  turnEnd(): void {
    this.#context.catalog.forgetDirty();
    this.pulls.turnEnd();
    this.local.flush();
  }
}
