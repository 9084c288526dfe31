/**
 * A part of a transfer, as bytes: format version, then items (kind, and what it is of), then the CRC-32 of all before. Parts are read by any
 * store's install, whichever store wrote them.
 */

import { ByteReader, ByteWriter, MalformedBytesError } from "../base/bytes.js";
import type { Seq, SpaceId } from "../base/ids.js";
import { crc32 } from "./checksum.js";

export type TransferItem =
  | { readonly kind: "catalog"; readonly name: string; readonly bytes: Uint8Array }
  /** `refers`: it is a row that refers to large values. */
  | {
      readonly kind: "row";
      readonly space: SpaceId;
      readonly key: Uint8Array;
      readonly seq: Seq;
      readonly row: Uint8Array;
      readonly refers: boolean;
    };

/** Raised with every change of these bytes. */
export const transferVersion = 3;

const checkBytes = 4;
const catalogTag = 0;
const rowTag = 1;
const referringRowTag = 2;

export function encodePart(items: readonly TransferItem[]): Buffer {
  const writer = new ByteWriter(64 * 1024);
  writer.varint(transferVersion).varint(items.length);
  for (const item of items) {
    if (item.kind === "catalog") writer.u8(catalogTag).text(item.name).bytes(item.bytes);
    else
      writer
        .u8(item.refers ? referringRowTag : rowTag)
        .varint(item.space)
        .varint(item.seq)
        .bytes(item.key)
        .bytes(item.row);
  }
  const content = writer.finish();
  const part = Buffer.allocUnsafe(content.length + checkBytes);
  content.copy(part);
  part.writeUInt32BE(crc32(content), content.length);
  return part;
}

/** Throws MalformedBytesError. Names aside, what it returns are views of `part`. */
export function decodePart(part: Uint8Array): TransferItem[] {
  const end = part.length - checkBytes;
  if (end < 0) throw new MalformedBytesError(`a part of ${part.length} bytes`);
  const check = new ByteReader(part, end).u32();
  if (crc32(part.subarray(0, end)) !== check) throw new MalformedBytesError("a transfer's part is damaged");
  const reader = new ByteReader(part, 0, end);
  const version = reader.varint();
  if (version !== transferVersion) throw new MalformedBytesError(`a transfer of version ${version}, this Atomcast reads ${transferVersion}`);
  const items = reader.list(readItem, 3);
  reader.end();
  return items;
}

function readItem(reader: ByteReader): TransferItem {
  const tag = reader.u8();
  if (tag === catalogTag) return { kind: "catalog", name: reader.text(), bytes: reader.bytes() };
  if (tag !== rowTag && tag !== referringRowTag) throw new MalformedBytesError(`transfer item ${tag}`);
  const refers = tag === referringRowTag;
  return { kind: "row", space: reader.varint() as SpaceId, seq: reader.varint() as Seq, key: reader.bytes(), row: reader.bytes(), refers };
}

/** A transfer's place, as text: "" begins. */
export type TransferPlace =
  | { readonly section: "catalog"; readonly after: string | null }
  | { readonly section: "rows"; readonly after: Buffer | null };

export function encodePlace(place: TransferPlace): string {
  if (place.section === "catalog") return place.after === null ? "" : `c${Buffer.from(place.after).toString("base64url")}`;
  return `r${place.after === null ? "" : place.after.toString("base64url")}`;
}

/** Throws MalformedBytesError: a cursor comes from another engine. */
export function decodePlace(cursor: string): TransferPlace {
  if (!/^([cr][\w-]*)?$/.test(cursor)) throw new MalformedBytesError("a transfer's cursor is malformed");
  const bytes = Buffer.from(cursor.slice(1), "base64url");
  if (cursor[0] === "r") return { section: "rows", after: bytes.length === 0 ? null : bytes };
  return { section: "catalog", after: cursor === "" ? null : bytes.toString("utf8") };
}
