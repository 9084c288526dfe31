/** The network of a simulated process, looked at: which messages pass that only a rare row of a decision table sends. */
import type { Network, NetworkHandlers } from "../../src/messages/network/network.js";
import type { Coverage } from "./coverage.js";

export function watchedHandlers(handlers: NetworkHandlers, touched: () => void): NetworkHandlers {
  const telling =
    <A extends unknown[]>(act: (...args: A) => void) =>
    (...args: A): void => {
      touched();
      act(...args);
    };
  return {
    onDatagram: telling(handlers.onDatagram),
    onReliable: telling(handlers.onReliable),
    onConnected: telling(handlers.onConnected),
    onDisconnected: telling(handlers.onDisconnected),
  };
}

/** First bytes of messages; wire numbers never change. */
const numbers = { catchUpRequest: 7, proposeAgain: 67, notMember: 68, bootRequest: 69, farewell: 85, silentOriginator: 86 } as const;

/** What becomes of a reliable message, by its number: `send` sends it, now or later, once or twice. null: it is sent. */
export type Courier = ((number: number, send: () => boolean) => boolean) | null;

/** `sent` counts reliable messages by their number. */
export function watchedNetwork(network: Network, coverage: Coverage, sent: Map<number, number>, courier: () => Courier): Network {
  let bootRequest = "";
  return {
    get endpoint() {
      return network.endpoint;
    },
    get datagramBytesMax() {
      return network.datagramBytesMax;
    },
    get hasMulticast() {
      return network.hasMulticast;
    },
    get counters() {
      return network.counters;
    },
    sendDatagram: (to, payload) => network.sendDatagram(to, payload),
    multicast: (payload) => network.multicast(payload),
    sendReliable: (to, payload) => {
      const number = payload[0] ?? 0;
      sent.set(number, (sent.get(number) ?? 0) + 1);
      if (number === numbers.proposeAgain) coverage.count("sequencer", "beyond the next: asks for the hole");
      else if (number === numbers.notMember) coverage.count("sequencer", "no member: told");
      else if (number === numbers.farewell) coverage.count("sequencer", "LEAVE: farewell");
      else if (number === numbers.silentOriginator) coverage.count("transactions", "asking: originator silent, sequencer told");
      else if (number === numbers.catchUpRequest) coverage.count("stream", "catch-up over TCP");
      else if (number === numbers.bootRequest) {
        const text = Buffer.from(payload).toString("latin1");
        if (text === bootRequest) coverage.count("sequencer", "BOOT asked twice, ordered once");
        bootRequest = text;
      }
      const send = (): boolean => network.sendReliable(to, payload);
      return courier()?.(number, send) ?? send();
    },
    queuedBytes: (to) => network.queuedBytes(to),
    probe: (endpoint, timeoutMs) => network.probe(endpoint, timeoutMs),
    disconnect: (endpoint) => network.disconnect(endpoint),
    close: () => network.close(),
  };
}
