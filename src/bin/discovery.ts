/** Finds out which of this machine's databases of one name is up: each candidate's key is tried on the group and at the contacts, and only its engines answer. */
import { MalformedBytesError } from "../base/bytes.js";
import type { Endpoint, Nonce } from "../base/ids.js";
import { systemRandom } from "../engines/node-environment.js";
import type { Group } from "../messages/network/group.js";
import type { Network } from "../messages/network/network.js";
import { openNodeNetwork } from "../messages/network/node-network.js";
import type { RefusalReason } from "../messages/network/sealing.js";
import { decodeEngineMessage, type EngineMessage, encodeEngineMessage, firstEngineKind } from "../messages/wire/engine-messages.js";
import type { DatabaseKey } from "../storage/key-file.js";

const seekEveryMs = 100;
/** After the first answer, how long others may still answer: two live databases of one name must be told apart by --key. */
const settleMs = 400;

export interface SeekOptions extends Group {
  readonly interfaceAddress: string;
  readonly multicast: boolean;
}

/** A network to ask a database's engines by, and hear them; what cannot be read is passed over. */
export function openSeeker(
  key: DatabaseKey,
  where: SeekOptions,
  heard: (from: Endpoint, message: EngineMessage) => void,
  onRefused: (reason: RefusalReason, from: Endpoint) => void = () => {},
): Promise<Network> {
  return openNodeNetwork({
    onRefused,
    clusterId: key.clusterId,
    secret: key.secret,
    nonce: (systemRandom.integer(2 ** 48 - 1) + 1) as Nonce,
    ...where,
    handlers: {
      onDatagram(from, _nonce, payload) {
        if ((payload[0] ?? 0) < firstEngineKind) return;
        try {
          heard(from, decodeEngineMessage(payload));
        } catch (error) {
          if (!(error instanceof MalformedBytesError)) throw error;
        }
      },
      onReliable: () => {},
      onConnected: () => {},
      onDisconnected: () => {},
    },
  });
}

/** By multicast, and at the contacts. */
export function seek(network: Network, contacts: Iterable<Endpoint>): void {
  const payload = encodeEngineMessage({ kind: "seek" });
  network.multicast(payload);
  for (const endpoint of contacts) network.sendDatagram(endpoint, payload);
}

export interface Answers {
  /** Keys whose databases have an engine that answers. */
  readonly live: readonly DatabaseKey[];
  /** An engine of another format version, of whichever database: it cannot answer. */
  readonly otherVersion: Endpoint | null;
}

/** Within `timeoutMs`. */
export async function liveDatabases(
  keys: readonly DatabaseKey[],
  where: SeekOptions & { readonly contacts: readonly Endpoint[] },
  timeoutMs: number,
): Promise<Answers> {
  const { contacts, ...network } = where;
  const live = new Set<DatabaseKey>();
  let otherVersion: Endpoint | null = null;
  const networks = await Promise.all(
    keys.map((key) =>
      openSeeker(
        key,
        network,
        (_from, message) => {
          if (message.kind === "announce" && (message.canServe || contacts.length > 0)) live.add(key);
        },
        (reason, from) => {
          if (reason === "other version") otherVersion = from;
        },
      ),
    ),
  );
  const untilMs = performance.now() + timeoutMs;
  let settledMs = Number.POSITIVE_INFINITY;
  while (performance.now() < Math.min(untilMs, settledMs)) {
    for (const one of networks) seek(one, contacts);
    await new Promise((resolve) => setTimeout(resolve, seekEveryMs));
    if (live.size === keys.length) break;
    if (live.size > 0 && settledMs === Number.POSITIVE_INFINITY) settledMs = performance.now() + settleMs;
  }
  await Promise.all(networks.map((one) => one.close()));
  return { live: [...live], otherVersion };
}
