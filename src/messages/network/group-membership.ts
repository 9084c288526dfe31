/**
 * The socket's place in its multicast group, joined again every so often. A switch that snoops on IGMP forgets members that it has not heard of for some minutes, and
 * where no router asks (most small networks) nobody tells it again; and a network interface that went away and came back (a moved virtual machine, a cable
 * pulled from a dock) has no members any more, although the socket does not know.
 *
 * The way is to leave and to join at once, in one turn. A second socket that held the membership meanwhile would be of no use: the system reports the first
 * member of an interface and the last, so nothing would be sent. Left and joined within microseconds, the leave is taken back before its report goes out, and a
 * report of membership goes instead; a datagram that comes between the two calls is lost, and repaired like any other. Where several engines are on one host
 * the system reports nothing of this (the group never loses its last member), and the first of the reasons has to be met by a querier.
 */
import type { Socket } from "node:dgram";
import type { LimitedLog } from "./limited-log.js";

/** From one joining to the next, in milliseconds. Reason: several within 260 s, after which switches forget (RFC 3376, 8.4). */
export const rejoinEveryMs = 30_000;

export interface GroupMembership {
  /** Sends to the group. */
  readonly sender: Socket;
  readonly receiver: Socket;
  readonly groupAddress: string;
  readonly interfaceAddress: string;
}

/** Throws where there is no multicast. */
export function joinGroup({ sender, receiver, groupAddress, interfaceAddress }: GroupMembership): void {
  sender.setMulticastInterface(interfaceAddress);
  receiver.addMembership(groupAddress, interfaceAddress);
}

/** Joins again from time to time, until the function that it returns is called. */
export function keepMembership(membership: GroupMembership, everyMs: number, log: LimitedLog): () => void {
  const timer = setInterval(() => {
    try {
      membership.receiver.dropMembership(membership.groupAddress, membership.interfaceAddress);
    } catch {
      // It has none any more: the interface was another one.
    }
    try {
      joinGroup(membership);
    } catch (error) {
      log("membership", `the multicast group ${membership.groupAddress} was not joined again: ${(error as Error).message}`);
    }
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}
