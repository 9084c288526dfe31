/**
 * A child process that makes load by one kind of client, as it is told over IPC. As "embedded" it has a Cache engine in itself, as an
 * application would: what is measured there includes the application's own event loop.
 */
import { unreachable } from "../src/base/errors.js";
import { openEmbeddedClient } from "./clients/embedded-client.js";
import { openEtcdClient } from "./clients/etcd-client.js";
import { openHranaClient } from "./clients/hrana-client.js";
import { openLibsqlClient } from "./clients/libsql-client.js";
import type { LoadClient } from "./clients/load-client.js";
import { openMysqlClient } from "./clients/mysql-client.js";
import { openPostgresClient } from "./clients/postgres-client.js";
import { beginWrites, LaneSet, messageOf, runLanes, type Writing } from "./load-lanes.js";
import type { Calls, Reply, Request, Target } from "./load-messages.js";

function openClient(target: Target): Promise<LoadClient> {
  switch (target.kind) {
    case "embedded":
      return openEmbeddedClient(target.database);
    case "hrana":
      return openHranaClient(target.url);
    case "libsql":
      return openLibsqlClient(target.url);
    case "galera":
      return openMysqlClient(target.ports);
    case "postgres":
      return openPostgresClient(target.port);
    case "etcd":
      return openEtcdClient(target.ports);
    default:
      return unreachable(target);
  }
}

let opened: { readonly client: LoadClient; readonly lanes: LaneSet } | null = null;
let writing: Writing | null = null;

function current(): { readonly client: LoadClient; readonly lanes: LaneSet } {
  if (opened === null) throw new Error("open comes first");
  return opened;
}

type Handlers = { readonly [K in keyof Calls]: (asked: Calls[K]["asked"]) => Promise<Calls[K]["answered"]> };

const handlers: Handlers = {
  async open(target) {
    const client = await openClient(target);
    opened = { client, lanes: new LaneSet(client) };
    return null;
  },
  async setUp() {
    await current().client.setUp();
    return null;
  },
  async run(order) {
    return runLanes(await current().lanes.take(order.lanes), order);
  },
  async beginWrites({ work, lanes }) {
    writing = beginWrites(await current().lanes.take(lanes), work);
    return null;
  },
  async endWrites() {
    if (writing === null) throw new Error("beginWrites comes first");
    return writing.end();
  },
  status: () => current().client.status(),
  originator: () => current().client.originator(),
  async close() {
    const { client, lanes } = current();
    await lanes.close();
    await client.close();
    return null;
  },
};

async function answer<K extends keyof Calls>(request: Request<K>): Promise<Reply> {
  try {
    return { id: request.id, answered: await handlers[request.call](request.asked) };
  } catch (error) {
    return { id: request.id, error: messageOf(error) };
  }
}

process.on("message", (request: Request) => {
  void answer(request).then((reply) => {
    process.send?.(reply, () => {
      if (request.call === "close") process.exit(0);
    });
  });
});
// The benchmark is gone: nobody is to be served.
process.on("disconnect", () => process.exit(1));
// Ctrl-C reaches the whole group: the benchmark ends its workers itself.
process.on("SIGINT", () => {});
