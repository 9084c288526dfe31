/**
 * The changes of a batch as bytes, as they cross to the thread that writes the store: what an entry changes is written down once, where it is applied, and nothing of
 * it stays behind as objects. They lie in chunks, so that no copy takes long; a change is in one chunk whole.
 *
 *   place    space, seq: of what follows, until the next one
 *   indexes  of the table of that space: of what follows in it
 *   put, putNew, delete, value, drop, index   the changes themselves
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "../base/bytes.js";
import { largeValueSpace, type Seq, type SpaceId } from "../base/ids.js";
import { type RowIndex, readIndexedColumns, writeIndexedColumns } from "../base/row-index.js";
import type { StoreChange } from "./atom-store.js";

export interface StoreChanges {
  readonly chunks: readonly Uint8Array[];
  readonly count: number;
  /** Of all chunks. */
  readonly byteCount: number;
}

/** A chunk takes no more changes from here on: its copy takes some 50 µs. */
const chunkBytes = 256 * 1024;
const chunkBytesAtFirst = 16 * 1024;

const kinds = ["place", "indexes", "put", "putNew", "delete", "value", "drop", "index"] as const;
type Kind = (typeof kinds)[number];
const numberOf = Object.fromEntries(kinds.map((kind, number) => [kind, number])) as Record<Kind, number>;

export class StoreChangesWriter {
  #chunks: Uint8Array[] = [];
  #chunksBytes = 0;
  #writer: ByteWriter | null = null;
  #count = 0;
  #space = -1;
  #seq = -1;
  /** As they were written last. */
  readonly #indexes = new Map<number, readonly RowIndex[]>();

  get count(): number {
    return this.#count;
  }

  get byteCount(): number {
    return this.#chunksBytes + (this.#writer?.length ?? 0);
  }

  add(change: StoreChange): void {
    this.#count++;
    const writer = this.#open();
    switch (change.kind) {
      case "put":
        this.#at(writer, change.space, change.seq, change.indexes);
        writer
          .u8(change.isNew === true ? numberOf.putNew : numberOf.put)
          .bytes(change.key)
          .bytes(change.row);
        return;
      case "delete":
        this.#at(writer, change.space, change.seq, change.indexes);
        writer.u8(numberOf.delete).bytes(change.key);
        return;
      case "value":
        writer.u8(numberOf.value).bytes(change.hash).bytes(change.bytes);
        return;
      case "drop":
        writer.u8(numberOf.drop).varint(change.space).varint(change.seq).varint(change.bytes);
        return;
      case "index":
        writer.u8(numberOf.index).varint(change.space).varint(change.seq);
        writeIndex(writer, change.index);
    }
  }

  #open(): ByteWriter {
    if (this.#writer !== null && this.#writer.length >= chunkBytes) this.#close();
    this.#writer ??= new ByteWriter(chunkBytesAtFirst);
    return this.#writer;
  }

  #close(): void {
    if (this.#writer === null) return;
    this.#chunksBytes += this.#writer.length;
    this.#chunks.push(this.#writer.finish());
    this.#writer = null;
  }

  #at(writer: ByteWriter, space: SpaceId, seq: Seq, indexes: readonly RowIndex[] = noIndexes): void {
    if (space !== this.#space || seq !== this.#seq) writer.u8(numberOf.place).varint(space).varint(seq);
    this.#space = space;
    this.#seq = seq;
    if (indexes === (this.#indexes.get(space) ?? noIndexes)) return;
    this.#indexes.set(space, indexes);
    writer.u8(numberOf.indexes).varint(indexes.length);
    for (const index of indexes) writeIndex(writer, index);
  }

  /** All of it; what is added from here on is another batch's. */
  take(): StoreChanges {
    this.#close();
    const taken = { chunks: this.#chunks, count: this.#count, byteCount: this.#chunksBytes };
    this.#chunks = [];
    this.#chunksBytes = 0;
    this.#count = 0;
    this.#space = -1;
    this.#seq = -1;
    this.#indexes.clear();
    return taken;
  }

  /** What was added since `take`, oldest first; nothing is added meanwhile. */
  read(): IterableIterator<StoreChange> {
    return readStoreChanges(this.#writer === null ? this.#chunks : [...this.#chunks, this.#writer.written]);
  }
}

const noIndexes: readonly RowIndex[] = [];

export function storeChangesOf(changes: Iterable<StoreChange>): StoreChanges {
  const writer = new StoreChangesWriter();
  for (const change of changes) writer.add(change);
  return writer.take();
}

/** In their order; keys and rows are views of the chunks. Throws MalformedBytesError. */
export function* readStoreChanges(chunks: readonly Uint8Array[]): IterableIterator<StoreChange> {
  let space = 0 as SpaceId;
  let seq = 0 as Seq;
  const indexesOf = new Map<SpaceId, readonly RowIndex[]>();
  let indexes = noIndexes;
  for (const chunk of chunks) {
    const reader = new ByteReader(chunk);
    while (reader.remaining > 0) {
      switch (kinds[reader.u8()]) {
        case "place":
          space = reader.varint() as SpaceId;
          seq = reader.varint() as Seq;
          indexes = indexesOf.get(space) ?? noIndexes;
          break;
        case "indexes":
          indexes = reader.list(readIndex, 2);
          indexesOf.set(space, indexes);
          break;
        case "put":
          yield { kind: "put", space, key: reader.bytes(), row: reader.bytes(), seq, isNew: false, indexes };
          break;
        case "putNew":
          yield { kind: "put", space, key: reader.bytes(), row: reader.bytes(), seq, isNew: true, indexes };
          break;
        case "delete":
          yield { kind: "delete", space, key: reader.bytes(), seq, indexes };
          break;
        case "value":
          yield { kind: "value", space: largeValueSpace, hash: reader.bytes(), bytes: reader.bytes() };
          break;
        case "drop":
          yield { kind: "drop", space: reader.varint() as SpaceId, seq: reader.varint() as Seq, bytes: reader.varint() };
          break;
        case "index":
          yield { kind: "index", space: reader.varint() as SpaceId, seq: reader.varint() as Seq, index: readIndex(reader) };
          break;
        default:
          throw new MalformedBytesError("a store's change of an unknown kind");
      }
    }
  }
}

function writeIndex(writer: ByteWriter, { space, columns }: RowIndex): void {
  writer.varint(space);
  writeIndexedColumns(writer, columns);
}

function readIndex(reader: ByteReader): RowIndex {
  const space = reader.varint() as SpaceId;
  return { space, columns: readIndexedColumns(reader) };
}
