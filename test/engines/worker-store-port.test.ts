/** A real store that is served by a real thread, beside the same answers given here. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { AtomId, Endpoint, Seq, SpaceId } from "../../src/base/ids.js";
import type { StoreQuestion } from "../../src/engines/core-types.js";
import type { StorePort } from "../../src/engines/environment.js";
import { StoreServer } from "../../src/engines/store-server.js";
import type { openWorkerStorePort } from "../../src/engines/worker-store-port.js";
import type { AtomStore } from "../../src/storage/atom-store.js";
import { openLmdbAtomStore } from "../../src/storage/lmdb-atom-store.js";
import { storeChangesOf } from "../../src/storage/store-changes.js";
import { genesis } from "./engine-parts.js";

const peer = "127.0.0.1:1" as Endpoint;
const space = 5 as SpaceId;
const none = { low: Buffer.alloc(0), high: null, minSeq: 0 as Seq };
const compiled = new URL("../../dist/src/engines/worker-store-port.js", import.meta.url);
const ends: (() => Promise<unknown> | undefined)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Told {
  readonly to: Endpoint;
  readonly payload: Buffer | null;
  readonly malformed: string | null;
}

class Served {
  readonly #told: Told[] = [];
  #heard: (() => void) | null = null;

  private constructor(
    readonly store: AtomStore,
    readonly port: StorePort,
    told: (listener: (one: Told) => void) => void,
  ) {
    told((one) => {
      this.#told.push(one);
      this.#heard?.();
    });
  }

  static async open(): Promise<Served> {
    const directory = mkdtempSync(join(tmpdir(), "atomcast-test-reader-"));
    ends.push(async () => rmSync(directory, { recursive: true }));
    const store = await openLmdbAtomStore(directory);
    ends.push(() => store.close());
    const module = (await import(compiled.href)) as { openWorkerStorePort: typeof openWorkerStorePort };
    let listener: (one: Told) => void = () => {};
    const port = module.openWorkerStorePort(directory, {
      onAnswer: (to, payload) => listener({ to, payload, malformed: null }),
      onMalformed: ({ to }, malformed) => listener({ to, payload: null, malformed }),
      onFailure: (error) => {
        throw error;
      },
    });
    ends.push(() => port.close());
    return new Served(store, port, (one) => {
      listener = one;
    });
  }

  async put(seq: number, keys: readonly number[]): Promise<void> {
    const changes = keys.map((key) => ({ kind: "put", space, key: Buffer.from([key]), row: Buffer.alloc(500, seq), seq: seq as Seq }) as const);
    const catalog = new Map([["m", Buffer.from([seq])]]);
    await this.store.apply({ changes: storeChangesOf(changes), mark: 0 as Seq, catalog, position: { ...genesis, seq: seq as Seq } });
  }

  async told(): Promise<Told> {
    while (this.#told.length === 0)
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    return this.#told.shift() as Told;
  }

  async answer(question: StoreQuestion): Promise<Buffer | null> {
    this.port.ask(question);
    return (await this.told()).payload;
  }
}

function rows(bytesMax: number): StoreQuestion {
  const request = { kind: "pullRequest", pull: 7, space, since: 0 as Seq, bytesMax, asOf: 0 as Seq, ...none } as Extract<
    StoreQuestion,
    { kind: "serveRows" }
  >["request"];
  return { kind: "serveRows", to: peer, request, sameThrough: 0 as Seq };
}

test("rows, cuts and transfers are what they are here, and as new as what was stored before the question", { timeout: 30_000 }, async () => {
  const served = await Served.open();
  const here = new StoreServer(served.store);
  for (let seq = 1; seq <= 20; seq++) {
    await served.put(seq, [seq, 100 + seq, 50]);
    const questions: StoreQuestion[] = [
      rows(1_000_000),
      rows(2000),
      { kind: "serveCuts", to: peer, request: { kind: "cutsRequest", atom: 3 as AtomId, space, ...none } },
    ];
    for (const question of questions) expect(await served.answer(question)).toEqual(here.answer(question, 0));
  }
  const transfer = { kind: "serveTransfer", to: peer, transfer: 0, cursor: "" } as const;
  expect(await served.answer(transfer)).toEqual(here.answer(transfer, 0));
});

test("what cannot be read is told, and the next question answered; it ends with a transfer open, and the store after it", {
  timeout: 30_000,
}, async () => {
  const served = await Served.open();
  await served.put(1, [1]);
  expect(await served.answer({ kind: "serveTransfer", to: peer, transfer: 0, cursor: "" })).not.toBeNull();
  served.port.ask({ kind: "serveTransfer", to: peer, transfer: 1, cursor: "%%" });
  expect((await served.told()).malformed).toMatch(/\w/);
  expect(await served.answer(rows(1000))).not.toBeNull();
  await served.port.close();
  await served.put(2, [2]);
  await served.store.close();
});
