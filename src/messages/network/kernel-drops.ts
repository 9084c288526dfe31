/** Datagrams that the kernel dropped for want of room in a receive buffer, as Linux tells in /proc/net/udp. */
import { readdir, readFile, readlink } from "node:fs/promises";
import { endpointAddress } from "./endpoint-address.js";

/** Age at which a figure is read again, in milliseconds: the table lists every socket of the machine. */
const refreshMs = 1000;

export interface KernelDrops {
  /** The figure of the last reading; asks for a new one where that is old. 0 where the system does not tell. */
  latest(): number;
}

/**
 * Counts the sockets of this process that are bound to one of the addresses. Several engines in one process share the group's address,
 * and each counts the drops of all.
 */
export function kernelDrops(bound: readonly { readonly address: string; readonly port: number }[], nowMs: () => number): KernelDrops {
  const wanted = new Set(bound.map((one) => procAddress(one.address, one.port)));
  let count = 0;
  let readAtMs = Number.NEGATIVE_INFINITY;
  let reading = false;
  const refresh = async (): Promise<void> => {
    reading = true;
    try {
      count = dropsIn(await readFile("/proc/net/udp", "latin1"), wanted, await socketInodes());
    } catch {
      // Another system than Linux, or a /proc that is hidden: nothing is known.
    }
    readAtMs = nowMs();
    reading = false;
  };
  return {
    latest() {
      if (process.platform === "linux" && !reading && nowMs() - readAtMs >= refreshMs) void refresh();
      return count;
    },
  };
}

/** As in /proc/net/udp: the address as a 32-bit number in the machine's byte order, and the port, in hexadecimal. */
export function procAddress(address: string, port: number): string {
  const parsed = endpointAddress(address, port);
  if (parsed === null) return "";
  const bytes = new Uint8Array(parsed.bytes.subarray(0, 4));
  const native = new Uint32Array(bytes.buffer)[0] ?? 0;
  return `${native.toString(16).padStart(8, "0")}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}

/** Columns: sl local_address rem_address st queues tr:when retransmits uid timeout inode ref pointer drops. */
export function dropsIn(table: string, wantedAddresses: ReadonlySet<string>, inodes: ReadonlySet<string>): number {
  let drops = 0;
  for (const line of table.split("\n").slice(1)) {
    const columns = line.trim().split(/\s+/);
    const [, local, , , , , , , , inode, , , dropped] = columns;
    if (local === undefined || inode === undefined || !wantedAddresses.has(local) || !inodes.has(inode)) continue;
    const value = Number(dropped);
    if (Number.isSafeInteger(value)) drops += value;
  }
  return drops;
}

async function socketInodes(): Promise<Set<string>> {
  const inodes = new Set<string>();
  for (const descriptor of await readdir("/proc/self/fd")) {
    const target = await readlink(`/proc/self/fd/${descriptor}`).catch(() => "");
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  return inodes;
}
