/** `atomcast discover`: the databases whose keys are on this machine, and which of their engines are heard on the network just now. */
import Table from "cli-table3";
import type { Endpoint } from "../base/ids.js";
import { groupOf } from "../messages/network/group.js";
import type { AnnounceMessage } from "../messages/wire/engine-messages.js";
import { type DatabaseKey, keyDirectory, listKeyFiles, loadKeyFile } from "../storage/key-file.js";
import { contactsOf } from "./contacts.js";
import { openSeeker, seek } from "./discovery.js";
import { type CommonOptions, checkNetwork, multicastGroup } from "./options.js";

/** Engines answer at once, and announce themselves once a second. */
const listenMs = 1500;
const seekEveryMs = 250;
/** Of one database. Reason: what answers with the key is trusted, what is printed should still end. */
const enginesMax = 1024;

interface Heard {
  readonly key: DatabaseKey;
  readonly engines: ReadonlyMap<Endpoint, AnnounceMessage>;
  /** Datagrams that its key does not open, or of other versions. */
  readonly refused: number;
}

export async function runDiscover(options: CommonOptions): Promise<void> {
  checkNetwork(options);
  const keys = options.key === undefined ? await listKeyFiles(null) : [await loadKeyFile(options.key)];
  if (keys.length === 0) {
    process.stdout.write(`no key of a database is in ${keyDirectory()}: make a database with "atomcast start", or name a key with --key FILE\n`);
    return;
  }
  const contacts = await contactsOf(options);
  const heard = await Promise.all(keys.map((key) => listen(key, options, contacts)));
  process.stdout.write(heard.map(describe).join("\n"));
  for (const line of sameNames(heard)) process.stdout.write(line);
}

async function listen(key: DatabaseKey, options: CommonOptions, contacts: readonly Endpoint[]): Promise<Heard> {
  const engines = new Map<Endpoint, AnnounceMessage>();
  const { groupAddress, groupPort } = options.group === undefined ? groupOf(key.database) : multicastGroup(options);
  const asked = new Set(contacts);
  const where = { interfaceAddress: options.interface, multicast: options.multicast, groupAddress, groupPort };
  const network = await openSeeker(key, where, (from, message) => {
    if (message.kind === "announce" && engines.size < enginesMax) engines.set(from, message);
    if (message.kind === "contacts") for (const endpoint of message.endpoints) if (asked.size < enginesMax) asked.add(endpoint);
  });
  const untilMs = performance.now() + listenMs;
  while (performance.now() < untilMs) {
    seek(network, asked);
    await new Promise((resolve) => setTimeout(resolve, seekEveryMs));
  }
  const refused = network.counters.datagramsRefused;
  await network.close();
  return { key, engines, refused };
}

function describe({ key, engines, refused }: Heard): string {
  const head = `database ${key.database} (${key.clusterId}), key ${key.path}\n`;
  const strangers = refused === 0 ? "" : `${refused} datagrams came that this key does not open, or that are of another version\n`;
  if (engines.size === 0) return `${head}no engine is heard\n${strangers}`;
  const table = new Table({ head: ["id", "kind", "role", "endpoint", "committed"], style: { head: [], border: [] } });
  const sequencers = new Set([...engines.values()].map(({ sequencer }) => sequencer));
  const sorted = [...engines].sort(([, left], [, right]) => left.engine - right.engine);
  for (const [endpoint, one] of sorted) {
    const role = sequencers.has(endpoint) ? "sequencer" : one.engine === 0 ? "joining" : "member";
    table.push([one.engine === 0 ? "-" : one.engine, one.engineKind, role, endpoint, one.commitSeq]);
  }
  return `${head}${table.toString()}\n${strangers}`;
}

/** Engines that are started by a name alone could not tell which of them is meant. */
function sameNames(heard: readonly Heard[]): readonly string[] {
  const live = heard.filter(({ engines }) => engines.size > 0);
  const names = new Set(live.map(({ key }) => key.database));
  return [...names].flatMap((name) => {
    const count = live.filter(({ key }) => key.database === name).length;
    return count < 2 ? [] : [`${count} databases "${name}" are up: engines that join one must name its key, with --key FILE\n`];
  });
}
