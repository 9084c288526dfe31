/**
 * Making and opening the journal on disk. The contract is journal.ts, the format journal-record.ts and journal-segment.ts, what a crash
 * leaves journal-recovery.ts (the decision table), and appending segmented-journal.ts.
 */

import { randomBytes } from "node:crypto";
import { DatabaseError } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import { assertChecksumAvailable } from "./checksum.js";
import { type FileSystem, nodeFileSystem } from "./file-system.js";
import type { Journal, JournalHandlers, RecoveredJournal } from "./journal.js";
import { JournalIndex, TailPositions } from "./journal-index.js";
import { JournalScan } from "./journal-recovery.js";
import {
  isTemporary,
  type Segment,
  segmentBytesDefault,
  segmentBytesMax,
  segmentBytesMin,
  segmentFileBytesMax,
  segmentIndexOf,
  segmentName,
} from "./journal-segment.js";
import { SegmentedJournal, type SegmentedJournalSettings } from "./segmented-journal.js";

export interface FileJournalOptions {
  /** Exists; holds nothing else. */
  readonly directory: string;
  readonly handlers: JournalHandlers;
  /** Size of a segment in bytes; an entry that needs more gets a larger one. Default 16 MiB. May differ from run to run. */
  readonly segmentBytes?: number;
  readonly files?: FileSystem;
  /** Salts of segments and ids of writes; the system's by default. */
  readonly randomBytes?: (byteCount: number) => Buffer;
}

/** Makes a new journal that goes on after `base`; durable when resolved. */
export async function createFileJournal(options: FileJournalOptions & { readonly base: LogPosition }): Promise<Journal> {
  const settings = settingsOf(options);
  const names = await settings.files.list(settings.directory);
  if (names.some((name) => segmentIndexOf(name) !== null)) {
    throw new DatabaseError("ATOMCAST_JOURNAL_EXISTS", `${settings.directory} holds a journal already`);
  }
  const journal = new SegmentedJournal(settings, {
    base: options.base,
    positions: new TailPositions(options.base),
    index: new JournalIndex(),
    salts: new Map(),
    newestIndex: 0,
    current: null,
    spare: null,
    repairThrough: 0,
  });
  await journal.reset(options.base);
  return journal;
}

/** Recovers a journal. `appliedSeq`: what the atom store has; a journal that ends below it is damaged. */
export async function openFileJournal(options: FileJournalOptions & { readonly appliedSeq: Seq }): Promise<RecoveredJournal> {
  const settings = settingsOf(options);
  const { files, directory } = settings;
  const indexes: number[] = [];
  for (const name of await files.list(directory)) {
    const index = segmentIndexOf(name);
    if (index !== null) indexes.push(index);
    else if (isTemporary(name)) await files.remove(`${directory}/${name}`);
  }
  indexes.sort((left, right) => left - right);
  const scan = new JournalScan();
  const salts = new Map<number, Buffer>();
  for (const [place, index] of indexes.entries()) {
    const bytes = await readSegment(settings, index);
    const salt = scan.segment(index, bytes, place === indexes.length - 1);
    if (salt !== null) salts.set(index, salt);
  }
  const state = scan.finish(options.appliedSeq);
  for (const index of state.voidIndexes) {
    salts.delete(index);
    await files.remove(`${directory}/${segmentName(index)}`);
  }
  // The last write may have reached the page cache and not the disk when the process was killed: it is durable only from here on.
  const current = state.current === null ? null : await openSegment(settings, state.current.index, salts);
  await current?.file.sync();
  await files.syncDirectory(directory);
  const spare = state.spareIndex === null ? null : await openSegment(settings, state.spareIndex, salts);
  const journal = new SegmentedJournal(settings, {
    base: state.base,
    positions: state.positions,
    index: state.index,
    salts,
    // A newest segment without a header is made anew under its own name.
    newestIndex: state.spareIndex !== null && spare === null ? state.spareIndex - 1 : state.newestIndex,
    current: current === null || state.current === null ? null : { segment: current, endBytes: state.current.endBytes, opening: null },
    spare,
    repairThrough: state.through,
  });
  return { journal, commitSeq: state.commitSeq, damage: state.damage };
}

function settingsOf(options: FileJournalOptions): SegmentedJournalSettings {
  assertChecksumAvailable();
  const segmentBytes = options.segmentBytes ?? segmentBytesDefault;
  if (!Number.isInteger(segmentBytes) || segmentBytes < segmentBytesMin || segmentBytes > segmentBytesMax) {
    throw new DatabaseError(
      "ATOMCAST_BAD_SETTING",
      `a segment of the journal has ${segmentBytesMin} to ${segmentBytesMax} bytes, not ${segmentBytes}`,
    );
  }
  return {
    files: options.files ?? nodeFileSystem,
    directory: options.directory,
    handlers: options.handlers,
    segmentBytes,
    randomBytes: options.randomBytes ?? randomBytes,
  };
}

async function readSegment(settings: SegmentedJournalSettings, index: number): Promise<Buffer> {
  const name = segmentName(index);
  const file = await settings.files.open(`${settings.directory}/${name}`, "read");
  try {
    const sizeBytes = await file.size();
    if (sizeBytes > segmentFileBytesMax) throw new DatabaseError("ATOMCAST_JOURNAL_DAMAGED", `${name} has ${sizeBytes} bytes, more than any segment`);
    return await file.read(0, sizeBytes);
  } finally {
    await file.close();
  }
}

/** null: its header is not readable, so it can only be made anew. */
async function openSegment(settings: SegmentedJournalSettings, index: number, salts: ReadonlyMap<number, Buffer>): Promise<Segment | null> {
  const salt = salts.get(index);
  if (salt === undefined) return null;
  const file = await settings.files.open(`${settings.directory}/${segmentName(index)}`, "durable");
  return { index, salt, file, sizeBytes: await file.size() };
}
