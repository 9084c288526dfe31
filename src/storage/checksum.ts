/** CRC-32 by zlib, with a clear word where Node is too old: `zlib.crc32` came with Node 20.15 and 22.2. */
import zlib from "node:zlib";
import { DatabaseError } from "../base/errors.js";

/** `before`: the checksum of the bytes that these go on from. */
export function crc32(bytes: Uint8Array, before = 0): number {
  return zlib.crc32(bytes, before);
}

/** Called once by whatever opens a file, so that an old Node is named before anything is written. */
export function assertChecksumAvailable(): void {
  if (typeof zlib.crc32 !== "function") {
    throw new DatabaseError("ATOMCAST_OLD_NODE", `Node ${process.version} has no zlib.crc32, which storage needs: run Node 20.15 or newer`);
  }
}
