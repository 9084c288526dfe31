/** What the parts of an EngineCore share: the time, the effects of this step, who this engine is, and the ways to talk. */
import { RecentKeys } from "../atoms/recent-keys.js";
import { assert } from "../base/errors.js";
import { type AtomId, atomsPerEngine, type Endpoint, type EngineId, type Life, noEngine, type Seq } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import type { Random } from "../base/random.js";
import type { Catalog } from "../catalog/catalog.js";
import { type EngineMessage, encodeEngineMessage } from "../messages/wire/engine-messages.js";
import type { Entry } from "../messages/wire/entry.js";
import type { CoreEffect, Self } from "./core-types.js";

/** Between two inputs of an engine that runs there is a tick: beyond this, in milliseconds, it did not run. */
const awakeStepMsMax = 100;

export class CoreContext {
  /**
   * The time, but for what it went on by while this process did not run: others cannot be heard by who stands still, and where a whole machine stands still, or next to no
   * processor is left for its engines, all would take each other for dead. By this clock others are silent.
   */
  awakeMs: number;
  #nowMs: number;
  /** Its engine id; 0 until its BOOT is applied. */
  engine: EngineId = noEngine;
  /** Of its engine id (Member.life). */
  life = 0 as Life;
  /** Whom to propose to; null: nobody known. */
  sequencer: Endpoint | null = null;
  /** The last entry that the catalog has applied. */
  position: LogPosition;
  readonly recent: RecentKeys;
  /** Entries that the sequencer here has read already, by their bytes: applying them need not read them again. */
  readonly decoded = new WeakMap<Uint8Array, Entry>();
  /** Atoms that went from one live originator to another, and that became one with others, as this engine has seen since it began. */
  readonly atomChanges = { handoff: 0, demote: 0, merge: 0 };
  readonly #stepMsMax: number;
  #effects: CoreEffect[] = [];
  #atomsMade = 0;

  constructor(
    readonly self: Self,
    readonly catalog: Catalog,
    readonly random: Random,
    position: LogPosition,
    nowMs: number,
    stepMsMax = awakeStepMsMax,
  ) {
    this.position = position;
    this.#nowMs = nowMs;
    this.awakeMs = nowMs;
    this.#stepMsMax = stepMsMax;
    this.recent = new RecentKeys(position.seq);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  set nowMs(nowMs: number) {
    this.awakeMs += Math.min(nowMs - this.#nowMs, this.#stepMsMax);
    this.#nowMs = nowMs;
  }

  get appliedSeq(): Seq {
    return this.position.seq;
  }

  push(effect: CoreEffect): void {
    this.#effects.push(effect);
  }

  take(): readonly CoreEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  send(to: Endpoint, message: EngineMessage): void {
    this.push({ kind: "send", to, channel: "reliable", payload: encodeEngineMessage(message) });
  }

  log(level: "debug" | "info" | "warn", message: string, fields: Record<string, unknown> = {}): void {
    this.push({ kind: "log", level, message, fields });
  }

  endpointOf(engine: EngineId): Endpoint | null {
    return this.catalog.members.get(engine)?.endpoint ?? null;
  }

  /** So few numbers for atoms are left that the engine should start over, as a new one. */
  get isWornOut(): boolean {
    return this.#atomsMade > atomsPerEngine / 2 - 65_536;
  }

  /** A new atom's id. The upper half of an engine's numbers is the local store's, for DDL. */
  nextAtomId(): AtomId {
    assert(this.life > 0, "who is no member makes no atoms");
    return (this.life * atomsPerEngine + ++this.#atomsMade) as AtomId;
  }

  /** Live Archives, in an order that is random but fixed for this engine: who is asked for pulls and cuts. */
  archives(): Endpoint[] {
    const endpoints: Endpoint[] = [];
    for (const member of this.catalog.members.values()) if (member.kind === "archive") endpoints.push(member.endpoint);
    return endpoints;
  }
}
