/**
 * One connection per pair: what an engine does with a HELLO that comes in, given what it has for that endpoint already. Both sides may open
 * at once, and each may learn late that a connection has ended, so the choice must not rest on what only one of them can see.
 *
 * A side opens one connection at a time, and only while it knows of none. Its HELLO numbers the attempt and names the newest attempt of the
 * other side that it has taken; from that the other side can tell whether its own connection was known, and so has ended, or was not
 * yet known when the HELLO was written.
 *
 * | row            | what we have for the endpoint                                  | answer | because                                              |
 * |----------------|----------------------------------------------------------------|--------|------------------------------------------------------|
 * | nothing        | nothing                                                        | take   |                                                      |
 * | dial unsaid    | our attempt, our HELLO not sent                                | take   | it cannot have taken ours; ours is dropped           |
 * | dial lost      | our attempt, and it says that it had taken it                  | take   | it took ours and has lost it since                   |
 * | dial wins      | our attempt, HELLO sent, our endpoint is the lower string      | refuse | of two attempts that cross, the lower side's is kept |
 * | dial yields    | our attempt, HELLO sent, our endpoint is the higher string     | take   | the other side refuses ours by "dial wins"           |
 * | restarted      | a connection with another process at that endpoint             | take   | a port has one owner: the former one is gone         |
 * | theirs newer   | a connection that it opened earlier                            | take   | it opens only while it has none                      |
 * | theirs older   | a connection that it opened later                              | refuse | the HELLO is late                                    |
 * | ours lost      | a connection that we opened, and it says that it had taken it  | take   | it would not open another while it had that one      |
 * | ours unknown   | a connection that we opened, which it did not know of          | refuse | it has taken ours since: this attempt is given up    |
 *
 * A refused side tries again after a moment, unless a connection has come in meanwhile: so a wrong guess costs milliseconds, and whoever
 * is really there connects in the end.
 */
import type { Endpoint, Nonce } from "../../base/ids.js";
import type { Hello } from "./hello.js";

export type Held =
  | { readonly kind: "nothing" }
  | { readonly kind: "dial"; readonly dialNumber: number; readonly helloSent: boolean }
  | { readonly kind: "connection"; readonly nonce: Nonce; readonly openedByUs: boolean; readonly dialNumber: number };

export interface Choice {
  readonly take: boolean;
  readonly row:
    | "nothing"
    | "dial unsaid"
    | "dial lost"
    | "dial wins"
    | "dial yields"
    | "restarted"
    | "theirs newer"
    | "theirs older"
    | "ours lost"
    | "ours unknown";
}

export function chooseConnection(self: { readonly endpoint: Endpoint; readonly nonce: Nonce }, held: Held, hello: Hello): Choice {
  const takenOurs = hello.takenDialNonce === self.nonce ? hello.takenDialNumber : 0;
  switch (held.kind) {
    case "nothing":
      return { take: true, row: "nothing" };
    case "dial":
      if (!held.helloSent) return { take: true, row: "dial unsaid" };
      if (takenOurs >= held.dialNumber) return { take: true, row: "dial lost" };
      return self.endpoint < hello.endpoint ? { take: false, row: "dial wins" } : { take: true, row: "dial yields" };
    case "connection":
      if (held.nonce !== hello.nonce) return { take: true, row: "restarted" };
      if (held.openedByUs) return takenOurs >= held.dialNumber ? { take: true, row: "ours lost" } : { take: false, row: "ours unknown" };
      return hello.dialNumber > held.dialNumber ? { take: true, row: "theirs newer" } : { take: false, row: "theirs older" };
  }
}
