/** Finds out which of this machine's databases of one name is up: each candidate's key is tried on the group and at the contacts, and only its engines answer. */
import type { Endpoint, Nonce } from "../base/ids.js";
import { systemRandom } from "../engines/node-environment.js";
import type { Group } from "../messages/network/group.js";
import { openNodeNetwork } from "../messages/network/node-network.js";
import { decodeEngineMessage, encodeEngineMessage, firstEngineKind } from "../messages/wire/engine-messages.js";
import type { DatabaseKey } from "../storage/key-file.js";

const seekEveryMs = 100;
/** After the first answer, how long others may still answer: two live databases of one name must be told apart by --key. */
const settleMs = 400;

/** The keys whose databases have an engine that answers, within `timeoutMs`. */
export async function liveDatabases(
  keys: readonly DatabaseKey[],
  where: { readonly interfaceAddress: string; readonly multicast: boolean; readonly contacts: readonly Endpoint[] } & Group,
  timeoutMs: number,
): Promise<DatabaseKey[]> {
  const { contacts, ...network } = where;
  const live = new Set<DatabaseKey>();
  const networks = await Promise.all(
    keys.map((key) => {
      const heard = (payload: Buffer): void => {
        if ((payload[0] ?? 0) < firstEngineKind) return;
        const message = decodeEngineMessage(payload);
        if (message.kind === "announce" && (message.canServe || contacts.length > 0)) live.add(key);
      };
      return openNodeNetwork({
        clusterId: key.clusterId,
        secret: key.secret,
        nonce: (systemRandom.integer(2 ** 48 - 1) + 1) as Nonce,
        ...network,
        handlers: { onDatagram: (_from, _nonce, payload) => heard(payload), onReliable: () => {}, onConnected: () => {}, onDisconnected: () => {} },
      });
    }),
  );
  const seek = encodeEngineMessage({ kind: "seek" });
  const untilMs = performance.now() + timeoutMs;
  let settledMs = Number.POSITIVE_INFINITY;
  while (performance.now() < Math.min(untilMs, settledMs)) {
    for (const one of networks) {
      one.multicast(seek);
      for (const endpoint of contacts) one.sendDatagram(endpoint, seek);
    }
    await new Promise((resolve) => setTimeout(resolve, seekEveryMs));
    if (live.size === keys.length) break;
    if (live.size > 0 && settledMs === Number.POSITIVE_INFINITY) settledMs = performance.now() + settleMs;
  }
  await Promise.all(networks.map((one) => one.close()));
  return [...live];
}
