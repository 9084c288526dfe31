/** One object of the schema catalog, as a record. */
import { ByteReader, ByteWriter } from "../base/bytes.js";
import type { Seq } from "../base/ids.js";
import { readSchemaObject, type SchemaObject, writeSchemaObject } from "../messages/wire/entry.js";

export interface SchemaRecord {
  readonly object: SchemaObject;
  /** Seq of the DDL that made it what it is. */
  readonly version: Seq;
  /** Order of creation: an object comes after all that it refers to. No two that are there at once have the same. */
  readonly order: number;
}

export function encodeSchemaRecord(record: SchemaRecord): Buffer {
  const writer = new ByteWriter();
  writer.varint(record.version).varint(record.order);
  writeSchemaObject(writer, record.object);
  return writer.finish();
}

/** Throws MalformedBytesError. */
export function decodeSchemaRecord(bytes: Uint8Array): SchemaRecord {
  const reader = new ByteReader(bytes);
  const version = reader.varint() as Seq;
  const order = reader.varint();
  const object = readSchemaObject(reader);
  reader.end();
  return { object, version, order };
}
