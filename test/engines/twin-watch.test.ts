/** Archives with one node id, in virtual time: each row of the table in twin-watch.ts. */
import { expect, test } from "vitest";
import { genesisHash } from "../../src/base/chain-hash.js";
import { type Endpoint, type EngineId, type NodeId, type Nonce, noSeq, noTerm, type Seq } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { TwinWatch } from "../../src/engines/twin-watch.js";
import { type AnnounceMessage, decodeEngineMessage, encodeEngineMessage } from "../../src/messages/wire/engine-messages.js";
import { formatVersion } from "../../src/messages/wire/entry.js";

const quietMs = 250;

const tickMs = 20;
const delayMs = 1;

interface Archive {
  readonly context: CoreContext;
  readonly watch: TwinWatch;
  readonly warnings: string[];
  stoppedMs: number | null;
}

interface Beginning {
  readonly nodeId?: number;
  readonly nonce: number;
  readonly engine?: number;
  readonly known?: readonly Endpoint[];
  readonly fromFolder?: boolean;
}

class World {
  nowMs = 0;
  readonly archives: Archive[] = [];
  /** Whether multicast reaches anybody. */
  hasMulticast = true;
  readonly #flying: { readonly atMs: number; readonly to: Archive; readonly from: Endpoint; readonly payload: Buffer }[] = [];

  begin({ nodeId = 7, nonce, engine = 0, known = [], fromFolder = true }: Beginning): Archive {
    const endpoint = `10.0.0.${this.archives.length + 1}:7000` as Endpoint;
    const self = { kind: "archive" as const, nodeId: nodeId as NodeId, nonce: nonce as Nonce, endpoint, http: "-", pid: 1 };
    const position = { seq: noSeq, term: noTerm, hash: genesisHash };
    const context = new CoreContext(self, Catalog.load(new Map()), seededRandom(1), position, this.nowMs);
    context.engine = engine as EngineId;
    const watch = new TwinWatch(context, known, fromFolder ? quietMs : 0, () => announcementOf(context));
    const archive: Archive = { context, watch, warnings: [], stoppedMs: null };
    this.archives.push(archive);
    return archive;
  }

  run(ms: number): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.nowMs++) {
      for (const one of this.#flying.splice(0)) {
        if (one.atMs > this.nowMs) this.#flying.push(one);
        else this.#deliver(one.to, one.from, one.payload);
      }
      if (this.nowMs % tickMs === 0) for (const archive of this.#running) this.#step(archive, () => archive.watch.tick());
    }
  }

  get #running(): readonly Archive[] {
    return this.archives.filter(({ stoppedMs }) => stoppedMs === null);
  }

  #deliver(to: Archive, from: Endpoint, payload: Buffer): void {
    if (to.stoppedMs !== null) return;
    const message = decodeEngineMessage(payload);
    this.#step(to, () => {
      if (message.kind === "announce") to.watch.onAnnounce(from, message);
      // As engine-core.ts does for all who ask.
      else if (message.kind === "seek") this.announce(to, from);
    });
  }

  announce(archive: Archive, to: Endpoint): void {
    archive.context.push({ kind: "send", to, channel: "datagram", payload: encoded(announcementOf(archive.context)) });
  }

  #step(archive: Archive, act: () => void): void {
    archive.context.nowMs = this.nowMs;
    act();
    for (const effect of archive.context.take()) {
      if (effect.kind === "twin") archive.stoppedMs = this.nowMs;
      else if (effect.kind === "log") archive.warnings.push(`${effect.message}: ${effect.fields.endpoint}`);
      else if (effect.kind === "send" || effect.kind === "multicast") {
        const others = this.archives.filter(
          (one) => one !== archive && (effect.kind === "multicast" ? this.hasMulticast : one.context.self.endpoint === effect.to),
        );
        for (const to of others)
          this.#flying.push({ atMs: this.nowMs + delayMs, to, from: archive.context.self.endpoint, payload: effect.payload as Buffer });
      }
    }
  }
}

function encoded(message: AnnounceMessage): Buffer {
  return encodeEngineMessage(message);
}

function announcementOf({ self, engine }: CoreContext): AnnounceMessage {
  return {
    kind: "announce",
    engineKind: self.kind,
    nodeId: self.nodeId,
    nonce: self.nonce,
    engine,
    sequencer: "",
    term: noTerm,
    commitSeq: noSeq,
    appliedSeq: noSeq,
    atomsHeld: 0,
    formatVersion,
    canServe: engine !== 0,
    oldestSnapshot: 0 as Seq,
    versions: 0,
    versionBytes: 0,
    versionFloor: noSeq,
    sweptVersions: 0,
    sweptBytes: 0,
    largeValues: 0,
    largeValueBytes: 0,
    openTransaction: 0,
    openMs: 0,
    by: "",
    parent: "",
  };
}

test("alone: it goes on when its quiet time is over", () => {
  const world = new World();
  const other = world.begin({ nodeId: 8, nonce: 1, engine: 5 });
  const archive = world.begin({ nonce: 2 });
  world.run(quietMs - 1);
  expect(archive.watch.isQuiet).toBe(true);
  world.run(tickMs + 1);
  expect(archive.watch.isQuiet).toBe(false);
  world.run(5000);
  expect([archive.stoppedMs, other.stoppedMs, archive.warnings, other.warnings]).toEqual([null, null, [], []]);
});

test("an Archive that did not begin from its folder is not quiet", () => {
  const world = new World();
  expect(world.begin({ nonce: 2, fromFolder: false }).watch.isQuiet).toBe(false);
});

test.each([true, false])(
  "twin: a copy that is started beside a member stops before it has taken part, and both know (multicast %s)",
  (hasMulticast) => {
    const world = new World();
    world.hasMulticast = hasMulticast;
    const member = world.begin({ nonce: 9, engine: 5, fromFolder: false });
    const copy = world.begin({ nonce: 2, known: [member.context.self.endpoint] });
    for (let steps = 0; steps < 200 && copy.stoppedMs === null; steps++) {
      world.run(tickMs);
      expect(copy.watch.isQuiet).toBe(true);
      expect(member.watch.isQuiet).toBe(false);
    }
    expect(copy.stoppedMs).toBeLessThan(2500);
    expect(member.stoppedMs).toBe(null);
    expect(member.warnings).toEqual([`another Archive has a copy of this one's data folder, and is told to stop: ${copy.context.self.endpoint}`]);
  },
);

test("twin: of two that begin at once, one stops, and the other goes on when that one has gone", () => {
  const world = new World();
  const [first, second] = [world.begin({ nonce: 2 }), world.begin({ nonce: 9 })];
  for (let steps = 0; steps < 200 && second.stoppedMs === null; steps++) {
    world.run(tickMs);
    expect([first.watch.isQuiet, second.watch.isQuiet]).toEqual([true, true]);
  }
  expect(second.stoppedMs).not.toBe(null);
  expect(first.stoppedMs).toBe(null);
  world.run(2000);
  expect(first.watch.isQuiet).toBe(false);
});

test("twin: of two members the older one stops, which is none any more", () => {
  const world = new World();
  const older = world.begin({ nonce: 2, engine: 5, fromFolder: false });
  const newer = world.begin({ nonce: 9, engine: 6, fromFolder: false });
  world.announce(newer, older.context.self.endpoint);
  world.run(4000);
  expect(older.stoppedMs).not.toBe(null);
  expect(newer.stoppedMs).toBe(null);
});

test.each([true, false])("replaced: the BOOT of its node id from elsewhere ends it, where that one stays (%s)", (stays) => {
  const world = new World();
  const archive = world.begin({ nonce: 2, engine: 5, fromFolder: false });
  const { catalog, self } = archive.context;
  const bootAt = (seq: number, endpoint: string, nodeId: number): void => {
    const common = { kind: "boot", engineKind: "archive", http: "-", pid: 1, formatVersion } as const;
    catalog.apply(seq as Seq, { ...common, nodeId: nodeId as NodeId, nonce: seq as Nonce, endpoint: endpoint as Endpoint });
  };
  bootAt(5, self.endpoint, self.nodeId);
  bootAt(6, "10.0.0.8:7000", 8);
  expect(archive.watch.replaced()).toBe(false);
  bootAt(7, "10.0.0.9:7000", self.nodeId);
  expect(archive.watch.replaced()).toBe(true);
  world.run(900);
  expect([archive.stoppedMs, archive.watch.mustStartOver, archive.watch.isQuiet]).toEqual([null, false, false]);
  if (!stays) catalog.apply(8 as Seq, { kind: "leave", engine: 7 as EngineId, ids: [] });
  world.run(2000);
  expect(archive.stoppedMs === null).toBe(!stays);
  expect(archive.watch.mustStartOver).toBe(!stays);
});

test("suspect: a late word of its own former process keeps it quiet for a while, and no longer", () => {
  const world = new World();
  const former = world.begin({ nonce: 9, engine: 5, fromFolder: false });
  const archive = world.begin({ nonce: 2 });
  former.stoppedMs = 0;
  archive.watch.onAnnounce(former.context.self.endpoint, announcementOf(former.context));
  world.run(1000);
  expect(archive.watch.isQuiet).toBe(true);
  world.run(1000);
  expect(archive.watch.isQuiet).toBe(false);
  expect([archive.stoppedMs, archive.warnings]).toEqual([null, []]);
});

test("at its own endpoint nobody else is alive, whatever comes from there", () => {
  const world = new World();
  const archive = world.begin({ nonce: 2 });
  const former = { ...announcementOf(archive.context), nonce: 9 as Nonce };
  for (let ms = 0; ms < 3000; ms += 100) {
    archive.watch.onAnnounce(archive.context.self.endpoint, former);
    world.run(100);
  }
  expect([archive.watch.isQuiet, archive.stoppedMs, archive.warnings]).toEqual([false, null, []]);
});
