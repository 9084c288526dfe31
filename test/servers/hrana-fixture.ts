/** A Hrana server over plain SQLite, and raw requests to it. */
import { request as httpRequest } from "node:http";
import type { HranaLimits } from "../../src/servers/hrana/hrana-limits.js";
import { type HranaServer, openHranaServer } from "../../src/servers/hrana/hrana-server.js";
import type { ServerLog } from "../../src/servers/hrana/server-log.js";
import { openSqliteDatabase, type SqliteDatabase } from "./sqlite-database.js";

export interface Fixture {
  readonly database: SqliteDatabase;
  readonly server: HranaServer;
  readonly url: string;
  readonly logged: string[];
  close(): Promise<void>;
}

export async function openFixture(limits: Partial<HranaLimits> = {}): Promise<Fixture> {
  const logged: string[] = [];
  const write = (fields: object, message: string): void => {
    logged.push(`${message} ${"err" in fields ? String(fields.err) : ""}`);
  };
  const log: ServerLog = { debug: () => {}, info: () => {}, warn: write, error: write };
  const database = openSqliteDatabase();
  const server = await openHranaServer({ host: "127.0.0.1", port: 0, database, version: "1.2.3", log, limits, requireLoopbackHostHeader: true });
  return {
    database,
    server,
    url: server.url,
    logged,
    async close() {
      await server.close();
      database.remove();
    },
  };
}

export interface RawReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever JSON came back
  readonly json: any;
}

/** node:http and not fetch: fetch does not let a caller set Host or Origin. */
export function send(url: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    const bytes = body === undefined ? undefined : Buffer.isBuffer(body) ? body : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
    const sent = httpRequest(
      `${url}${path}`,
      {
        method,
        agent: false,
        headers: {
          ...(bytes === undefined
            ? {}
            : { "content-type": "application/json", ...("transfer-encoding" in headers ? {} : { "content-length": bytes.length }) }),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          let json: unknown = null;
          try {
            json = JSON.parse(text);
          } catch {}
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json });
        });
      },
    );
    sent.on("error", reject);
    sent.end(bytes);
  });
}

export function pipeline(url: string, baton: string | null, requests: readonly unknown[], version = "v3"): Promise<RawReply> {
  return send(url, "POST", `/${version}/pipeline`, { baton, requests });
}

export function execute(sql: string, args: readonly unknown[] = []): unknown {
  return { type: "execute", stmt: { sql, args } };
}
