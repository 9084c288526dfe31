import { expect, test } from "vitest";
import type { Endpoint, Seq, SpaceId } from "../../src/base/ids.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import type { EngineCore } from "../../src/engines/engine-core.js";
import { EngineHost, type HostPorts } from "../../src/engines/engine-host.js";
import { decodeEngineMessage, type EngineMessage } from "../../src/messages/wire/engine-messages.js";
import { createMemoryAtomStore } from "../../src/storage/memory-atom-store.js";
import { genesis } from "./engine-parts.js";

const peer = "e2" as Endpoint;

/** A host whose core wants what a test says, on a store and a clock of the test's. */
class Hosting {
  readonly failures: Error[] = [];
  readonly replies: EngineMessage[] = [];
  readonly #timers: { everyMs: number; dueMs: number; act: () => void }[] = [];
  readonly #wanted: CoreEffect[] = [];
  readonly host: EngineHost;
  open = 0;
  nowMs = 0;

  constructor() {
    const store = createMemoryAtomStore();
    const change = { kind: "put", space: 5 as SpaceId, key: Buffer.from([1]), row: Buffer.from([1]), seq: 1 as Seq } as const;
    void store.apply({ changes: [change], mark: 0 as Seq, catalog: new Map(), position: { ...genesis, seq: 1 as Seq } });
    const counted = {
      get position() {
        return store.position;
      },
      readRows: store.readRows.bind(store),
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
    const ports = {
      environment: { clock: { nowMs: () => this.nowMs, soon: () => {}, every, after: () => () => {} }, log: () => {} },
      network: { sendReliable: (_to: Endpoint, payload: Buffer) => this.replies.push(decodeEngineMessage(payload)) },
      handlers: { onFailure: (error: Error) => this.failures.push(error) },
      journal: null,
      votes: null,
      store: counted,
      local: null,
    } as unknown as HostPorts;
    this.host = new EngineHost({ step: () => this.#wanted.splice(0) } as unknown as EngineCore, ports);
  }

  perform(effect: CoreEffect): void {
    this.#wanted.push(effect);
    this.host.onConnected(peer, 1 as never);
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
  const hosting = new Hosting();
  hosting.perform({ kind: "serveTransfer", to: peer, transfer: 0, cursor: "" });
  hosting.perform({ kind: "serveTransfer", to: peer, transfer: 1, cursor: "%%" });
  expect(hosting.failures).toEqual([]);
  expect(hosting.replies).toHaveLength(1);
});

test("a transfer whose Archive is gone is closed, though nobody asks for another: it keeps old pages from being used again", () => {
  const hosting = new Hosting();
  hosting.perform({ kind: "serveTransfer", to: peer, transfer: 0, cursor: "" });
  expect(hosting.open).toBe(1);
  hosting.wait(90_000);
  expect(hosting.open).toBe(0);
  expect(hosting.failures).toEqual([]);
});
