/** What Transactions keeps of a client's batch, and of the transactions that batches leave open. */
import type { Age } from "../atoms/permission-table.js";
import type { EngineId } from "../base/ids.js";
import type { Fence } from "../messages/wire/entry.js";
import type { OpenSummary, PullNeed, RunResult, SessionSettings, Step, StepOutcome } from "../sql/local-store.js";
import type { LocalRun } from "./local-driver.js";

/** From one commit of a batch to the next. */
export interface Unit {
  readonly transaction: number;
  readonly age: Age;
  readonly firstStep: number;
  readonly seed: number;
  /** Later by the time of each fetch and of the first run: a large table takes its time. */
  beganMs: number;
  /** While running or fetching. */
  phaseSinceMs: number;
  attempt: number;
  fetches: number;
  /** What it has pulled: not to be given up before its end. */
  readonly needs: PullNeed[];
  /** Originators that may hold permissions of this unit. */
  readonly asked: Set<EngineId>;
  /** One of these has said that it granted some. */
  isGranted: boolean;
  /** The last that was asked for. */
  run: LocalRun | null;
  phase: "running" | "fetching" | "asking" | "resting" | "proposed" | "settling";
  /** While asking. */
  readonly pending: Map<EngineId, number>;
  /** It ends a transaction that was kept open: it cannot run again. */
  isFinal: boolean;
  fences: readonly Fence[];
  result: Extract<RunResult, { kind: "commit" }> | null;
  restUntilMs: number;
}

/** As it was left by the last batch that was at work in it. */
export interface OpenTransaction {
  readonly beganMs: number;
  readonly leftMs: number;
  readonly summary: OpenSummary;
}

export interface ListedTransaction {
  readonly id: number;
  readonly beganMs: number;
  /** null: a batch is at work in it. */
  readonly idleSinceMs: number | null;
  /** When it is rolled back if nobody goes on in it. null: as above. */
  readonly expiresMs: number | null;
  /** As its last batch left it. */
  readonly summary: OpenSummary;
}

export interface Batch {
  readonly request: number;
  /** Of the transaction that is open when it begins, or that it may leave open. */
  readonly transaction: number;
  /** The next unit goes on in the open transaction. */
  resumes: boolean;
  /** As it was when the batch began. */
  readonly open: OpenTransaction | null;
  readonly steps: readonly Step[];
  readonly outcomes: StepOutcome[];
  settings: SessionSettings;
  cancelled: boolean;
  /** A statement may list all atoms. */
  readonly listsAtoms: boolean;
  /** Units whose entries are applied. */
  committedUnits: number;
  unit: Unit | null;
}
