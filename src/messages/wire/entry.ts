/**
 * Entries of the stream: what every engine applies, in one order. An entry is encoded once, by who makes it, and is journalled,
 * multicast, repaired and applied as those bytes. The first byte is its kind; numbers are append-only.
 *
 * "Key" is always a sort key (base/sort-key.ts); rows are in the form of base/values.ts.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "../../base/bytes.js";
import { unreachable } from "../../base/errors.js";
import type { AtomId, Endpoint, EngineId, EngineKind, NodeId, Nonce, ProposalSeq, Seq, SpaceId } from "../../base/ids.js";
import type { LargeValue } from "../../base/large-values.js";
import { type IndexedColumn, readIndexedColumns, writeIndexedColumns } from "../../base/row-index.js";
import { valueHashBytes } from "../../base/values.js";

export type Entry = NoopEntry | BootEntry | LeaveEntry | VotersEntry | RefusedEntry | ProposalEntry | DemoteEntry | MarkEntry;

/** The first entry of a term: committing it commits what earlier terms left. */
export interface NoopEntry {
  readonly kind: "noop";
}

/** An engine's start. Its seq is the engine's id; it ends the former engine id of the node, and that of the endpoint, exactly as LEAVE does. */
export interface BootEntry {
  readonly kind: "boot";
  readonly engineKind: EngineKind;
  /** 0 for a Cache. */
  readonly nodeId: NodeId;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  /** Where clients reach it, or "-". */
  readonly http: string;
  readonly pid: number;
  /** Version of the wire formats that it speaks. */
  readonly formatVersion: number;
}

/** Ends an engine id: what it owned passes on, what it had proposed and is not in the stream before this never will be. */
export interface LeaveEntry {
  readonly kind: "leave";
  readonly engine: EngineId;
  /** Of its blocks, unused, where it has said farewell. */
  readonly ids: readonly IdRange[];
}

/** Ids first ≤ id < next of a table's sequence. */
export interface IdRange {
  readonly space: SpaceId;
  readonly first: bigint;
  readonly next: bigint;
}

/** The voters from here on, in force when appended. Differs from the former set by one node at most. */
export interface VotersEntry {
  readonly kind: "voters";
  readonly voters: readonly NodeId[];
}

/** Decides a proposal: it is not applied, and never will be. */
export interface RefusedEntry {
  readonly kind: "refused";
  readonly engine: EngineId;
  readonly proposalSeq: ProposalSeq;
  readonly reason: RefusalReason;
}

export const refusalReasons = ["fence", "schema", "malformed", "stale"] as const;
/** `fence`: an originator has changed, ask permission again; `schema`: a table has changed, run again; `stale`: no longer applicable. */
export type RefusalReason = (typeof refusalReasons)[number];

/** The sequencer's: a proposer cannot reach an originator, or gets no answer. What `from` originates of these atoms, `to` does from here on. */
export interface DemoteEntry {
  readonly kind: "demote";
  readonly from: EngineId;
  readonly to: EngineId;
  readonly atoms: readonly AtomId[];
}

/** The sequencer's: no member reads a snapshot below `mark` any more, nor ever will (engines/low-water-mark.ts); and what time it is (catalog/stamps.ts). */
export interface MarkEntry {
  readonly kind: "mark";
  readonly mark: Seq;
  /** Of the sequencer's clock, since 1970. */
  readonly timeMs: number;
}

export interface ProposalEntry {
  readonly kind: "proposal";
  readonly engine: EngineId;
  readonly proposalSeq: ProposalSeq;
  /** The engine's numbers of the transactions whose permissions end when this is applied; none where it asked for none. */
  readonly transactions: readonly number[];
  /** The snapshot that all of them read, or 0 where they read none. */
  readonly snapshot: Seq;
  readonly fences: readonly Fence[];
  readonly schemaVersions: readonly SchemaVersion[];
  readonly body: ProposalBody;
}

/** What the proposer believed of an atom when it had its permission. The sequencer refuses the proposal when it no longer holds. */
export interface Fence {
  readonly atom: AtomId;
  readonly originator: EngineId;
  readonly ownershipVersion: Seq;
}

export interface SchemaVersion {
  readonly table: SpaceId;
  /** Seq of the last DDL that changed the table. */
  readonly version: Seq;
}

export type ProposalBody = TransactionBody | HoldBody | ReadyBody | DropBody | SplitBody | HandoffBody | MergeBody | PinBody;

export interface TransactionBody {
  readonly kind: "transaction";
  /** Keys that must go on existing (a child row's parents): their deletion at an older snapshot is refused from here on. */
  readonly exists: readonly SpaceKey[];
  /** In order of application: DDL before the rows that need it. */
  readonly parts: readonly Part[];
}

export interface SpaceKey {
  readonly space: SpaceId;
  readonly key: Uint8Array;
}

export type Part = RowsPart | DdlPart;

export interface RowsPart {
  readonly kind: "rows";
  readonly table: SpaceId;
  readonly rows: readonly RowChange[];
  /** Large values that the rows refer to, but for those that a row had before it was changed (base/large-values.ts). Left out: none. */
  readonly values?: readonly LargeValue[];
}

/** One row's change: the full new row, or its deletion. */
export interface RowChange {
  readonly key: Uint8Array;
  /** null: the row is deleted. */
  readonly row: Uint8Array | null;
  /** What the row that this replaces or deletes weighed (base/large-values.ts); 0 where there was none. Keeps atoms' sizes without reading. */
  readonly oldBytes: number;
  /** Keys that enter or leave unique indexes by this change. */
  readonly indexKeys: readonly SpaceKey[];
}

/** A change of the schema: each Cache runs `sql`; the schema catalog takes `upserts` and `drops`. */
export interface DdlPart {
  readonly kind: "ddl";
  /** The user's statement, verbatim. */
  readonly sql: string;
  readonly upserts: readonly SchemaObject[];
  /** Names of objects that are gone. */
  readonly drops: readonly string[];
  /** Tables whose schema version this raises (with those a new or dropped foreign key or trigger names). */
  readonly touchedTables: readonly SpaceId[];
  /** Atoms of new tables and new unique indexes: one each, the whole key range, the proposer its ready holder. */
  readonly newAtoms: readonly NewAtom[];
}

export interface NewAtom {
  readonly space: SpaceId;
  readonly atom: AtomId;
  /** For a table, 0; for a unique index, its table. */
  readonly indexOf: SpaceId;
}

/**
 * A row of `sqlite_schema` as the user sees it, with the identities that Atomcast gives it; or a number of the database's own (`setting`: PRAGMA
 * user_version, application_id), which changes as the schema does, under a name that no object can have.
 */
export interface SchemaObject {
  readonly type: "table" | "index" | "view" | "trigger" | "setting";
  /** As written. Compared by its fold (ASCII letters to lower case). */
  readonly name: string;
  readonly tableName: string;
  /** The user's text (SQLite's after ALTER). */
  readonly sql: string;
  /** A table's or an index's key space; 0 for all others. */
  readonly space: SpaceId;
  /**
   * A table's columns with their stable ids, in SQLite's order; empty for the rest. Ids are never used again: where the column with the highest was
   * dropped, a last one without a name keeps its place.
   */
  readonly columns: readonly SchemaColumn[];
  /** Unique constraints without a name of their own (sqlite_autoindex_…) of a table, each with its key space. */
  readonly uniques: readonly UniqueConstraint[];
  /** Of an index: what its entries at the Archives are made of (base/row-index.ts). */
  readonly indexed: readonly IndexedColumn[];
}

export interface UniqueConstraint {
  readonly name: string;
  readonly space: SpaceId;
  readonly indexed: readonly IndexedColumn[];
}

export interface SchemaColumn {
  readonly id: number;
  readonly name: string;
}

/** The engine becomes a joining holder. */
export interface HoldBody {
  readonly kind: "hold";
  readonly atoms: readonly AtomId[];
}

/** The engine has the atom whole. */
export interface ReadyBody {
  readonly kind: "ready";
  readonly atoms: readonly AtomId[];
}

/** The engine no longer holds the atom. */
export interface DropBody {
  readonly kind: "drop";
  readonly atoms: readonly AtomId[];
}

/** Cuts an atom at keys. The first piece keeps the atom's id; its fence names the atom. */
export interface SplitBody {
  readonly kind: "split";
  readonly atom: AtomId;
  /** The atom's: an engine without this space's record catalog counts its atoms, and moves its sequence, all the same. */
  readonly space: SpaceId;
  /** An id block's taker, where the atom's own first piece is the block; else 0. */
  readonly firstTaker: EngineId;
  /** In key order, without the first. */
  readonly pieces: readonly SplitPiece[];
  /** null: the first piece has what the atom counts less the others. */
  readonly measured: MeasuredAtom | null;
  /** The block of ids that the split hands out: from here … */
  readonly sequenceFirst: bigint;
  /** … to before here, the table's next free id from now on. Both 0n where it hands out none. */
  readonly sequenceNext: bigint;
}

/** What an Archive has found: sizes in the catalog are sums of what entries tell, and drift. Without any piece such a SPLIT only puts the atom's size right. */
export interface MeasuredAtom {
  readonly first: AtomSize;
  /** What the atom counted when it was measured: what it counts more when the SPLIT is applied has come since, and goes to the last piece. */
  readonly counted: AtomSize;
}

/** Encoded bytes of keys and rows, and rows. */
export interface AtomSize {
  readonly bytes: number;
  readonly rows: number;
}

export function sumOfSizes(sizes: readonly AtomSize[]): AtomSize {
  return sizes.reduce((sum, { bytes, rows }) => ({ bytes: sum.bytes + bytes, rows: sum.rows + rows }), { bytes: 0, rows: 0 });
}

export interface SplitPiece extends AtomSize {
  readonly atom: AtomId;
  readonly low: Uint8Array;
  /** An id block's taker: ready and first, before the holders of the atom that is split. 0: those holders alone. */
  readonly taker: EngineId;
}

/** The proposer, which originates these atoms, hands them over. A fence names each. */
export interface HandoffBody {
  readonly kind: "handoff";
  readonly to: EngineId;
  readonly atoms: readonly AtomId[];
}

/** The proposer, which originates these neighbours, makes one atom of them. A fence names each. */
export interface MergeBody {
  readonly kind: "merge";
  /** Theirs: an engine without this space's record catalog counts its atoms all the same. */
  readonly space: SpaceId;
  /** Two or more, in key order. */
  readonly atoms: readonly AtomId[];
  /** What they become: a new id, so that nothing that was meant for one of them is taken as meant for all. */
  readonly into: AtomId;
}

/** The engine reads the past from `seq` on (engines/past-reads.ts): the low-water mark stays at or below it until the next PIN, or the engine's departure. 0: nothing. */
export interface PinBody {
  readonly kind: "pin";
  readonly seq: Seq;
  /** It has to know what time it is: a MARK is wanted. */
  readonly wantsStamp: boolean;
}

/** Raised with every change of these bytes; engines of different versions refuse each other. */
export const formatVersion = 19;

const entryKinds = ["noop", "boot", "leave", "voters", "refused", "proposal", "demote", "mark"] as const;
/** `group` stands for the bodies of several transactions, one after another; it is read as one (readGroup). */
const bodyKinds = ["transaction", "hold", "ready", "drop", "split", "group", "handoff", "merge", "pin"] as const;
const schemaTypes = ["table", "index", "view", "trigger", "setting"] as const;

export function encodeEntry(entry: Entry): Buffer {
  const writer = new ByteWriter();
  writer.u8(entryKinds.indexOf(entry.kind));
  switch (entry.kind) {
    case "noop":
      break;
    case "boot":
      writer
        .bool(entry.engineKind === "archive")
        .varint(entry.nodeId)
        .varint(entry.nonce)
        .text(entry.endpoint)
        .text(entry.http);
      writer.varint(entry.pid).varint(entry.formatVersion);
      break;
    case "leave":
      writer.varint(entry.engine);
      writeList(writer, entry.ids, (range) => writeIdRange(writer, range));
      break;
    case "voters":
      writeList(writer, entry.voters, (voter) => writer.varint(voter));
      break;
    case "refused":
      writer.varint(entry.engine).varint(entry.proposalSeq).u8(refusalReasons.indexOf(entry.reason));
      break;
    case "proposal":
      writeProposalHeader(writer, entry);
      writeBody(writer, entry.body);
      break;
    case "demote":
      writer.varint(entry.from).varint(entry.to);
      writeList(writer, entry.atoms, (atom) => writer.varint(atom));
      break;
    case "mark":
      writer.varint(entry.mark).varint(entry.timeMs);
      break;
    default:
      unreachable(entry);
  }
  return writer.finish();
}

export type ProposalHeader = Omit<ProposalEntry, "kind" | "body">;

/** A proposal whose body is encoded already (`encodeBody`); several bodies are those of transactions that do not touch one another's keys. */
export function encodeProposal(header: ProposalHeader, bodies: readonly Uint8Array[]): Buffer {
  const bodyBytes = bodies.reduce((sum, body) => sum + body.length, 0);
  const writer = new ByteWriter(bodyBytes + 64 + header.fences.length * 16 + header.transactions.length * 5);
  writer.u8(entryKinds.indexOf("proposal"));
  writeProposalHeader(writer, header);
  if (bodies.length > 1) writer.u8(bodyKinds.indexOf("group")).varint(bodies.length);
  for (const body of bodies) writer.raw(body);
  return writer.finish();
}

export function encodeBody(body: ProposalBody): Buffer {
  const writer = new ByteWriter();
  writeBody(writer, body);
  return writer.finish();
}

function writeProposalHeader(writer: ByteWriter, header: ProposalHeader): void {
  writer.varint(header.engine).varint(header.proposalSeq).varint(header.snapshot);
  writeList(writer, header.transactions, (transaction) => writer.varint(transaction));
  writeList(writer, header.fences, (fence) => writer.varint(fence.atom).varint(fence.originator).varint(fence.ownershipVersion));
  writeList(writer, header.schemaVersions, (one) => writer.varint(one.table).varint(one.version));
}

function writeList<T>(writer: ByteWriter, items: readonly T[], write: (item: T) => void): void {
  writer.varint(items.length);
  for (const item of items) write(item);
}

function writeBody(writer: ByteWriter, body: ProposalBody): void {
  writer.u8(bodyKinds.indexOf(body.kind));
  switch (body.kind) {
    case "transaction":
      writeList(writer, body.exists, (one) => writer.varint(one.space).bytes(one.key));
      writeList(writer, body.parts, (part) => writePart(writer, part));
      break;
    case "hold":
    case "ready":
    case "drop":
      writeList(writer, body.atoms, (atom) => writer.varint(atom));
      break;
    case "split":
      writer.varint(body.atom).varint(body.space).varint(body.firstTaker).i64(body.sequenceFirst).i64(body.sequenceNext);
      writeList(writer, body.pieces, (piece) =>
        writer.varint(piece.atom).bytes(piece.low).varint(piece.taker).varint(piece.bytes).varint(piece.rows),
      );
      writer.bool(body.measured !== null);
      if (body.measured !== null) for (const size of [body.measured.first, body.measured.counted]) writer.varint(size.bytes).varint(size.rows);
      break;
    case "handoff":
      writer.varint(body.to);
      writeList(writer, body.atoms, (atom) => writer.varint(atom));
      break;
    case "merge":
      writer.varint(body.space).varint(body.into);
      writeList(writer, body.atoms, (atom) => writer.varint(atom));
      break;
    case "pin":
      writer.varint(body.seq).bool(body.wantsStamp);
      break;
    default:
      unreachable(body);
  }
}

function writePart(writer: ByteWriter, part: Part): void {
  if (part.kind === "rows") {
    const { values = [] } = part;
    writer.u8(values.length === 0 ? 0 : 2).varint(part.table);
    if (values.length > 0) writeList(writer, values, ({ hash, bytes }) => writer.raw(hash).bytes(bytes));
    writeList(writer, part.rows, (change) => {
      writer.bytes(change.key).varint(change.row === null ? 0 : change.row.length + 1);
      if (change.row !== null) writer.raw(change.row);
      writer.varint(change.oldBytes);
      writeList(writer, change.indexKeys, (one) => writer.varint(one.space).bytes(one.key));
    });
    return;
  }
  writer.u8(1).text(part.sql);
  writeList(writer, part.upserts, (object) => writeSchemaObject(writer, object));
  writeList(writer, part.drops, (name) => writer.text(name));
  writeList(writer, part.touchedTables, (table) => writer.varint(table));
  writeList(writer, part.newAtoms, (one) => writer.varint(one.space).varint(one.atom).varint(one.indexOf));
}

export function writeSchemaObject(writer: ByteWriter, object: SchemaObject): void {
  writer.u8(schemaTypes.indexOf(object.type)).text(object.name).text(object.tableName).text(object.sql).varint(object.space);
  writeList(writer, object.columns, (column) => writer.varint(column.id).text(column.name));
  writeList(writer, object.uniques, (unique) => writeIndexedColumns(writer.text(unique.name).varint(unique.space), unique.indexed));
  writeIndexedColumns(writer, object.indexed);
}

/** Throws MalformedBytesError. Keys and rows are views of `bytes`. */
export function decodeEntry(bytes: Uint8Array): Entry {
  const reader = new ByteReader(bytes);
  const entry = readEntry(reader);
  reader.end();
  return entry;
}

/** The kind alone, without decoding the rest. */
export function entryKindOf(bytes: Uint8Array): Entry["kind"] {
  return pick(entryKinds, bytes[0] ?? 255);
}

function readEntry(reader: ByteReader): Entry {
  const kind = pick(entryKinds, reader.u8());
  switch (kind) {
    case "noop":
      return { kind };
    case "boot":
      return {
        kind,
        engineKind: reader.bool() ? "archive" : "cache",
        nodeId: reader.varint() as NodeId,
        nonce: reader.varint() as Nonce,
        endpoint: reader.text() as Endpoint,
        http: reader.text(),
        pid: reader.varint(),
        formatVersion: reader.varint(),
      };
    case "leave":
      return { kind, engine: reader.varint() as EngineId, ids: reader.list(readIdRange, 17) };
    case "voters":
      return { kind, voters: reader.list((r) => r.varint() as NodeId) };
    case "refused":
      return {
        kind,
        engine: reader.varint() as EngineId,
        proposalSeq: reader.varint() as ProposalSeq,
        reason: pick(refusalReasons, reader.u8()),
      };
    case "proposal":
      return {
        kind,
        engine: reader.varint() as EngineId,
        proposalSeq: reader.varint() as ProposalSeq,
        snapshot: reader.varint() as Seq,
        transactions: reader.list((r) => r.varint()),
        fences: reader.list(readFence, 3),
        schemaVersions: reader.list((r) => ({ table: r.varint() as SpaceId, version: r.varint() as Seq }), 2),
        body: readBody(reader),
      };
    case "demote":
      return {
        kind,
        from: reader.varint() as EngineId,
        to: reader.varint() as EngineId,
        atoms: reader.list((r) => r.varint() as AtomId),
      };
    case "mark":
      return { kind, mark: reader.varint() as Seq, timeMs: reader.varint() };
    default:
      return unreachable(kind);
  }
}

function readFence(reader: ByteReader): Fence {
  return { atom: reader.varint() as AtomId, originator: reader.varint() as EngineId, ownershipVersion: reader.varint() as Seq };
}

export function writeIdRange(writer: ByteWriter, range: IdRange): void {
  writer.varint(range.space).i64(range.first).i64(range.next);
}

export function readIdRange(reader: ByteReader): IdRange {
  return { space: reader.varint() as SpaceId, first: reader.i64(), next: reader.i64() };
}

function readSpaceKey(reader: ByteReader): SpaceKey {
  return { space: reader.varint() as SpaceId, key: reader.bytes() };
}

function readBody(reader: ByteReader): ProposalBody {
  const kind = pick(bodyKinds, reader.u8());
  switch (kind) {
    case "transaction":
      return { kind, exists: reader.list(readSpaceKey, 2), parts: reader.list(readPart, 2) };
    case "group":
      return readGroup(reader);
    case "hold":
    case "ready":
    case "drop":
      return { kind, atoms: reader.list((r) => r.varint() as AtomId) };
    case "split": {
      const atom = reader.varint() as AtomId;
      const space = reader.varint() as SpaceId;
      const firstTaker = reader.varint() as EngineId;
      const sequenceFirst = reader.i64();
      const sequenceNext = reader.i64();
      const pieces = reader.list(
        (r): SplitPiece => ({
          atom: r.varint() as AtomId,
          low: r.bytes(),
          taker: r.varint() as EngineId,
          bytes: r.varint(),
          rows: r.varint(),
        }),
        5,
      );
      const readSize = (): AtomSize => ({ bytes: reader.varint(), rows: reader.varint() });
      const measured = reader.bool() ? { first: readSize(), counted: readSize() } : null;
      return { kind, atom, space, firstTaker, pieces, measured, sequenceFirst, sequenceNext };
    }
    case "handoff":
      return { kind, to: reader.varint() as EngineId, atoms: reader.list((r) => r.varint() as AtomId) };
    case "pin":
      return { kind, seq: reader.varint() as Seq, wantsStamp: reader.bool() };
    case "merge":
      return { kind, space: reader.varint() as SpaceId, into: reader.varint() as AtomId, atoms: reader.list((r) => r.varint() as AtomId) };
    default:
      return unreachable(kind);
  }
}

/** Bodies of transactions, as one: their keys have nothing in common, so their rows of one table make one part, in order of application. */
function readGroup(reader: ByteReader): TransactionBody {
  const exists: SpaceKey[] = [];
  const parts: Part[] = [];
  let last: { readonly table: SpaceId; readonly rows: RowChange[] } | null = null;
  for (let left = reader.count(3); left > 0; left--) {
    if (reader.u8() !== bodyKinds.indexOf("transaction")) throw new MalformedBytesError("a group is of transactions");
    for (let count = reader.count(2); count > 0; count--) exists.push(readSpaceKey(reader));
    for (let count = reader.count(2); count > 0; count--) {
      const part = readPart(reader);
      const isPlain = part.kind === "rows" && part.values === undefined;
      if (isPlain && part.table === last?.table) {
        for (const change of part.rows) last.rows.push(change);
        continue;
      }
      last = isPlain ? { table: part.table, rows: [...part.rows] } : null;
      parts.push(last === null ? part : { kind: "rows", ...last });
    }
  }
  return { kind: "transaction", exists, parts };
}

function readPart(reader: ByteReader): Part {
  const tag = reader.u8();
  if (tag === 0) return { kind: "rows", table: reader.varint() as SpaceId, rows: reader.list(readRowChange, 4) };
  if (tag === 2) {
    const table = reader.varint() as SpaceId;
    const values = reader.list((r) => ({ hash: r.raw(valueHashBytes), bytes: r.bytes() }), valueHashBytes + 1);
    return { kind: "rows", table, values, rows: reader.list(readRowChange, 4) };
  }
  if (tag !== 1) throw new MalformedBytesError(`part ${tag}`);
  return {
    kind: "ddl",
    sql: reader.text(),
    upserts: reader.list(readSchemaObject, 8),
    drops: reader.list((r) => r.text()),
    touchedTables: reader.list((r) => r.varint() as SpaceId),
    newAtoms: reader.list((r) => ({ space: r.varint() as SpaceId, atom: r.varint() as AtomId, indexOf: r.varint() as SpaceId }), 3),
  };
}

function readRowChange(reader: ByteReader): RowChange {
  const key = reader.bytes();
  const length = reader.varint();
  const row = length === 0 ? null : reader.raw(length - 1);
  return { key, row, oldBytes: reader.varint(), indexKeys: reader.list(readSpaceKey, 2) };
}

export function readSchemaObject(reader: ByteReader): SchemaObject {
  return {
    type: pick(schemaTypes, reader.u8()),
    name: reader.text(),
    tableName: reader.text(),
    sql: reader.text(),
    space: reader.varint() as SpaceId,
    columns: reader.list((r) => ({ id: r.varint(), name: r.text() }), 2),
    uniques: reader.list((r) => ({ name: r.text(), space: r.varint() as SpaceId, indexed: readIndexedColumns(r) }), 3),
    indexed: readIndexedColumns(reader),
  };
}

function pick<T>(kinds: readonly T[], index: number): T {
  const kind = kinds[index];
  if (kind === undefined) throw new MalformedBytesError(`kind ${index}`);
  return kind;
}
