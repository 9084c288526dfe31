/** That engines are equal: the same applied seq, and the same rows in every table on every Cache. */
import { createHash } from "node:crypto";
import { createClient } from "@libsql/client";
import { expect } from "vitest";
import { eventually } from "./waiting.js";

export async function query(url: string, sql: string): Promise<unknown[][]> {
  const client = createClient({ url, intMode: "bigint" });
  try {
    const { rows } = await client.execute(sql);
    return rows.map((row) => Array.from(row));
  } finally {
    client.close();
  }
}

/** Rows and their hash by table, in an order that does not depend on how an engine stores them. */
export async function tableDigests(url: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const [name] of await query(url, "select name from sqlite_schema where type = 'table' order by name")) {
    const rows = (await query(url, `select * from "${name}"`)).map((row) => JSON.stringify(row, plain)).sort();
    digests[String(name)] = `${rows.length} rows, ${createHash("sha256").update(rows.join("\\n")).digest("hex").slice(0, 16)}`;
  }
  return digests;
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  return value instanceof ArrayBuffer ? Buffer.from(value).toString("hex") : value;
}

/** Once nobody writes: every engine that a Cache sees has applied the same seq, and all Caches have the same rows. */
export async function expectConverged(urls: readonly string[], engineCount: number): Promise<void> {
  // Engines tell their applied seq once a second.
  await eventually("all engines have applied the same seq", 10_000, async () => {
    for (const url of urls) {
      const engines = await query(url, "select id, kind, applied_seq from system.engines");
      expect(engines.length).toBe(engineCount);
      expect(new Set(engines.map(([, , appliedSeq]) => appliedSeq)).size).toBe(1);
    }
  });
  const digests = await Promise.all(urls.map(tableDigests));
  for (const digest of digests) expect(digest).toEqual(digests[0]);
}
