/**
 * An Archive's answers to engines that ask for catalogs: the root catalog to one that joins, a space's record catalog, or parts of it, to a Cache that needs them
 * (catalog/catalog-records.ts). A catalog is of one seq, however many parts it takes: the first question opens a read, the last part ends it.
 *
 * | question | answer |
 * |---|---|
 * | of a seq that is not applied here yet | waits for it |
 * | the first part | the part; where there is more, a read that goes on from there |
 * | the next part of an open read | the part |
 * | any other part | "begin again": the read was given up for newer ones, or the question came twice |
 * | the first part, while too many reads are open and all in use | "begin again" |
 */
import type { Endpoint, SpaceId } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import { type CatalogRecord, rootRecords, spaceRecords } from "../catalog/catalog-records.js";
import type { CatalogRequestMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";

/** Reads open at once. Each keeps the pages of atoms that have changed since it began. */
const readsMax = 32;
/** A read is given up when nobody has asked for so long, and for a newer one after less. Milliseconds. */
const readIdleMs = 10_000;
const readYieldsMs = 1000;
/** Questions that wait for their seq; further ones are dropped, and asked again by their engine. */
const parkedMax = 4096;
/** However much is asked for: encoding a part takes the thread that orders. */
const partBytesMax = 1024 * 1024;

interface Read {
  readonly catalog: SpaceId;
  readonly position: LogPosition;
  readonly records: Iterator<CatalogRecord, undefined>;
  /** Taken from `records`, and not sent yet. */
  ahead: CatalogRecord | undefined;
  nextPart: number;
  usedMs: number;
}

export class CatalogSource {
  readonly #context: CoreContext;
  readonly #reads = new Map<number, Read>();
  #parked: { readonly from: Endpoint; readonly request: CatalogRequestMessage }[] = [];
  #nextRead = 1;

  constructor(context: CoreContext) {
    this.#context = context;
  }

  onRequest(from: Endpoint, request: CatalogRequestMessage): void {
    if (request.minSeq <= this.#context.appliedSeq) this.#answer(from, request);
    else if (this.#parked.length < parkedMax) this.#parked.push({ from, request });
  }

  /** After a batch of entries. */
  onApplied(): void {
    if (this.#parked.length === 0) return;
    const { appliedSeq } = this.#context;
    const ready = this.#parked.filter(({ request }) => request.minSeq <= appliedSeq);
    if (ready.length === 0) return;
    this.#parked = this.#parked.filter(({ request }) => request.minSeq > appliedSeq);
    for (const { from, request } of ready) this.#answer(from, request);
  }

  #answer(from: Endpoint, request: CatalogRequestMessage): void {
    const { pull, catalog, part } = request;
    const id = request.read === 0 ? this.#nextRead++ : request.read;
    const read = request.read === 0 ? this.#open(request) : this.#reads.get(id);
    if (read === undefined || read.catalog !== catalog || read.nextPart !== part) {
      const { position } = this.#context;
      this.#context.send(from, { kind: "catalog", pull, catalog, read: 0, part, position, records: new Map(), isLast: false });
      return;
    }
    const records = takePart(read, Math.min(request.bytesMax, partBytesMax));
    const isLast = read.ahead === undefined;
    read.nextPart++;
    read.usedMs = this.#context.nowMs;
    if (isLast) this.#reads.delete(id);
    else this.#reads.set(id, read);
    this.#context.send(from, { kind: "catalog", pull, catalog, read: id, part, position: read.position, records, isLast });
  }

  #open({ catalog, ranges, rangeAtomsMin, part }: CatalogRequestMessage): Read | undefined {
    const { nowMs } = this.#context;
    for (const [id, read] of this.#reads) {
      const idleMs = nowMs - read.usedMs;
      if (idleMs > readIdleMs || (this.#reads.size >= readsMax && idleMs > readYieldsMs)) this.#reads.delete(id);
    }
    if (this.#reads.size >= readsMax || part !== 0) return undefined;
    const { catalog: catalogs, position } = this.#context;
    const records = catalog === 0 ? rootRecords(catalogs) : spaceRecords(catalogs, catalog, ranges, rangeAtomsMin);
    return { catalog, position, records, ahead: records.next().value, nextPart: 0, usedMs: nowMs };
  }
}

/** One record at least, so that it goes on. */
function takePart(read: Read, bytesMax: number): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  for (let byteCount = 0; read.ahead !== undefined && byteCount < bytesMax; read.ahead = read.records.next().value) {
    const [name, bytes] = read.ahead;
    records.set(name, bytes);
    byteCount += name.length + bytes.length;
  }
  return records;
}
