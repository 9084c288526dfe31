/** The tables of the atom store in LMDB, as lmdb-atom-store.ts lists them, and what both its writer and its readers know of them. */
import { type Database, open, type RootDatabase } from "lmdb";
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { type ChainHash, genesisHash } from "../base/chain-hash.js";
import { noSeq, noTerm, type Seq, type Term } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";

export type Table = Database<Buffer, Buffer>;
export type ReadTransaction = ReturnType<Table["useReadTransaction"]>;

export interface Tables {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly rows: Table;
  readonly versions: Table;
  readonly catalog: Table;
  readonly dropped: Table;
  readonly unmade: Table;
  readonly values: Table;
  readonly unused: Table;
  readonly meta: Table;
}

export const metaKeys = { format: Buffer.from("format"), position: Buffer.from("position"), unfinished: Buffer.from("unfinished") };
export const origin: LogPosition = { seq: noSeq, term: noTerm, hash: genesisHash };

export function openTables(directory: string): Tables {
  const form = { keyEncoding: "binary", encoding: "binary" } as const;
  // Values below 64 KiB and keys are small: no compression, no cache of decoded values, no versions.
  const root = open<Buffer, Buffer>({ ...form, path: directory, noSubdir: false, maxDbs: 8, compression: false, cache: false });
  const table = (name: string): Table => root.openDB<Buffer, Buffer>({ ...form, name });
  return {
    root,
    rows: table("rows"),
    versions: table("versions"),
    catalog: table("catalog"),
    dropped: table("dropped"),
    unmade: table("unmade"),
    values: table("values"),
    unused: table("unused"),
    meta: table("meta"),
  };
}

export function positionIn(tables: Tables, transaction: ReadTransaction | undefined): LogPosition {
  const bytes = tables.meta.get(metaKeys.position, transaction === undefined ? undefined : { transaction });
  if (bytes === undefined) return origin;
  const reader = new ByteReader(bytes);
  return { seq: reader.varint() as Seq, term: reader.varint() as Term, hash: reader.text() as ChainHash };
}

export function encodePosition(position: LogPosition): Buffer {
  return new ByteWriter(32).varint(position.seq).varint(position.term).text(position.hash).finish();
}
