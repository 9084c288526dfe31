/**
 * A small Hrana client for the command's own tools (shell, import). Over node:http and not fetch: fetch gives up on a reply after
 * five minutes, and an index on a large table, or a long query, may take longer.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { SqlValue } from "../base/values.js";
import { decodeValue } from "../servers/hrana/hrana-decode.js";
import { encodeValue } from "../servers/hrana/hrana-encode.js";

export interface ClientStatement {
  readonly sql: string;
  readonly args?: readonly SqlValue[];
}

export type ClientCondition = { readonly ok: number } | { readonly notOk: number };

export interface ClientStep extends ClientStatement {
  readonly condition?: ClientCondition;
}

export interface ClientResult {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly SqlValue[])[];
  readonly affectedRowCount: number;
  readonly lastInsertRowid: bigint | null;
}

export type ClientOutcome =
  | { readonly kind: "ok"; readonly result: ClientResult }
  | { readonly kind: "error"; readonly error: HranaError }
  | { readonly kind: "skipped" };

export interface HranaClient {
  /** On a stream of its own. */
  query(sql: string, args?: readonly SqlValue[]): Promise<ClientResult>;
  /** On a stream of its own, in one request. */
  batch(steps: readonly ClientStep[]): Promise<readonly ClientOutcome[]>;
  openStream(): ClientStream;
  /** What GET /v1/status answers. */
  status(): Promise<unknown>;
  /** Ends idle connections, and running requests with an error. */
  close(): void;
}

/** Calls must not overlap: a stream has one request at a time. */
export interface ClientStream {
  execute(statement: ClientStatement): Promise<ClientResult>;
  /** As of the last reply; true before the first. */
  readonly isAutocommit: boolean;
  /** Keeps an open stream from expiring; opens none. */
  keepAlive(): Promise<void>;
  close(): Promise<void>;
}

/** What the server answered instead of a result, or that it could not be asked (`ATOMCAST_UNREACHABLE`). */
export class HranaError extends Error {
  override name = "HranaError";

  constructor(
    readonly code: string,
    message: string,
    /** Byte offset of the token at fault, or −1. */
    readonly offset = -1,
    readonly extendedCode = code,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }

  /** The request may have taken effect, or may succeed if it is sent again: only the database's state can tell. */
  get isTransient(): boolean {
    return this.code.startsWith("ATOMCAST_") || transientCodes.has(this.code);
  }
}

const transientCodes = new Set(["SQLITE_BUSY", "STREAM_EXPIRED", "TOO_BUSY", "TOO_MANY_STREAMS", "INTERNAL_ERROR"]);

/** Bytes of a reply that are read at most; the server's own bound is lower. */
const replyBytesMax = 512 * 1024 * 1024;

type Fields = Readonly<Record<string, unknown>>;

interface PipelineReply {
  readonly baton: string | null;
  readonly baseUrl: URL;
  readonly results: readonly Fields[];
}

/** `url`: http, https, or libsql (which means https, or http with `?tls=0`). */
export function openHranaClient(url: string, options: { readonly token?: string } = {}): HranaClient {
  const base = baseUrlOf(url);
  const agent = base.protocol === "https:" ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });

  const send = (from: URL, method: "GET" | "POST", path: string, body: string | null): Promise<Fields> =>
    new Promise((resolve, reject) => {
      const target = new URL(path, from);
      const secure = target.protocol === "https:";
      const headers: Record<string, string | number> = { accept: "application/json" };
      if (body !== null) {
        headers["content-type"] = "application/json";
        headers["content-length"] = Buffer.byteLength(body);
      }
      if (options.token !== undefined) headers.authorization = `Bearer ${options.token}`;
      const unreachable = (cause: NodeJS.ErrnoException): void =>
        reject(new HranaError("ATOMCAST_UNREACHABLE", `No answer from ${target.origin}: ${reasonOf(cause)}.`, -1, "ATOMCAST_UNREACHABLE", { cause }));
      const request = (secure ? httpsRequest : httpRequest)(target, { method, headers, agent }, (response) => {
        readReply(response)
          .then((text) => resolve(decodeReply(response.statusCode ?? 0, text, target)), unreachable)
          .catch(reject);
      });
      request.on("error", unreachable);
      request.end(body ?? undefined);
    });

  const pipeline = async (from: URL, baton: string | null, requests: readonly string[]): Promise<PipelineReply> => {
    const reply = await send(from, "POST", "v3/pipeline", `{"baton":${JSON.stringify(baton)},"requests":[${requests.join(",")}]}`);
    const results = Array.isArray(reply.results) ? reply.results.map(fieldsOf) : [];
    if (results.length !== requests.length) throw protocolError(`${results.length} results for ${requests.length} requests`);
    return {
      baton: typeof reply.baton === "string" ? reply.baton : null,
      baseUrl: typeof reply.base_url === "string" ? baseUrlOf(reply.base_url) : from,
      results,
    };
  };

  return {
    async query(sql, args = []) {
      const { results } = await pipeline(base, null, [encodeExecute({ sql, args }), closeRequest]);
      return decodeResult(responseOf(results[0]).result);
    },
    async batch(steps) {
      const { results } = await pipeline(base, null, [`{"type":"batch","batch":{"steps":[${steps.map(encodeStep).join(",")}]}}`, closeRequest]);
      return decodeOutcomes(fieldsOf(responseOf(results[0]).result), steps.length);
    },
    openStream: () => openClientStream(base, pipeline),
    status: () => send(base, "GET", "v1/status", null),
    close: () => agent.destroy(),
  };
}

function openClientStream(
  base: URL,
  pipeline: (from: URL, baton: string | null, requests: readonly string[]) => Promise<PipelineReply>,
): ClientStream {
  let baton: string | null = null;
  let from = base;
  let isAutocommit = true;
  const forget = (): void => {
    baton = null;
    from = base;
    isAutocommit = true;
  };
  const run = async (requests: readonly string[]): Promise<readonly Fields[]> => {
    try {
      const reply = await pipeline(from, baton, [...requests, autocommitRequest]);
      baton = reply.baton;
      from = reply.baseUrl;
      isAutocommit = responseOf(reply.results.at(-1)).is_autocommit === true;
      return reply.results;
    } catch (error) {
      // Whatever the stream held open is rolled back: its baton is spent, and its next one did not arrive.
      forget();
      throw error;
    }
  };
  return {
    get isAutocommit() {
      return isAutocommit;
    },
    async execute(statement) {
      const request = [encodeExecute(statement)];
      const wasAutocommit = isAutocommit;
      const hadStream = baton !== null;
      let results: readonly Fields[];
      try {
        results = await run(request);
      } catch (error) {
        // An expired stream has run nothing of this, and outside a transaction a new one does as well.
        if (!(error instanceof HranaError) || error.code !== "STREAM_EXPIRED" || !hadStream || !wasAutocommit) throw error;
        results = await run(request);
      }
      return decodeResult(responseOf(results[0]).result);
    },
    async keepAlive() {
      if (baton !== null) await run([]);
    },
    async close() {
      if (baton === null) return;
      const last = baton;
      const lastFrom = from;
      forget();
      await pipeline(lastFrom, last, [closeRequest]);
    },
  };
}

const closeRequest = '{"type":"close"}';
const autocommitRequest = '{"type":"get_autocommit"}';

function encodeStatement(statement: ClientStatement): string {
  return `{"sql":${JSON.stringify(statement.sql)},"args":[${(statement.args ?? []).map(encodeValue).join(",")}]}`;
}

function encodeExecute(statement: ClientStatement): string {
  return `{"type":"execute","stmt":${encodeStatement(statement)}}`;
}

function encodeStep(step: ClientStep): string {
  const stmt = encodeStatement(step);
  if (step.condition === undefined) return `{"stmt":${stmt}}`;
  if ("ok" in step.condition) return `{"condition":{"type":"ok","step":${step.condition.ok}},"stmt":${stmt}}`;
  return `{"condition":{"type":"not","cond":{"type":"ok","step":${step.condition.notOk}}},"stmt":${stmt}}`;
}

function responseOf(result: Fields | undefined): Fields {
  if (result?.type === "ok") return fieldsOf(result.response);
  throw result?.type === "error" ? errorOf(fieldsOf(result.error)) : protocolError("a result is neither ok nor error");
}

function decodeOutcomes(result: Fields, stepCount: number): ClientOutcome[] {
  const { step_results: results, step_errors: errors } = result;
  if (!Array.isArray(results) || !Array.isArray(errors) || results.length !== stepCount || errors.length !== stepCount)
    throw protocolError("a batch without its results");
  return results.map((each: unknown, index): ClientOutcome => {
    const error: unknown = errors[index];
    if (each !== null) return { kind: "ok", result: decodeResult(each) };
    return error === null ? { kind: "skipped" } : { kind: "error", error: errorOf(fieldsOf(error)) };
  });
}

function decodeResult(value: unknown): ClientResult {
  const { cols, rows, affected_row_count: affectedRowCount, last_insert_rowid: rowid } = fieldsOf(value);
  if (!Array.isArray(cols) || !Array.isArray(rows)) throw protocolError("a result without columns or rows");
  return {
    columns: cols.map((column) => String(fieldsOf(column).name ?? "")),
    rows: rows.map((row: unknown) => (Array.isArray(row) ? row.map((each) => decodeValue(each, "row")) : [])),
    affectedRowCount: Number(affectedRowCount ?? 0),
    lastInsertRowid: typeof rowid === "string" ? BigInt(rowid) : null,
  };
}

function decodeReply(status: number, text: string, target: URL): Fields {
  let json: unknown = null;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    if (status >= 200 && status < 300) throw protocolError(`${target} answered what is not JSON`, cause);
  }
  if (status >= 200 && status < 300) return fieldsOf(json);
  if (typeof json === "object" && json !== null && "message" in json) throw errorOf(fieldsOf(json));
  // A gateway's own words for "not there now" are worth another try like the server's.
  const code = status >= 500 ? "ATOMCAST_UNREACHABLE" : "HTTP_ERROR";
  throw new HranaError(code, `${target} answered HTTP status ${status}: is an Atomcast engine serving there?`);
}

function errorOf(fields: Fields): HranaError {
  const code = typeof fields.code === "string" ? fields.code : "UNKNOWN";
  const extended = typeof fields.extended_code === "string" ? fields.extended_code : code;
  return new HranaError(code, String(fields.message ?? "unknown error"), typeof fields.offset === "number" ? fields.offset : -1, extended);
}

function protocolError(what: string, cause?: unknown): HranaError {
  return new HranaError("HRANA_PROTO_ERROR", `The server does not speak Hrana as expected: ${what}.`, -1, "HRANA_PROTO_ERROR", { cause });
}

function fieldsOf(value: unknown): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw protocolError("an object is missing");
  return value as Fields;
}

async function readReply(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += chunk.length;
    if (length > replyBytesMax) throw new Error(`the reply is longer than ${replyBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function reasonOf(cause: NodeJS.ErrnoException): string {
  if (cause.code === "ECONNREFUSED") return "nothing listens there (is an engine running?)";
  return cause.message === "" ? (cause.code ?? "unknown") : cause.message;
}

/** With a path that ends in a slash, so that relative paths are added to it. */
function baseUrlOf(text: string): URL {
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch (cause) {
    throw new HranaError("URL_INVALID", `${JSON.stringify(text)} is not a URL; one looks like http://127.0.0.1:8080.`, -1, "URL_INVALID", { cause });
  }
  if (url.protocol === "libsql:") url = new URL(url.href.replace(/^libsql/, url.searchParams.get("tls") === "0" ? "http" : "https"));
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new HranaError("URL_INVALID", `${JSON.stringify(text)}: http, https and libsql URLs are understood, not ${url.protocol}`);
  }
  url.search = "";
  url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}
