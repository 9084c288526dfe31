/** Options that the engine commands share; each also as ATOMCAST_… in the environment. */
import { Option } from "commander";
import { DatabaseError } from "../base/errors.js";
import { parseDuration, parseHistory } from "../base/history.js";
import { memoryBytesMin } from "../engines/machine-memory.js";
import { parseFaults } from "../messages/network/datagram-faults.js";
import { type Group, groupOf } from "../messages/network/group.js";

export interface CommonOptions {
  readonly database: string;
  readonly interface: string;
  readonly group?: string;
  readonly multicast: boolean;
  readonly join: readonly string[];
  readonly port: string;
  readonly voters: string;
  readonly key?: string;
  readonly log: string;
  readonly faults?: string;
}

export const logLevels = ["trace", "debug", "info", "warn", "error", "silent"];

export function commonOptions(): Option[] {
  return [
    new Option("--database <name>", "the database's name").default("main").env("ATOMCAST_DATABASE"),
    new Option("--interface <addr>", "IPv4 address of the network interface; on 127.0.0.1 nothing leaves the machine")
      .default("127.0.0.1")
      .env("ATOMCAST_INTERFACE"),
    new Option("--group <addr:port>", "multicast group (default: derived from the database's name)").env("ATOMCAST_GROUP"),
    new Option("--no-multicast", "use no multicast: the stream goes from engine to engine (most clouds have none)").env("ATOMCAST_NO_MULTICAST"),
    new Option("--join <host:port>", "a live engine of the database, where multicast finds none; may be given several times")
      .default([])
      .argParser((text: string, others: string[]) => [...others, ...text.split(/[\s,]+/).filter((one) => one !== "")])
      .env("ATOMCAST_JOIN"),
    new Option("--port <n>", "where other engines reach this one, by UDP and TCP; 0: any free port").default("0").env("ATOMCAST_PORT"),
    new Option("--voters <n>", "Archives that vote on what is durable").default("3").env("ATOMCAST_VOTERS"),
    new Option("--key <file>", "the database's key file (default: found under $XDG_STATE_HOME/atomcast)").env("ATOMCAST_KEY"),
    new Option("--log <level>", "what goes to stderr").choices(logLevels).default("info").env("ATOMCAST_LOG"),
    new Option("--faults <list>", "for tests: datagrams that are lost, doubled, late").env("ATOMCAST_FAULTS").hideHelp(),
  ];
}

export function memoryOption(): Option {
  const help =
    "keys and rows that a Cache holds at most, such as 64MB or 2GB; indexes, SQLite's pages, and Node itself come on top (default: a quarter of the memory)";
  return new Option("--memory <size>", help).env("ATOMCAST_MEMORY");
}

export function statementTimeoutOption(): Option {
  const help = "how long one statement may run on a Cache, such as 500ms, 30s or 5min; 0: as long as it likes (default)";
  return new Option("--statement-timeout <duration>", help).env("ATOMCAST_STATEMENT_TIMEOUT");
}

export function historyOption(): Option {
  const help =
    "for a new database: how long what rows were is kept, so that the past can be read (AS OF), such as 1h or 7d; 0: only while it is in use (default)";
  return new Option("--history <duration>", help).env("ATOMCAST_HISTORY");
}

/** In milliseconds; null: not said. */
export function historyOf({ history }: { readonly history?: string }): number | null {
  return history === undefined ? null : parseHistory("--history", history);
}

/** In milliseconds; 0: none. */
export function parseStatementTimeout(text: string | undefined): number {
  const ms = parseDuration(text ?? "0");
  if (ms !== null) return ms;
  throw usage(`--statement-timeout takes a duration such as 500ms, 30s, 5min or 1h, or 0 for none, not ${JSON.stringify(text)}`);
}

const units: Readonly<Record<string, number>> = { "": 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** `64MB`, `1.5 GiB`, `2g`, or a number of bytes: a thousand is 1024 here, as it is for memory. */
export function parseMemory(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = units[(match?.[2] ?? "?").toLowerCase().replace(/^([kmgt])i?b$/, "$1")];
  const bytes = Math.floor(Number(match?.[1]) * (unit ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) throw usage(`--memory takes a size such as 64MB or 2GB, not ${JSON.stringify(text)}`);
  if (bytes < memoryBytesMin) throw usage(`--memory ${text}: a Cache needs ${memoryBytesMin / 1024 ** 2}MB at least`);
  return bytes;
}

export function usage(message: string): DatabaseError {
  return new DatabaseError("ATOMCAST_USAGE", message);
}

export function parseCount(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max)
    throw usage(`--${name} takes a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`);
  return value;
}

export function votersOf(options: CommonOptions): number {
  const voters = parseCount("voters", options.voters, 1, 7);
  if (voters % 2 === 0) throw usage(`--voters ${voters}: an even number survives no more losses than ${voters - 1}; take 1, 3, 5 or 7`);
  return voters;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export function parseHostPort(name: string, text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw usage(`--${name} takes HOST:PORT, such as 127.0.0.1:8787, not ${JSON.stringify(text)}`);
  return { host: (match[1] ?? match[2]) as string, port };
}

export function multicastGroup(options: CommonOptions): Group {
  if (options.group === undefined) return groupOf(options.database);
  const { host, port } = parseHostPort("group", options.group);
  const first = Number(host.split(".")[0]);
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(host) || first < 224 || first > 239)
    throw usage(`--group takes an IPv4 multicast address (224.0.0.0 to 239.255.255.255) and a port, not ${options.group}`);
  return { groupAddress: host, groupPort: port };
}

/** Throws what is wrong with the options of the network, before anything is made. */
export function checkNetwork(options: CommonOptions): void {
  multicastGroup(options);
  portOf(options);
  if (options.faults !== undefined) parseFaults(options.faults);
  for (const name of options.join) {
    if (parseHostPort("join", name).port === 0) throw usage(`--join ${name}: port 0 is nobody's; name the port that the engine was given by --port`);
  }
}

/** Of the engine; 0: any. */
export function portOf({ port }: CommonOptions): number {
  return parseCount("port", port, 0, 65_535);
}

/** Whether the address is this machine's own loopback. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
