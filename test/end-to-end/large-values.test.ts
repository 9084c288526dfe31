/** Large values through real processes: written by one Cache, read by another that comes later, copied to a fresh Archive, and gone in the end. */
import { createHash } from "node:crypto";
import { createClient } from "@libsql/client";
import { expect, test } from "vitest";
import { engineOf, openCluster, urlsOf } from "./cluster.js";
import { expectConverged } from "./convergence.js";
import { eventually } from "./waiting.js";

const sizes = [65_536, 65_537, 1_000_000, 5_000_000];

/** Bytes that no two ids share. */
function bodyOf(id: number): Buffer {
  const bytes = Buffer.alloc(sizes[id] ?? 0);
  for (let at = 0; at < bytes.length; at += 32) createHash("sha256").update(`${id} ${at}`).digest().copy(bytes, at);
  return bytes;
}

test("large values are written, read elsewhere, copied, and gone when nothing refers to them", { timeout: 180_000 }, async () => {
  const cluster = await openCluster(1, 1);
  const { site, engines } = cluster;
  const client = createClient({ url: urlsOf(cluster)[0] ?? "" });
  await client.execute("create table documents (id integer primary key, title text, body blob, copy blob)");
  for (const id of sizes.keys()) await client.execute({ sql: "insert into documents values (?, '', ?, ?)", args: [id, bodyOf(id), bodyOf(id)] });
  await client.execute("update documents set title = 'changed'");
  for (const name of ["archive-2", "archive-3"]) engines.set(name, await site.archive(name));
  const other = await site.cache("cache-2");
  engines.set("cache-2", other);
  engineOf(cluster, "cache-1").kill("SIGKILL");
  await engineOf(cluster, "cache-1").ended();
  engines.delete("cache-1");
  const later = createClient({ url: other.url });
  const found = await later.execute("select id, title, body, copy = body as same from documents order by id");
  expect(found.rows.map(({ id, title, same }) => [id, title, same])).toEqual([...sizes.keys()].map((id) => [id, "changed", 1]));
  for (const { id, body } of found.rows) expect(Buffer.from(body as ArrayBuffer).equals(bodyOf(id as number))).toBe(true);
  await expectConverged(urlsOf(cluster), engines.size);

  const keptBy = async (): Promise<unknown[]> =>
    (await later.execute("select large_values, large_value_bytes from system.gc where kind = 'archive'")).rows.map((row) => [row[0], row[1]]);
  const kept = [3, 65_537 + 1_000_000 + 5_000_000];
  await eventually("each Archive has them once", 30_000, async () => expect(await keptBy()).toEqual([kept, kept, kept]));
  await later.execute("update documents set copy = null, body = null where id > 1");
  await eventually("nothing refers to two of them", 30_000, async () => expect((await keptBy())[2]).toEqual([1, 65_537]));
  await later.execute("drop table documents");
  await eventually("nothing refers to any", 30_000, async () => {
    expect(await keptBy()).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
    ]);
  });
});
