/** A transaction that is left open over Hrana: it reads one row, and then only stays, so that nobody's old versions from then on may go. */
import { openPoster } from "./http-post.js";

/** A server forgets a stream that is silent for ten seconds. Milliseconds. */
const touchEveryMs = 3000;

export interface OpenSnapshot {
  close(): Promise<void>;
}

export async function openSnapshot(url: string, sql: string): Promise<OpenSnapshot> {
  const poster = openPoster(url);
  let baton: string | null = null;
  let isOpen = true;
  const post = async (...requests: readonly unknown[]): Promise<void> => {
    const answer = JSON.parse(await poster.post("/v3/pipeline", JSON.stringify({ baton, requests }))) as {
      readonly baton: string | null;
      readonly results: readonly { readonly type: string; readonly error?: { readonly message: string } }[];
    };
    const failed = answer.results.find(({ type }) => type !== "ok");
    if (failed !== undefined) throw new Error(`the open transaction: ${failed.error?.message}`);
    baton = answer.baton;
  };
  const execute = (text: string): unknown => ({ type: "execute", stmt: { sql: text, want_rows: true } });
  await post(execute("begin"), execute(sql));
  // One after another: each answer has the baton of the next request.
  const staying = (async () => {
    while (isOpen) {
      await new Promise((resolve) => setTimeout(resolve, touchEveryMs));
      if (isOpen) await post(execute(sql));
    }
  })();
  return {
    async close() {
      isOpen = false;
      await staying;
      await post(execute("rollback"), { type: "close" });
      poster.close();
    },
  };
}
