/** One engine's process in the simulator: the real engine, on a clock, a network, a disk or a local store of virtual time. */
import type { ClusterId, Endpoint } from "../../src/base/ids.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import { ArchiveEngine } from "../../src/engines/archive-engine.js";
import { CacheEngine } from "../../src/engines/cache-engine.js";
import type { CatalogLimits } from "../../src/engines/core-types.js";
import type { EngineCore } from "../../src/engines/engine-core.js";
import type { Environment, LocalHandlers, LocalPort } from "../../src/engines/environment.js";
import type { MemoryFabric } from "../../src/messages/network/memory-network.js";
import type { StreamLimits } from "../../src/messages/stream/stream-node-types.js";
import type { Coverage } from "./coverage.js";
import { type Courier, watchedHandlers, watchedNetwork } from "./network-watch.js";
import type { SimulatedDisk } from "./simulated-disk.js";
import { openSimulatedLocalPort, type SimulatedLocalPort } from "./simulated-local-port.js";
import { ProcessClock, type VirtualTime } from "./virtual-time.js";

export interface ProcessWorld {
  readonly time: VirtualTime;
  readonly fabric: MemoryFabric;
  readonly random: Random;
  readonly limits: Omit<StreamLimits, "datagramBytesMax">;
  readonly catalogLimits: CatalogLimits;
  readonly votersTarget: number;
  /** `--history` of its Archives. */
  readonly historyMs: number | null;
  /** Of rows that a Cache holds; Infinity: all that it has needed. */
  readonly memoryBytes: number;
  readonly coverage: Coverage;
  /** Whose multicast a process hears; null: there is none. */
  groupOf(name: string): string | null;
  /** Endpoints that every process is told at its start. */
  readonly contacts: readonly Endpoint[];
  /** Virtual time that the local store takes for what a turn has posted, in milliseconds. */
  readonly storeMsMax: number;
  /** Something has happened to the process: its state is looked at after this event. */
  touched(process: SimulatedProcess): void;
  trace(who: string, text: string): void;
  /** The engine says that it cannot go on. */
  failed(process: SimulatedProcess, error: Error): void;
}

const clusterId = "5111a7ed00000001" as ClusterId;
const secret = Buffer.alloc(32, 7);

export class SimulatedProcess {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly disk: SimulatedDisk | null;
  readonly #world: ProcessWorld;
  state: "down" | "up" | "paused" | "leaving" = "down";
  /** Reliable messages by their number, of all lives. */
  readonly sent = new Map<number, number>();
  /** Of what it sends over connections: tests lose, hold and double it. */
  courier: Courier = null;
  /** Counts its starts. */
  life = 0;
  engine: ArchiveEngine | CacheEngine | null = null;
  local: SimulatedLocalPort | null = null;
  /** Of its life: stores of the past, closed ones too. */
  #pasts: SimulatedLocalPort[] = [];
  #clock: ProcessClock | null = null;

  /** `disk` null: a Cache. */
  constructor(world: ProcessWorld, name: string, endpoint: Endpoint, disk: SimulatedDisk | null) {
    this.#world = world;
    this.name = name;
    this.endpoint = endpoint;
    this.disk = disk;
  }

  get kind(): "archive" | "cache" {
    return this.disk === null ? "cache" : "archive";
  }

  get core(): EngineCore | null {
    return this.engine?.core ?? null;
  }

  get cache(): CacheEngine | null {
    return this.engine instanceof CacheEngine ? this.engine : null;
  }

  get archive(): ArchiveEngine | null {
    return this.engine instanceof ArchiveEngine ? this.engine : null;
  }

  /** Whether it is a member and has no core in between. */
  get isMember(): boolean {
    return this.state !== "down" && (this.core?.engine ?? 0) !== 0;
  }

  start(): void {
    const world = this.#world;
    this.life++;
    this.state = "up";
    const random = seededRandom(world.random.integer(2 ** 48));
    const offsetMs = 1_000_000 + world.random.integer(400_000) / 1000;
    const clock = new ProcessClock(world.time, random, offsetMs, () => world.touched(this));
    this.#clock = clock;
    const { life } = this;
    const onFailure = (error: Error): void => {
      if (this.life === life && this.state !== "down") world.failed(this, error);
    };
    const environment = this.#environment(clock, random);
    world.trace(this.name, `starts (life ${life})`);
    if (this.disk === null) {
      const openLocal = (handlers: LocalHandlers, isPast: boolean): LocalPort => {
        const { storeMsMax, coverage } = world;
        const port = openSimulatedLocalPort({ clock, random, handlers, storeMsMax, coverage, trace: (text) => world.trace(this.name, text) });
        if (isPast) this.#pasts.push(port);
        else this.local = port;
        return port;
      };
      this.engine = new CacheEngine({ environment, database: "sim", clusterId, memoryBytes: world.memoryBytes, settings: [], openLocal, onFailure });
    } else {
      const disk = this.disk.open(clock);
      this.engine = new ArchiveEngine({ environment, disk, votersTarget: world.votersTarget, historyMs: world.historyMs, onFailure });
    }
    this.engine.start().catch(onFailure);
  }

  #environment(clock: ProcessClock, random: Random): Environment {
    const world = this.#world;
    const { endpoint, name } = this;
    return {
      clock,
      random,
      limits: world.limits,
      catalogLimits: world.catalogLimits,
      pid: this.life,
      contacts: world.contacts,
      log: (level, message, fields) => {
        world.trace(name, fields === undefined ? message : `${message} ${JSON.stringify(fields)}`);
        this.#countLog(level, message, fields);
      },
      openNetwork: async (nonce, handlers) => {
        const watched = watchedHandlers(handlers, () => world.touched(this));
        const network = world.fabric.open({
          clusterId,
          secret,
          nonce,
          endpoint,
          group: world.groupOf(name),
          handlers: watched,
          datagramBytesMax: 1400,
        });
        return watchedNetwork(network, world.coverage, this.sent, () => this.courier);
      },
    };
  }

  #countLog(_level: string, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    const { coverage } = this.#world;
    if (message === "is the sequencer") coverage.count("stream", "sequencer changed");
    else if (message === "an Archive becomes a voter") coverage.count("sequencer", "VOTERS: Archive added");
    else if (message === "has copied the database") coverage.count("archive", "nothing: transfer");
    else if (message === "the journal is damaged; it is repaired from a peer") coverage.count("archive", "damaged journal");
    else if (message === "starts over" && this.kind === "archive") {
      const needsState = String(fields.reason).includes("in no journal any more");
      coverage.count("archive", needsState ? "store behind every journal: transfer" : "starts over");
    } else if (message === "engine is gone")
      coverage.count("sequencer", String(fields.reason).startsWith("silent") ? "LEAVE: silent" : "LEAVE: port refuses");
  }

  /** kill -9: what is not on the disk is gone, and nobody is told but by the network. */
  crash(): void {
    if (this.state === "down") return;
    this.#world.trace(this.name, "is killed");
    this.#end();
    this.#world.fabric.kill(this.endpoint);
    this.disk?.crash();
  }

  #end(): void {
    this.state = "down";
    this.#clock?.kill();
    this.#clock = null;
    this.local?.end();
    for (const port of this.#pasts.splice(0)) port.end();
    this.local = null;
    this.engine = null;
  }

  pause(): void {
    if (this.state !== "up") return;
    this.#world.trace(this.name, "is stopped");
    this.state = "paused";
    this.#clock?.pause();
    this.#world.fabric.pause(this.endpoint);
  }

  resume(): void {
    if (this.state !== "paused") return;
    this.#world.trace(this.name, "goes on");
    this.state = "up";
    this.#world.fabric.resume(this.endpoint);
    this.#clock?.resume();
  }

  /** A clean stop. `then` is called when the process has ended, unless it is killed before. */
  leave(then: () => void): void {
    const { engine, life } = this;
    if (engine === null || this.state !== "up") return;
    this.#world.trace(this.name, "leaves");
    this.state = "leaving";
    engine.stop().then(
      () => {
        if (this.life !== life || this.state !== "leaving") return;
        this.#end();
        this.#world.fabric.kill(this.endpoint);
        this.disk?.crash();
        this.#world.trace(this.name, "has left");
        then();
      },
      (error: unknown) => this.#world.failed(this, error as Error),
    );
  }
}
