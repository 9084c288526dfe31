/** Bounds of one Hrana server, and what happens at each. */
import { entryBytesMax } from "../../base/limits.js";

export interface HranaLimits {
  /** Bytes of one request's body; more is answered 413. */
  readonly requestBytesMax: number;
  /** Bytes of all bodies that are being received or decoded; more is answered 503. */
  readonly bufferedBytesMax: number;
  /** Requests being received or carried out; more are answered 503. */
  readonly requestsMax: number;
  /** TCP connections; more are closed as they arrive. */
  readonly connectionsMax: number;
  /** Streams that are open between requests or in use; more are answered 503. */
  readonly streamsMax: number;
  /** A stream without a request for so long is rolled back and forgotten, in milliseconds. */
  readonly streamIdleMs: number;
  /** Texts that one stream may store. */
  readonly storedSqlMax: number;
  /** Characters of all texts that one stream may store. */
  readonly storedSqlCharsMax: number;
  /** Characters of one reply; a result that does not fit is an error in its place, with the advice to use a cursor. */
  readonly responseCharsMax: number;
  /** How long close() lets running requests go on, in milliseconds; then their connections are cut. */
  readonly closeMs: number;
}

export const hranaLimits: HranaLimits = {
  // The largest transaction, as base64 (4/3) with JSON around it.
  requestBytesMax: Math.ceil((entryBytesMax * 4) / 3) + 8 * 1024 * 1024,
  bufferedBytesMax: 256 * 1024 * 1024,
  requestsMax: 4096,
  connectionsMax: 8192,
  streamsMax: 4096,
  // What sqld does; clients rely on no more.
  streamIdleMs: 10_000,
  // @libsql/client keeps at most 30.
  storedSqlMax: 256,
  storedSqlCharsMax: 4 * 1024 * 1024,
  // Below V8's longest string (2^29 − 24).
  responseCharsMax: 256 * 1024 * 1024,
  closeMs: 5_000,
};

/** A condition nested deeper than this is refused: decoding recurs. Clients nest three deep. */
export const conditionDepthMax = 64;
