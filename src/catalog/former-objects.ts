/**
 * What objects of the schema were before they were altered or dropped, so that the past is read with the schema that it had. Every engine derives them from the
 * stream: an object that an entry changes is kept as it was, until the low-water mark has passed the entry, or there are too many. Pure.
 *
 *   seq        … 3 │ 4 … 8 │ 9 … 11 │ 12 …
 *   object     none│ made  │ altered│ dropped       former: (made, version 4, until 9), (altered, version 9, until 12)
 *
 * | the schema as of a seq | is told |
 * |---|---|
 * | from the floor on | whole: what is there and not newer, with what is former and was there then |
 * | below the floor | not at all: an object of it may have been given up |
 */
import { noSeq, type Seq } from "../base/ids.js";
import { decodeSchemaRecord, encodeSchemaRecord, type SchemaRecord } from "./schema-record.js";

export interface FormerObject {
  readonly record: SchemaRecord;
  /** Of the entry that altered or dropped it: it was there from its version until before this. */
  readonly until: Seq;
  /** Encoded. */
  readonly bytes: number;
}

/**
 * Beyond either, those that ended first go, and the floor rises. Reason: a long history of migrations fits many times over, and who joins still takes it with the
 * catalogs in a moment.
 */
export const formerCountMax = 4096;
export const formerBytesMax = 4 * 1024 * 1024;

/** Of its record in the catalog. Not by the object's name, which may be as long as a record's name can be. */
export function formerName({ until, record }: FormerObject): string {
  return `f:${until}:${record.order}`;
}

export class FormerObjects {
  /** In the order of their ends, and of creation. */
  readonly #all: FormerObject[] = [];
  #bytes = 0;
  #floor = noSeq;

  copy(): FormerObjects {
    const copy = new FormerObjects();
    copy.#all.push(...this.#all);
    copy.#bytes = this.#bytes;
    copy.#floor = this.#floor;
    return copy;
  }

  get all(): readonly FormerObject[] {
    return this.#all;
  }

  /** The schema as of this seq and later can be told, as far as the mark allows it. */
  get floor(): Seq {
    return this.#floor;
  }

  /** Those that are kept no more for it; it may be among them. */
  add(record: SchemaRecord, until: Seq): { readonly added: FormerObject; readonly gone: readonly FormerObject[] } {
    const added = { record, until, bytes: encodeSchemaRecord(record).length };
    this.#insert(added);
    const gone: FormerObject[] = [];
    for (let first = this.#all[0]; first !== undefined && this.#isTooMuch; first = this.#all[0]) {
      this.#floor = first.until;
      // All that ended with it: below the floor they tell nothing.
      gone.push(...this.dropBelow(first.until));
    }
    return { added, gone };
  }

  get #isTooMuch(): boolean {
    return this.#all.length > formerCountMax || this.#bytes > formerBytesMax;
  }

  /** Those that ended at or below the mark: nobody reads as of when they were there. */
  dropBelow(mark: Seq): readonly FormerObject[] {
    const gone = this.#all.splice(0, this.#placeOf((mark + 1) as Seq, 0));
    for (const { bytes } of gone) this.#bytes -= bytes;
    return gone;
  }

  /** What was there then, and is no more as it was. */
  at(seq: Seq): SchemaRecord[] {
    return this.#all
      .slice(this.#placeOf((seq + 1) as Seq, 0))
      .map(({ record }) => record)
      .filter(({ version }) => version <= seq);
  }

  /** By its name in the catalog, without the tag. null: it is gone. */
  encode(name: string): Buffer | null {
    const [until, order] = idOf(name);
    const found = this.#all[this.#placeOf(until, order)];
    return found?.until === until && found.record.order === order ? encodeSchemaRecord(found.record) : null;
  }

  /** Of a copy, in any order. */
  load(name: string, bytes: Uint8Array): void {
    this.#insert({ record: decodeSchemaRecord(bytes), until: idOf(name)[0], bytes: bytes.length });
  }

  loadFloor(floor: Seq): void {
    this.#floor = floor;
  }

  #insert(former: FormerObject): void {
    this.#all.splice(this.#placeOf(former.until, former.record.order), 0, former);
    this.#bytes += former.bytes;
  }

  /** Of the first that did not end before it. */
  #placeOf(until: Seq, order: number): number {
    let [low, high] = [0, this.#all.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const one = this.#all[middle] as FormerObject;
      if (one.until < until || (one.until === until && one.record.order < order)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function idOf(name: string): readonly [until: Seq, order: number] {
  const [until, order] = name.split(":");
  return [Number(until) as Seq, Number(order)];
}
