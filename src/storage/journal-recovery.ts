/**
 * What a journal's files mean after any crash. Pure: it is shown the segments' bytes, oldest first, and says what is there.
 *
 * Each write names where the one before it ended ("durable end"), and is begun only when that one was on the disk. So behind a place that
 * cannot be read, one valid record tells: if its durable end lies beyond the place, what was there had been durable, and is damaged. If
 * not, it was part of the write that the crash tore, in whatever order the disk took its sectors, or older still. Records are never
 * overwritten, segments are used in the order of their indexes, and a later segment's anchor names the position it goes on from.
 *
 * Going on from the end of the last good record, what is there:                                          then
 *
 *   next         the record that goes on: same write, or a new write whose durable end is here,           take it
 *                and in both cases the hash of the last position
 *   end          zeros to the end of the segment                                                          it ends here
 *   torn         unreadable, no valid record behind it with a durable end beyond it                       it ends here: cut
 *   old content  valid records that do not go on from here, none with a durable end beyond it             it ends here: cut
 *   rotten       not the next record, and a valid record behind it has a durable end beyond it            damage
 *
 * A segment as a whole:
 *
 *   anchored     its anchor names the last position                                                       goes on in it
 *   blank        the newest; no valid record with a durable end beyond its head (its first write tore)    used when needed
 *   headless     header unreadable, the newest, all else zeros                                            made anew
 *   unreadable   header or anchor unreadable otherwise                                                    damage
 *   missing      its index is skipped                                                                     damage
 *   gap          its anchor names another position than the last                                          damage
 *   reset        its anchor is a reset                                                                    older ones are void, their damage too
 *   repaired     its anchor is a repair from a position that was read                                     goes on from there; damage before it is past
 *
 * At the end:
 *
 *   sound        no damage, nothing known durable beyond the end                                          the journal is whole
 *   below commit a record names a commit seq beyond the end                                               damage
 *   below store  the atom store has applied beyond the end                                                damage
 *   unfinished   a repair has not reached what it is to reach                                             damage
 *   baseless     the oldest segment's anchor cannot be read, nor is there a later reset                   an error: no place to begin
 *
 * Damage is reported and never cut: nothing is written until the repair begins, and that goes into a new segment.
 */

import { chainHash } from "../base/chain-hash.js";
import { DatabaseError } from "../base/errors.js";
import { noSeq, type Seq } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import { JournalIndex, TailPositions } from "./journal-index.js";
import { alignUp, decodeRecord, findRecord, type JournalRecord, recordBytes, sectorBytes } from "./journal-record.js";
import { decodeSegmentHeader, segmentHeadBytes } from "./journal-segment.js";

export interface RecoveredState {
  readonly base: LogPosition;
  readonly positions: TailPositions;
  readonly index: JournalIndex;
  readonly commitSeq: Seq;
  /** The segment to go on in, and where its last record ends; null: a new one must be begun (damage, or none was ever used). */
  readonly current: { readonly index: number; readonly endBytes: number } | null;
  /** The newest segment where it is unused. */
  readonly spareIndex: number | null;
  /** Segments that a reset made void: to be removed. */
  readonly voidIndexes: readonly number[];
  readonly newestIndex: number;
  /** Until the journal has reached this, it is under repair; 0: it is sound. */
  readonly through: Seq;
  readonly damage: { readonly from: Seq; readonly through: Seq; readonly reason: string } | null;
}

interface WriteUnderWay {
  readonly writeId: number;
  readonly durableEndBytes: number;
}

export class JournalScan {
  #index = new JournalIndex();
  #positions: TailPositions | null = null;
  #base: LogPosition | null = null;
  #commitSeq = 0;
  #through = 0;
  #damage: string | null = null;
  /** In damage: the seq that the records behind it lead to. */
  #claimedSeq = 0;
  #current: { index: number; endBytes: number } | null = null;
  #spareIndex: number | null = null;
  #newestIndex = 0;
  #held: number[] = [];
  #seen: number[] = [];
  #void: number[] = [];

  /** Segments oldest first, each whole. Returns the segment's salt, or null where it has none that can be read. */
  segment(index: number, bytes: Buffer, isNewest: boolean): Buffer | null {
    if (this.#newestIndex > 0 && index !== this.#newestIndex + 1) this.#damaged(`segment ${this.#newestIndex + 1} is missing`);
    this.#newestIndex = index;
    this.#seen.push(index);
    const header = decodeSegmentHeader(bytes);
    if (header === null || header.index !== index) {
      if (isNewest && isZero(bytes, 0)) this.#spareIndex = index;
      else this.#damaged(`the header of segment ${index} is unreadable`, index);
      return null;
    }
    const anchor = goingOn(bytes, header.salt, segmentHeadBytes, null);
    if (anchor !== null && this.#takeAnchor(index, anchor)) this.#readOn(index, bytes, header.salt, anchor);
    else this.#withoutAnchor(index, bytes, header.salt, isNewest, anchor);
    return header.salt;
  }

  finish(appliedSeq: Seq): RecoveredState {
    const positions = this.#positions;
    if (this.#base === null || positions === null) {
      throw new DatabaseError(
        "ATOMCAST_JOURNAL_DAMAGED",
        `the journal has no readable beginning${this.#damage === null ? "" : ` (${this.#damage})`}: remove this Archive's folder and let it join anew`,
      );
    }
    const lastSeq = positions.last.seq;
    const reason = this.#damage ?? this.#shortReason(lastSeq, appliedSeq);
    const through = Math.max(lastSeq + 1, this.#through, this.#claimedSeq, this.#commitSeq, appliedSeq) as Seq;
    for (const index of this.#held) this.#index.hold(index, reason === null ? lastSeq : through);
    return {
      base: this.#base,
      positions,
      index: this.#index,
      commitSeq: Math.max(this.#commitSeq, this.#base.seq, appliedSeq) as Seq,
      current: reason === null ? this.#current : null,
      spareIndex: this.#spareIndex,
      voidIndexes: this.#void,
      newestIndex: this.#newestIndex,
      through: reason === null ? noSeq : through,
      damage: reason === null ? null : { from: (lastSeq + 1) as Seq, through, reason },
    };
  }

  #shortReason(lastSeq: number, appliedSeq: number): string | null {
    if (this.#commitSeq > lastSeq) return `the journal ends at ${lastSeq}, and entries up to ${this.#commitSeq} were committed`;
    if (appliedSeq > lastSeq) return `the journal ends at ${lastSeq}, and the atom store has applied up to ${appliedSeq}`;
    if (this.#through > lastSeq) return `a repair up to ${this.#through} has reached ${lastSeq}`;
    return null;
  }

  /** false: the segment does not go on from what came before. */
  #takeAnchor(index: number, record: JournalRecord): boolean {
    const { position } = record;
    const positions = this.#positions;
    switch (record.kind) {
      case "reset":
        this.#index.clear();
        this.#void.push(...this.#seen.filter((one) => one !== index));
        this.#seen = [index];
        this.#held = [];
        this.#beginAt(position);
        this.#index.begin(index, position, segmentHeadBytes);
        this.#damage = null;
        this.#claimedSeq = 0;
        this.#commitSeq = 0;
        this.#through = 0;
        break;
      case "repair":
        if (positions?.at(position.seq)?.hash !== position.hash) return false;
        positions.truncate(position.seq + 1);
        this.#index.truncate(index, position, segmentHeadBytes);
        this.#damage = null;
        this.#claimedSeq = 0;
        break;
      case "anchor":
        if (positions === null && this.#damage === null) this.#beginAt(position);
        else if (this.#damage !== null || positions?.last.seq !== position.seq || positions.last.hash !== position.hash) return false;
        this.#index.begin(index, position, segmentHeadBytes);
        break;
      default:
        return false;
    }
    this.#note(record);
    return true;
  }

  #beginAt(position: LogPosition): void {
    this.#base = position;
    this.#positions = new TailPositions(position);
  }

  #note(record: JournalRecord): void {
    this.#commitSeq = Math.max(this.#commitSeq, record.commitSeq);
    this.#through = Math.max(this.#through, record.through);
    this.#positions?.settle(this.#commitSeq);
    if (this.#positions !== null && this.#positions.last.seq >= this.#through) this.#through = 0;
  }

  #withoutAnchor(index: number, bytes: Buffer, salt: Buffer, isNewest: boolean, anchor: JournalRecord | null): void {
    const wasDurable = anyRecord(bytes, salt, segmentHeadBytes, (record) => record.durableEndBytes > segmentHeadBytes);
    if (anchor === null && isNewest && !wasDurable) {
      this.#spareIndex = index;
      return;
    }
    const reason = anchor === null ? `the beginning of segment ${index} is unreadable` : `segment ${index} goes on from entry ${anchor.position.seq}`;
    this.#damaged(anchor === null ? reason : `${reason}, and what was read ends at ${this.#positions?.last.seq ?? 0}`, index);
    this.#claim(bytes, salt, segmentHeadBytes);
  }

  #readOn(index: number, bytes: Buffer, salt: Buffer, anchor: JournalRecord): void {
    let end = anchor.endBytes;
    let write: WriteUnderWay = anchor;
    for (;;) {
      const record = goingOn(bytes, salt, end, write, (one) => this.#chains(one));
      if (record === null) break;
      this.#take(index, record);
      end = record.endBytes;
      write = record;
    }
    this.#current = { index, endBytes: end };
    if (!anyRecord(bytes, salt, end, (record) => record.durableEndBytes > end)) return;
    this.#damaged(`segment ${index} is unreadable at byte ${end}`, index);
    this.#claim(bytes, salt, end);
  }

  #chains(record: JournalRecord): boolean {
    const last = this.#positions?.last;
    if (last === undefined || record.previousHash !== last.hash) return false;
    const { position } = record;
    if (record.kind === "entry") {
      return position.seq === last.seq + 1 && position.hash === chainHash(last.hash, position.term, record.payload);
    }
    if (record.kind !== "truncate" || position.seq > last.seq) return false;
    if (this.#base !== null && position.seq < this.#base.seq) return true;
    return this.#positions?.at(position.seq)?.hash === position.hash;
  }

  #take(index: number, record: JournalRecord): void {
    const { position } = record;
    if (record.kind === "entry") {
      this.#positions?.push(position);
      this.#index.add(position.seq, record.endBytes - recordBytes(record.payload.length), record.endBytes);
    } else if (this.#base !== null && position.seq < this.#base.seq) {
      // What it goes back to was in a segment that has been removed, when all that this gives up was applied long since.
      this.#index.truncate(index, position, record.endBytes);
      this.#beginAt(position);
    } else {
      this.#positions?.truncate(position.seq + 1);
      this.#index.truncate(index, position, record.endBytes);
    }
    this.#note(record);
  }

  #damaged(reason: string, index?: number): void {
    this.#damage ??= reason;
    if (index !== undefined) this.#held.push(index);
  }

  /** The seq that the valid records behind damage lead to: what this voter may have acked, and so must have again. */
  #claim(bytes: Buffer, salt: Buffer, from: number): void {
    for (let found = findRecord(bytes, from, salt); found !== null; found = findRecord(bytes, found.record.endBytes, salt)) {
      this.#claimedSeq = found.record.position.seq;
      this.#commitSeq = Math.max(this.#commitSeq, found.record.commitSeq);
      this.#through = Math.max(this.#through, found.record.through);
    }
  }
}

/** The record that goes on at `end`: in the write under way, or first of a new write that says that this is where the last one ended. */
function goingOn(
  bytes: Buffer,
  salt: Buffer,
  end: number,
  write: WriteUnderWay | null,
  chains: (record: JournalRecord) => boolean = () => true,
): JournalRecord | null {
  if (write !== null) {
    const record = decodeRecord(bytes, end, 0, salt);
    const isSameWrite = record !== null && record !== "short" && record.writeId === write.writeId && record.durableEndBytes === write.durableEndBytes;
    if (isSameWrite && chains(record)) return record;
  }
  const record = decodeRecord(bytes, alignUp(end, sectorBytes), 0, salt);
  return record !== null && record !== "short" && record.durableEndBytes === end && chains(record) ? record : null;
}

function anyRecord(bytes: Buffer, salt: Buffer, from: number, holds: (record: JournalRecord) => boolean): boolean {
  for (let found = findRecord(bytes, from, salt); found !== null; found = findRecord(bytes, found.record.endBytes, salt)) {
    if (holds(found.record)) return true;
  }
  return false;
}

function isZero(bytes: Buffer, from: number): boolean {
  return bytes.subarray(from).every((byte) => byte === 0);
}
