/** Where engines of one database find each other without being told: a multicast group derived from the database's name. */
import { createHash } from "node:crypto";

export interface Group {
  readonly groupAddress: string;
  readonly groupPort: number;
}

/** Below Linux's ephemeral ports (32768 on), so that no engine's own port takes the group's. */
const groupPortMin = 20_000;
const groupPortCount = 10_000;

/**
 * 239.192.x.y (organisation-local scope, RFC 2365) and a port from 20000 to 29999. Two names may share a group: their datagrams carry
 * different cluster ids and are dropped unread, so a collision costs speed only.
 */
export function groupOf(databaseName: string): Group {
  const digest = createHash("sha256").update(databaseName, "utf8").digest();
  return {
    groupAddress: `239.192.${digest.readUInt8(0)}.${digest.readUInt8(1)}`,
    groupPort: groupPortMin + (digest.readUInt32BE(2) % groupPortCount),
  };
}
