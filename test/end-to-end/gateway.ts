/**
 * Runs in a network namespace, as `node gateway.js SOCKET`: a way in, since the file system is shared and the network is not. Whoever connects to the socket
 * says a port, by its number and a newline, and is joined to that port of the namespace's loopback.
 */
import { connect, createServer, type Socket } from "node:net";

function joinAt(port: number, first: Buffer, client: Socket): void {
  const engine = connect(port, "127.0.0.1");
  engine.write(first);
  client.pipe(engine);
  engine.pipe(client);
  for (const [one, other] of [
    [client, engine],
    [engine, client],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}

const path = process.argv[2];
if (path === undefined) throw new Error("usage: gateway.js SOCKET");
createServer((client) => {
  client.once("data", (first: Buffer) => {
    const end = first.indexOf(10);
    joinAt(Number(first.subarray(0, end).toString()), first.subarray(end + 1), client);
  });
  client.on("error", () => client.destroy());
}).listen(path, () => process.stdout.write("ready\n"));
