import { expect, test } from "vitest";
import type { Endpoint, Seq, SpaceId } from "../../src/base/ids.js";
import type { Clock, StorePort } from "../../src/engines/environment.js";
import { openStorePortHere } from "../../src/engines/store-server.js";
import { decodeEngineMessage, type EngineMessage } from "../../src/messages/wire/engine-messages.js";
import type { StoreReads } from "../../src/storage/atom-store.js";
import { createMemoryAtomStore } from "../../src/storage/memory-atom-store.js";
import { storeChangesOf } from "../../src/storage/store-changes.js";
import { genesis } from "./engine-parts.js";

const peer = "e2" as Endpoint;

/** A store with one row that counts its open transfers, served on a clock of the test's. */
class Serving {
  readonly answers: EngineMessage[] = [];
  readonly malformed: string[] = [];
  readonly #timers: { everyMs: number; dueMs: number; act: () => void }[] = [];
  readonly port: StorePort;
  open = 0;
  nowMs = 0;

  constructor() {
    const store = createMemoryAtomStore();
    const change = { kind: "put", space: 5 as SpaceId, key: Buffer.from([1]), row: Buffer.from([1]), seq: 1 as Seq } as const;
    void store.apply({ changes: storeChangesOf([change]), mark: 0 as Seq, catalog: new Map(), position: { ...genesis, seq: 1 as Seq } });
    const counted: StoreReads = {
      get position() {
        return store.position;
      },
      readRows: store.readRows.bind(store),
      readPast: store.readPast.bind(store),
      cuts: store.cuts.bind(store),
      openTransfer: () => {
        const transfer = store.openTransfer();
        this.open++;
        const close = (): void => {
          this.open--;
          transfer.close();
        };
        return { position: transfer.position, read: transfer.read.bind(transfer), close };
      },
    };
    const every = (everyMs: number, act: () => void): (() => void) => {
      this.#timers.push({ everyMs, dueMs: everyMs, act });
      return () => {};
    };
    const clock: Clock = { nowMs: () => this.nowMs, soon: () => {}, every, after: () => () => {} };
    this.port = openStorePortHere(counted, clock, {
      onAnswer: (_to, payload) => this.answers.push(decodeEngineMessage(payload)),
      onMalformed: (_question, message) => this.malformed.push(message),
      onFailure: (error) => {
        throw error;
      },
    });
  }

  wait(ms: number): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; ) {
      this.nowMs += 5;
      for (const timer of this.#timers) {
        if (this.nowMs < timer.dueMs) continue;
        timer.dueMs += timer.everyMs;
        timer.act();
      }
    }
  }
}

test("a peer's bytes that the store cannot read end no Archive", () => {
  const serving = new Serving();
  serving.port.ask({ kind: "serveTransfer", to: peer, transfer: 0, cursor: "" });
  serving.port.ask({ kind: "serveTransfer", to: peer, transfer: 1, cursor: "%%" });
  expect(serving.malformed).toHaveLength(1);
  expect(serving.answers).toHaveLength(1);
});

test("a transfer whose Archive is gone is closed, though nobody asks for another: it keeps old pages from being used again", () => {
  const serving = new Serving();
  serving.port.ask({ kind: "serveTransfer", to: peer, transfer: 0, cursor: "" });
  expect(serving.open).toBe(1);
  serving.wait(90_000);
  expect(serving.open).toBe(0);
});

test("what is closed answers nothing, and keeps no transfer open", async () => {
  const serving = new Serving();
  serving.port.ask({ kind: "serveTransfer", to: peer, transfer: 0, cursor: "" });
  await serving.port.close();
  serving.port.ask({ kind: "serveTransfer", to: peer, transfer: 1, cursor: "" });
  expect(serving.open).toBe(0);
  expect(serving.answers).toHaveLength(1);
});
