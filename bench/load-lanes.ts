/** Closed loops: each lane begins its next operation when the one before has ended. */
import { counterRows, type Lane, type LoadClient } from "./clients/load-client.js";
import { addLatency, emptyHistogram } from "./latency-histogram.js";
import { monotonicMs, type RunOrder, type RunResult, type Work, type WriteResult } from "./load-messages.js";

const operations: Readonly<Record<Work, (lane: Lane) => Promise<void>>> = {
  insert: (lane) => lane.insert(),
  update: (lane) => lane.update(anyCounter()),
  read: (lane) => lane.read(anyCounter()),
  hot: (lane) => lane.update(1),
};

/** After a failure, so that a system that is down is asked again and not hammered. Milliseconds. */
const failurePauseMs = 5;

function anyCounter(): number {
  return 1 + Math.floor(Math.random() * counterRows);
}

/** Lanes are kept from run to run: connections are made outside what is measured. */
export class LaneSet {
  readonly #client: LoadClient;
  readonly #lanes: Lane[] = [];

  constructor(client: LoadClient) {
    this.#client = client;
  }

  async take(count: number): Promise<readonly Lane[]> {
    while (this.#lanes.length < count) this.#lanes.push(await this.#client.openLane());
    return this.#lanes.slice(0, count);
  }

  async close(): Promise<void> {
    await Promise.all(this.#lanes.splice(0).map((lane) => lane.close()));
  }
}

export async function runLanes(lanes: readonly Lane[], order: RunOrder): Promise<RunResult> {
  const operate = operations[order.work];
  const latencies = emptyHistogram();
  let failed = 0;
  let firstError: string | null = null;
  const startMs = monotonicMs();
  const endMs = startMs + order.seconds * 1000;
  const loop = async (lane: Lane): Promise<void> => {
    for (let beganMs = monotonicMs(); beganMs < endMs; ) {
      try {
        await operate(lane);
        const nowMs = monotonicMs();
        addLatency(latencies, (nowMs - beganMs) * 1000);
        beganMs = nowMs;
      } catch (error) {
        failed++;
        firstError ??= messageOf(error);
        await pause();
        beganMs = monotonicMs();
      }
    }
  };
  await Promise.all(lanes.map(loop));
  return { succeeded: latencies.count, failed, firstError, seconds: (monotonicMs() - startMs) / 1000, latencies };
}

export interface Writing {
  end(): Promise<WriteResult>;
}

/** Writes until told to stop, and notes when each write succeeded. */
export function beginWrites(lanes: readonly Lane[], work: Work): Writing {
  const operate = operations[work];
  const successesMs: number[] = [];
  let failed = 0;
  let firstError: string | null = null;
  let stopped = false;
  const loop = async (lane: Lane): Promise<void> => {
    while (!stopped) {
      try {
        await operate(lane);
        successesMs.push(monotonicMs());
      } catch (error) {
        failed++;
        firstError ??= messageOf(error);
        await pause();
      }
    }
  };
  const all = Promise.all(lanes.map(loop));
  return {
    async end() {
      stopped = true;
      await all;
      return { successesMs, failed, firstError };
    },
  };
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, failurePauseMs));
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
