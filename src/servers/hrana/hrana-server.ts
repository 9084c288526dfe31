/**
 * Hrana over HTTP, the protocol of libSQL's clients (HRANA_3_SPEC and HTTP_V1_SPEC in tursodatabase/libsql), JSON encoding.
 *
 * | path                          | what                                                                    |
 * |-------------------------------|-------------------------------------------------------------------------|
 * | POST /v2/pipeline, /v3/pipeline | requests on a stream, by baton                                         |
 * | POST /v3/cursor               | one batch, its result as lines of JSON                                    |
 * | POST /v1/execute, /v1/batch   | one statement or batch on a stream of its own (old clients)               |
 * | GET /v2, /v3                  | 200: this version is spoken. /v3-protobuf is not: clients fall back to JSON |
 * | GET /v1/status                | the engine's Status, for `atomcast status`                                |
 * | POST /v1/remove               | `{nodeId}`: takes a lost Archive off the voters: 200 {}, or 409 and why not |
 * | GET /health, /version         | for balancers and people                                                  |
 *
 * Replies other than 2xx have the body `{message, code}`; what a request of a pipeline throws is its own result, not the reply's.
 * A client that goes away while its request runs loses its stream, whose next baton it could not have learnt; what has not been proposed is given up.
 */
import { isUtf8 } from "node:buffer";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { DatabaseError } from "../../base/errors.js";
import type { Database } from "../../engines/database.js";
import { cursorLines, sendLines, sendStallMs } from "./hrana-cursor.js";
import { decodeBatchBody, decodeCursorRequest, decodeExecuteBody, decodePipeline, decodeRemoveBody } from "./hrana-decode.js";
import { badRequest, encodeFault, faultOf, HttpFault, statusOf } from "./hrana-errors.js";
import { type HranaLimits, hranaLimits } from "./hrana-limits.js";
import { FaultReply, logUnexpected, runBatch, runPipeline, runStatement, runSteps } from "./hrana-pipeline.js";
import { type HranaStream, openStreamTable } from "./hrana-streams.js";
import type { ServerLog } from "./server-log.js";
import { guardRequest } from "./web-guard.js";

export interface HranaServerOptions {
  /** An address to listen on. Whether one beyond loopback is allowed is the caller's decision. */
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly database: Database;
  /** What GET /version says. */
  readonly version: string;
  readonly log: ServerLog;
  readonly limits?: Partial<HranaLimits>;
  /** Refuse requests whose Host is not a loopback name: for a server that asks no token (web-guard.ts). */
  readonly requireLoopbackHostHeader: boolean;
}

export interface HranaServer {
  /** "http://address:port", with the port that was taken. */
  readonly url: string;
  /** Stops accepting, lets running requests end within `closeMs`, then cuts connections and rolls back every open stream. */
  close(): Promise<void>;
}

/** How long an idle keep-alive connection stays open, in milliseconds: longer than proxies' and clients' own 60 s, so that they close first. */
const keepAliveMs = 75_000;

/** How long a client may take to send one request, in milliseconds; ends those who send a byte now and then. */
const receiveMs = 120_000;

/** Bytes of a reply that the system takes at once from an idle connection. */
const socketBufferBytes = 64 * 1024;

export async function openHranaServer(options: HranaServerOptions): Promise<HranaServer> {
  const { database, log } = options;
  const limits: HranaLimits = { ...hranaLimits, ...options.limits };
  const streams = openStreamTable(database, limits, log);
  /** Asked each time: an engine may learn only later where its clients reach it. */
  const baseUrl = (): string => (database.http === null ? "null" : JSON.stringify(database.http));
  let runningCount = 0;
  let bufferedBytes = 0;
  let isClosing = false;
  let onIdle: (() => void) | null = null;

  const routes: Readonly<Record<string, (body: unknown, response: ServerResponse) => Promise<void>>> = {
    "/v2/pipeline": pipeline,
    "/v3/pipeline": pipeline,
    "/v3/cursor": cursor,
    "/v1/execute": (body, response) => onOwnStream(decodeExecuteBody(body), response, runStatement),
    "/v1/batch": (body, response) => onOwnStream(decodeBatchBody(body), response, runBatch),
    "/v1/remove": remove,
  };

  async function pipeline(body: unknown, response: ServerResponse): Promise<void> {
    const { baton, requests } = decodePipeline(body);
    const stream = streams.take(baton);
    const outcome = await whileWaited(stream, response, () => runPipeline(stream, requests, limits, log));
    const isKept = !outcome.isClosed && !response.destroyed;
    // Closed before the reply, so that a client that has read it finds everything rolled back.
    if (!isKept) await streams.drop(stream);
    const nextBaton = isKept ? `"${streams.keep(stream)}"` : "null";
    sendJson(response, 200, `{"baton":${nextBaton},"base_url":${baseUrl()},"results":[${outcome.json}]}`);
  }

  async function cursor(body: unknown, response: ServerResponse): Promise<void> {
    const { baton, steps } = decodeCursorRequest(body);
    const stream = streams.take(baton);
    let lines: Iterable<string>;
    try {
      lines = cursorLines(await whileWaited(stream, response, () => runSteps(stream, steps)));
    } catch (error) {
      logUnexpected(error, log);
      lines = [`{"type":"error","error":${encodeFault(faultOf(error))}}\n`];
    }
    if (response.destroyed) return streams.drop(stream);
    // The session is done with the batch, so the stream is free from here: a client may leave its cursor half read and go on.
    let isSending = true;
    const nextBaton = streams.keep(stream, () => isSending);
    response.on("error", (error) => log.debug({ err: error }, "a cursor's client went away"));
    response.writeHead(200, { "content-type": "application/json" });
    try {
      await sendLines(response, `{"baton":"${nextBaton}","base_url":${baseUrl()}}\n`, lines);
    } finally {
      isSending = false;
    }
  }

  async function onOwnStream<T>(
    request: T,
    response: ServerResponse,
    run: (stream: HranaStream, request: T, charsMax: number) => Promise<string>,
  ): Promise<void> {
    const stream = streams.take(null);
    let json: string;
    try {
      json = await whileWaited(stream, response, () => run(stream, request, limits.responseCharsMax));
    } finally {
      await streams.drop(stream);
    }
    sendJson(response, 200, `{"result":${json}}`);
  }

  async function remove(body: unknown, response: ServerResponse): Promise<void> {
    const refusal = await database.removeVoter(decodeRemoveBody(body));
    if (refusal !== "") throw new HttpFault(409, "ATOMCAST_REFUSED", refusal);
    sendJson(response, 200, "{}");
  }

  async function get(path: string, response: ServerResponse): Promise<void> {
    switch (path) {
      case "/v2":
      case "/v3":
        return sendJson(response, 200, "{}");
      case "/health":
        return sendText(response, 200, "ok\n");
      case "/version":
        return sendText(response, 200, `atomcast ${options.version}\n`);
      case "/v1/status":
        return sendJson(response, 200, JSON.stringify(await database.status()));
      default:
        throw notFound(path);
    }
  }

  /** Reads a body within the limits; what it counts in `bufferedBytes` the caller gives back. */
  function readBody(request: IncomingMessage, count: (byteCount: number) => void): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const fail = (fault: HttpFault): void => {
        request.removeAllListeners("data");
        reject(fault);
      };
      if (Number(request.headers["content-length"] ?? 0) > limits.requestBytesMax) return fail(bodyTooLarge(limits));
      request.on("data", (chunk: Buffer) => {
        length += chunk.length;
        count(chunk.length);
        if (length > limits.requestBytesMax) return fail(bodyTooLarge(limits));
        if (bufferedBytes > limits.bufferedBytesMax) {
          return fail(
            new HttpFault(503, "TOO_BUSY", `Requests of more than ${limits.bufferedBytesMax} bytes in all are waiting here; try again later.`),
          );
        }
        chunks.push(chunk);
      });
      request.on("end", () => resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)));
      request.on("error", () => fail(badRequest("The connection ended within the request.")));
    });
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { headers, method = "" } = request;
    const refusal = guardRequest(
      { method, host: headers.host, origin: headers.origin, fetchSite: header(headers["sec-fetch-site"]), contentType: headers["content-type"] },
      options.requireLoopbackHostHeader,
    );
    if (refusal !== null) throw new HttpFault(refusal.status, refusal.code, refusal.message);
    const path = pathOf(request.url ?? "/");
    if (isClosing) throw new HttpFault(503, "ATOMCAST_UNAVAILABLE", "This engine is stopping; use another one.");
    if (method === "GET" || method === "HEAD") return get(path, response);
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (route === undefined) throw notFound(path);
    if (method !== "POST") throw new HttpFault(405, "METHOD_NOT_ALLOWED", `${path} is asked by POST.`);
    if (runningCount > limits.requestsMax) {
      throw new HttpFault(503, "TOO_BUSY", `${limits.requestsMax} requests are running here; try again later, or use another engine.`);
    }
    let countedBytes = 0;
    try {
      const bytes = await readBody(request, (byteCount) => {
        countedBytes += byteCount;
        bufferedBytes += byteCount;
      });
      await route(parseJson(bytes), response);
    } finally {
      bufferedBytes -= countedBytes;
    }
  }

  function refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    logUnexpected(error, log);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // A body that was not read to its end would be read as the next request.
    if (!request.complete) response.setHeader("connection", "close");
    if (error instanceof HttpFault && error.status === 405) response.setHeader("allow", "POST");
    if (error instanceof FaultReply) sendJson(response, 400, error.json);
    else sendJson(response, statusOf(error), encodeFault(faultOf(error)));
  }

  const server = createServer({ keepAliveTimeout: keepAliveMs, requestTimeout: receiveMs }, (request, response) => {
    runningCount++;
    // A request is over when its work is, and its reply has been handed to the system or has nobody to go to.
    let openEnds = 2;
    const end = (): void => {
      if (--openEnds > 0) return;
      runningCount--;
      if (runningCount === 0) onIdle?.();
    };
    response.once("close", end);
    serve(request, response)
      .catch((error: unknown) => refuse(request, response, error))
      .finally(end);
  });
  server.maxConnections = limits.connectionsMax;

  await new Promise<void>((resolve, reject) => {
    const fail = (cause: NodeJS.ErrnoException): void => {
      const why = cause.code === "EADDRINUSE" ? "another program listens there" : cause.message;
      reject(new DatabaseError("ATOMCAST_HTTP_UNAVAILABLE", `Cannot serve HTTP on ${options.host}:${options.port}: ${why}.`, { cause }));
    };
    server.once("error", fail);
    server.listen({ host: options.host, port: options.port, backlog: 1024 }, () => {
      server.off("error", fail);
      server.on("error", (error) => log.error({ err: error }, "the HTTP server failed"));
      resolve();
    });
  });
  const { address, port, family } = server.address() as AddressInfo;
  const url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  log.info({ url }, "serving Hrana");

  let closed: Promise<void> | null = null;
  async function closeServer(): Promise<void> {
    isClosing = true;
    const ended = new Promise<void>((resolve) => server.close(() => resolve()));
    const isCut = await new Promise<boolean>((resolve) => {
      if (runningCount === 0) return resolve(false);
      const timer = setTimeout(() => resolve(true), limits.closeMs);
      onIdle = () => {
        clearTimeout(timer);
        resolve(false);
      };
    });
    if (isCut) log.warn({ runningCount }, "requests were cut: they did not end in time");
    server.closeAllConnections();
    await streams.close();
    await ended;
  }

  return {
    url,
    close: () => {
      closed ??= closeServer();
      return closed;
    },
  };
}

/** A client that goes away meanwhile has nobody to answer to. */
async function whileWaited<T>(stream: HranaStream, response: ServerResponse, work: () => Promise<T>): Promise<T> {
  const give = (): void => stream.session.cancel();
  if (response.destroyed) give();
  response.once("close", give);
  try {
    return await work();
  } finally {
    response.off("close", give);
  }
}

function sendJson(response: ServerResponse, status: number, json: string): void {
  send(response, status, "application/json", json);
}

function sendText(response: ServerResponse, status: number, text: string): void {
  send(response, status, "text/plain; charset=utf-8", text);
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  if (response.destroyed) return;
  // The exact "application/json", without a charset: @libsql/client compares it so before it reads an error's body.
  const byteCount = Buffer.byteLength(body);
  response.writeHead(status, { "content-type": contentType, "content-length": byteCount, "cache-control": "no-store" });
  // A reply that the system's buffers cannot hold waits in memory for its reader.
  if (byteCount > socketBufferBytes) response.setTimeout(sendStallMs, () => response.destroy());
  response.end(body);
}

function parseJson(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw badRequest("The body is not UTF-8.");
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    throw badRequest(`The body is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function pathOf(url: string): string {
  const end = url.indexOf("?");
  const path = end < 0 ? url : url.slice(0, end);
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}

function header(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function notFound(path: string): HttpFault {
  return new HttpFault(404, "NOT_FOUND", `Nothing is served at ${JSON.stringify(path.slice(0, 200))}; Hrana is at /v2/pipeline and /v3/pipeline.`);
}

function bodyTooLarge(limits: HranaLimits): HttpFault {
  return new HttpFault(413, "SQLITE_TOOBIG", `A request of more than ${limits.requestBytesMax} bytes is refused; send it in parts.`);
}
