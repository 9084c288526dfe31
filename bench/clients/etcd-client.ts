/** etcd by the JSON gateway of its v3 API: a put where others insert or update a row. It has no SQL: what is compared is one durable key. */
import { randomUUID } from "node:crypto";
import { openPoster } from "./http-post.js";
import { counterRows, demandRow, type LoadClient, rowName } from "./load-client.js";

const base64 = (text: string): string => Buffer.from(text).toString("base64");

export async function openEtcdClient(ports: readonly number[]): Promise<LoadClient> {
  let opened = 0;
  const prefix = randomUUID();
  const put = (key: string, value: string): string => JSON.stringify({ key: base64(key), value: base64(value) });
  return {
    async setUp() {
      const poster = openPoster(`http://127.0.0.1:${ports[0]}`);
      for (let first = 1; first <= counterRows; first += 100) {
        const success = Array.from({ length: 100 }, (_, index) => ({
          requestPut: { key: base64(`counter/${first + index}`), value: base64(`${rowName} 0`) },
        }));
        await poster.post("/v3/kv/txn", JSON.stringify({ success }));
      }
      poster.close();
    },
    async openLane() {
      const lane = opened++;
      const poster = openPoster(`http://127.0.0.1:${ports[lane % ports.length]}`);
      let amount = 0;
      return {
        async insert() {
          amount++;
          await poster.post("/v3/kv/put", put(`inserted/${prefix}/${lane}/${amount}`, `${rowName} ${amount}`));
        },
        async update(id) {
          await poster.post("/v3/kv/put", put(`counter/${id}`, `${rowName} ${++amount}`));
        },
        async read(id) {
          const { kvs } = JSON.parse(await poster.post("/v3/kv/range", JSON.stringify({ key: base64(`counter/${id}`) }))) as { kvs?: unknown[] };
          demandRow(kvs?.length ?? 0, id);
        },
        close: async () => poster.close(),
      };
    },
    status: async () => null,
    originator: async () => null,
    close: async () => {},
  };
}
