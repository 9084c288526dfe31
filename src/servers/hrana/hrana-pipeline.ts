/** Carries out the requests of a stream, one after another; each runs also when one before it failed, and each has its result. */
import { unreachable } from "../../base/errors.js";
import type { Statement, Step, StepOutcome } from "../../sql/local-store.js";
import type { RequestedStatement, RequestedStep, SqlSource, StreamRequest } from "./hrana-decode.js";
import { encodeBatchResult, encodeDescription, encodeResult } from "./hrana-encode.js";
import { encodeFault, faultOf, HttpFault } from "./hrana-errors.js";
import type { HranaLimits } from "./hrana-limits.js";
import type { HranaStream } from "./hrana-streams.js";
import type { ServerLog } from "./server-log.js";

export interface PipelineOutcome {
  /** The results, as the inside of a JSON array. */
  readonly json: string;
  /** The client asked for the stream's end. */
  readonly isClosed: boolean;
}

export async function runPipeline(
  stream: HranaStream,
  requests: readonly StreamRequest[],
  limits: HranaLimits,
  log: ServerLog,
): Promise<PipelineOutcome> {
  let json = "";
  let isClosed = false;
  for (let index = 0; index < requests.length; index++) {
    const request = requests[index];
    if (request === undefined) continue;
    if (index > 0) json += ",";
    if (request.kind === "close") {
      isClosed = true;
      json += '{"type":"ok","response":{"type":"close"}}';
      continue;
    }
    try {
      if (isClosed) throw streamFault("STREAM_CLOSED", "A request of this pipeline before this one closed the stream.");
      json += `{"type":"ok","response":${await runRequest(stream, request, limits, limits.responseCharsMax - json.length)}}`;
    } catch (error) {
      logUnexpected(error, log);
      json += `{"type":"error","error":${error instanceof FaultReply ? error.json : encodeFault(faultOf(error))}}`;
    }
  }
  return { json, isClosed };
}

/** A statement's own fault, already encoded: the whole of it (offset, extended code) reaches the client. */
export class FaultReply extends Error {
  override name = "FaultReply";

  constructor(readonly json: string) {
    super("statement failed");
  }
}

type WorkRequest = Exclude<StreamRequest, { kind: "close" }>;

async function runRequest(stream: HranaStream, request: WorkRequest, limits: HranaLimits, charsMax: number): Promise<string> {
  switch (request.kind) {
    case "execute":
      return `{"type":"execute","result":${await runStatement(stream, request.statement, charsMax)}}`;
    case "batch":
      return `{"type":"batch","result":${await runBatch(stream, request.steps, charsMax)}}`;
    case "sequence": {
      const fault = await stream.session.sequence(resolveSql(stream, request.sql));
      if (fault !== null) throw new FaultReply(encodeFault(fault));
      return '{"type":"sequence"}';
    }
    case "describe": {
      const description = await stream.session.describe(resolveSql(stream, request.sql));
      if ("code" in description) throw new FaultReply(encodeFault(description));
      return `{"type":"describe","result":${encodeDescription(description)}}`;
    }
    case "store_sql":
      storeSql(stream, request.id, request.sql, limits);
      return '{"type":"store_sql"}';
    case "close_sql":
      stream.sqlCharCount -= stream.sqlTexts.get(request.id)?.length ?? 0;
      stream.sqlTexts.delete(request.id);
      return '{"type":"close_sql"}';
    case "get_autocommit":
      return `{"type":"get_autocommit","is_autocommit":${stream.session.autocommit}}`;
    default:
      return unreachable(request);
  }
}

/** A StmtResult. A batch of one, and not Session.execute: its fault keeps the offset and costs no exception. */
export async function runStatement(stream: HranaStream, requested: RequestedStatement, charsMax: number): Promise<string> {
  const startedMs = performance.now();
  const [outcome] = await stream.session.batch([{ ...resolveStatement(stream, requested), condition: null }]);
  if (outcome === undefined || outcome.kind === "skipped") throw new Error("the session skipped a step that has no condition");
  if (outcome.kind === "error") throw new FaultReply(encodeFault(outcome.fault));
  const result = encodeResult(outcome.result, performance.now() - startedMs, charsMax);
  if (result === null) throw tooLarge();
  return result;
}

/** A BatchResult. */
export async function runBatch(stream: HranaStream, steps: readonly RequestedStep[], charsMax: number): Promise<string> {
  const startedMs = performance.now();
  const result = encodeBatchResult(await runSteps(stream, steps), performance.now() - startedMs, charsMax);
  if (result === null) throw tooLarge();
  return result;
}

export function runSteps(stream: HranaStream, steps: readonly RequestedStep[]): Promise<readonly StepOutcome[]> {
  const resolved: Step[] = steps.map((step) => ({ ...resolveStatement(stream, step), condition: step.condition }));
  return stream.session.batch(resolved);
}

function resolveStatement(stream: HranaStream, requested: RequestedStatement): Statement {
  return { sql: resolveSql(stream, requested.sql), args: requested.args, wantRows: requested.wantRows };
}

function resolveSql(stream: HranaStream, source: SqlSource): string {
  if (typeof source === "string") return source;
  const sql = stream.sqlTexts.get(source);
  if (sql === undefined) throw streamFault("SQL_NOT_FOUND", `This stream has no stored SQL text ${source}.`);
  return sql;
}

function storeSql(stream: HranaStream, id: number, sql: string, limits: HranaLimits): void {
  if (stream.sqlTexts.has(id)) throw streamFault("SQL_ALREADY_STORED", `This stream has a stored SQL text ${id} already; close it first.`);
  if (stream.sqlTexts.size >= limits.storedSqlMax || stream.sqlCharCount + sql.length > limits.storedSqlCharsMax) {
    throw streamFault(
      "SQL_STORE_FULL",
      `A stream stores at most ${limits.storedSqlMax} SQL texts of ${limits.storedSqlCharsMax} characters in all; close some.`,
    );
  }
  stream.sqlTexts.set(id, sql);
  stream.sqlCharCount += sql.length;
}

function streamFault(code: string, message: string): HttpFault {
  return new HttpFault(400, code, message);
}

function tooLarge(): HttpFault {
  return new HttpFault(
    400,
    "RESPONSE_TOO_LARGE",
    "The statement ran, but its rows are more than one reply may hold: read them by a cursor, or in parts with LIMIT.",
  );
}

/** Writes down what faultOf() keeps from the client. */
export function logUnexpected(error: unknown, log: ServerLog): void {
  if (error instanceof FaultReply || error instanceof HttpFault) return;
  if (faultOf(error).code === "INTERNAL_ERROR") log.error({ err: error }, "a request failed unexpectedly");
}
