/**
 * What a Cache does before it says that it is ready: it asks itself what clients ask first, over HTTP, once for each Archive. So what serves the first client has been
 * run before, by real work: code is compiled, statements are prepared, each Archive is connected to. Otherwise that client waits for a process that does everything for the
 * first time: some 30 ms of processor time, where the next one takes 5.
 */
import type { Logger } from "pino";
import type { FirstRead } from "../engines/first-read.js";
import { openHranaClient } from "./hrana-client.js";

/** It is a matter of speed only: a Cache whose Archives are slow is ready all the same. Milliseconds. */
const rehearsalMsMax = 500;
/** Further Archives are connected to when they are asked. */
const readsMax = 5;

/** `nextRead` may have another table in mind each time; null: there is none. Resolves in any case. */
export async function rehearse(url: string, archiveCount: number, nextRead: () => FirstRead | null, log: Logger): Promise<void> {
  const client = openHranaClient(url);
  const timer = setTimeout(() => client.close(), rehearsalMsMax);
  try {
    // Of Archives that have not been asked yet, one is asked first (pull-sources.ts).
    for (let read = 0; read < Math.min(archiveCount, readsMax); read++) {
      const { sql, args } = nextRead() ?? { sql: "select 1", args: [] };
      await client.query(sql, args);
    }
  } catch (error) {
    log.debug({ err: error }, "was not quite rehearsed");
  } finally {
    clearTimeout(timer);
    client.close();
  }
}
