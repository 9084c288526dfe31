/**
 * The streams of one Hrana server: a session each, found by a baton. A baton is 128 random bits, and good for one request: taking it ends
 * it, so that two requests on one stream never meet, and a baton that was overheard late is worth nothing. A stream that nobody asks for
 * in `streamIdleMs` is closed, which rolls back what it has open.
 */
import { randomBytes } from "node:crypto";
import type { Database, Session } from "../../engines/database.js";
import { HttpFault } from "./hrana-errors.js";
import type { HranaLimits } from "./hrana-limits.js";
import type { ServerLog } from "./server-log.js";

export interface HranaStream {
  readonly session: Session;
  readonly sqlTexts: Map<number, string>;
  sqlCharCount: number;
}

export interface StreamTable {
  /** Opens a stream (null), or takes the one of a baton; HttpFault where there is none. The caller ends with `keep` or `drop`. */
  take(baton: string | null): HranaStream;
  /** Puts a stream back; its next baton. It does not expire while `isBusy` holds. */
  keep(stream: HranaStream, isBusy?: () => boolean): string;
  /** Ends a stream that was taken. */
  drop(stream: HranaStream): Promise<void>;
  readonly openCount: number;
  /** Ends all streams that are not taken, and those that will be put back. */
  close(): Promise<void>;
}

interface KeptStream {
  readonly stream: HranaStream;
  readonly isBusy: () => boolean;
  expiresAtMs: number;
}

const batonBytes = 16;

const never = (): boolean => false;

export function openStreamTable(database: Database, limits: HranaLimits, log: ServerLog): StreamTable {
  const kept = new Map<string, KeptStream>();
  let openCount = 0;
  let isClosed = false;
  let sweepTimer: NodeJS.Timeout | null = null;

  const endSession = async (stream: HranaStream): Promise<void> => {
    openCount--;
    try {
      await stream.session.close();
    } catch (error) {
      log.error({ err: error }, "closing a session failed");
    }
  };

  const sweep = (): void => {
    const nowMs = performance.now();
    for (const [baton, entry] of kept) {
      if (entry.isBusy()) entry.expiresAtMs = nowMs + limits.streamIdleMs;
      else if (entry.expiresAtMs <= nowMs) {
        kept.delete(baton);
        void endSession(entry.stream);
      }
    }
    if (kept.size === 0 && sweepTimer !== null) {
      clearInterval(sweepTimer);
      sweepTimer = null;
    }
  };

  return {
    get openCount() {
      return openCount;
    },
    take(baton) {
      if (isClosed) throw new HttpFault(503, "ATOMCAST_UNAVAILABLE", "This engine is stopping; use another one.");
      if (baton !== null) {
        const entry = kept.get(baton);
        if (entry === undefined || entry.expiresAtMs <= performance.now()) {
          throw new HttpFault(
            400,
            "STREAM_EXPIRED",
            `No stream has this baton: it was used before, or its stream was closed or left alone for ${limits.streamIdleMs / 1000} s, and rolled back. Begin again with baton null.`,
          );
        }
        kept.delete(baton);
        return entry.stream;
      }
      if (openCount >= limits.streamsMax) {
        throw new HttpFault(503, "TOO_MANY_STREAMS", `All ${limits.streamsMax} streams of this server are open; close some, or use another engine.`);
      }
      const stream: HranaStream = { session: database.openSession(), sqlTexts: new Map(), sqlCharCount: 0 };
      openCount++;
      return stream;
    },
    keep(stream, isBusy = never) {
      const baton = randomBytes(batonBytes).toString("base64url");
      if (isClosed) {
        void endSession(stream);
        return baton;
      }
      kept.set(baton, { stream, isBusy, expiresAtMs: performance.now() + limits.streamIdleMs });
      // Looking ten times in a stream's idle time ends it at most a tenth late; take() is exact.
      sweepTimer ??= setInterval(sweep, Math.max(5, limits.streamIdleMs / 10)).unref();
      return baton;
    },
    drop: endSession,
    async close() {
      isClosed = true;
      if (sweepTimer !== null) clearInterval(sweepTimer);
      sweepTimer = null;
      const streams = [...kept.values()].map((entry) => entry.stream);
      kept.clear();
      await Promise.all(streams.map(endSession));
    },
  };
}
