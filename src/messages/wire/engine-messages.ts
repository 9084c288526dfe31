/**
 * Messages between engines besides the stream's own (stream-messages.ts has the kinds below 64). The first byte is the kind; numbers are
 * append-only. All but `seek`, `announce`, `gossip` and `contacts` go over reliable connections.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "../../base/bytes.js";
import type { ChainHash } from "../../base/chain-hash.js";
import type { AtomId, Endpoint, EngineId, EngineKind, NodeId, Nonce, ProposalSeq, Seq, SpaceId, Term } from "../../base/ids.js";
import { type BinaryRange, readRange, writeRange } from "../../base/key-ranges.js";
import type { LogPosition } from "../../base/log-entry.js";
import { type Fence, type IdRange, readIdRange, writeIdRange } from "./entry.js";
import { type HashedSeq, readHashedSeq, writeHashedSeq } from "./stream-messages.js";

/** "Who is there?", multicast by an engine that seeks its database, with its own whereabouts. */
export interface SeekMessage {
  readonly kind: "seek";
}

/** Where an engine is and how far: multicast about once a second, and unicast to one that seeks. */
export interface AnnounceMessage {
  readonly kind: "announce";
  readonly engineKind: EngineKind;
  readonly nodeId: NodeId;
  readonly nonce: Nonce;
  /** 0: not a member yet. */
  readonly engine: EngineId;
  /** Whom it takes for the sequencer; "" for nobody. */
  readonly sequencer: Endpoint | "";
  readonly term: Term;
  readonly commitSeq: Seq;
  readonly appliedSeq: Seq;
  readonly atomsHeld: number;
  readonly formatVersion: number;
  /** Whether a joining engine can begin from its state. */
  readonly canServe: boolean;
  /** The oldest snapshot that it may still read. */
  readonly oldestSnapshot: Seq;
  /** Old versions of rows that it keeps, and their bytes; 0: a Cache. */
  readonly versions: number;
  readonly versionBytes: number;
  /** From which seq on it can tell what rows were; and what it has swept since its process began. 0: a Cache. */
  readonly versionFloor: Seq;
  readonly sweptVersions: number;
  readonly sweptBytes: number;
  /** Large values that it keeps for rows and old versions, and their bytes; 0: a Cache. */
  readonly largeValues: number;
  readonly largeValueBytes: number;
  /** The transaction that is open there and has the oldest snapshot, as that engine's `system.transactions` names it, and for how long it has been. 0: none. */
  readonly openTransaction: number;
  readonly openMs: number;
  /** Its place in the relay tree: how it hears the stream, and from whom; "" for nobody in particular. */
  readonly by: HeardBy;
  readonly parent: Endpoint | "";
}

/** "": not at all, or it is the sequencer. */
export type HeardBy = (typeof heardBys)[number];
const heardBys = ["", "multicast of the sequencer", "multicast of a relay", "unicast"] as const;

/** What an engine has lately heard of others, and of itself first: in place of announcements, to those whom multicast does not reach. */
export interface GossipMessage {
  readonly kind: "gossip";
  readonly heard: readonly { readonly endpoint: Endpoint; readonly ageMs: number; readonly announce: Omit<AnnounceMessage, "kind"> }[];
}

/** Answer to a seek that came by unicast: who else may be asked, Archives first. */
export interface ContactsMessage {
  readonly kind: "contacts";
  readonly endpoints: readonly Endpoint[];
}

/** To the sequencer, strictly in proposalSeq. */
export interface ProposeMessage {
  readonly kind: "propose";
  readonly engine: EngineId;
  readonly proposalSeq: ProposalSeq;
  readonly entry: Buffer;
}

/** From the sequencer: proposals from this number on are missing there. */
export interface ProposeAgainMessage {
  readonly kind: "proposeAgain";
  readonly engine: EngineId;
  readonly from: ProposalSeq;
}

/** From the sequencer: the engine is no member in its log. */
export interface NotMemberMessage {
  readonly kind: "notMember";
  readonly engine: EngineId;
}

/** To the sequencer: order this BOOT entry, unless one with its nonce is in the log. */
export interface BootRequestMessage {
  readonly kind: "bootRequest";
  readonly entry: Buffer;
}

export interface PermissionRequestMessage {
  readonly kind: "permissionRequest";
  readonly engine: EngineId;
  readonly transaction: number;
  readonly attempt: number;
  readonly ageBeginMs: number;
  readonly ageCounter: number;
  readonly snapshot: Seq;
  /** What the sender has applied: committed, whether the originator has heard so or not. It first reaches this too. */
  readonly applied: HashedSeq;
  readonly holdsNothing: boolean;
  readonly fences: readonly Fence[];
  readonly items: readonly { readonly space: SpaceId; readonly key: string; readonly use: "write" | "delete" | "exist" }[];
  readonly wholeSpaces: readonly SpaceId[];
}

export interface PermissionReplyMessage {
  readonly kind: "permissionReply";
  readonly transaction: number;
  readonly attempt: number;
  /**
   * `moved`: not (any more) the originator, or of another version: ask again once `reach` is applied. `waits`: asked again, and still in the
   * queue; the answer will come.
   */
  readonly outcome: "granted" | "conflict" | "tooYoung" | "moved" | "waits";
  readonly reach: Seq;
  /** What the originator has applied. */
  readonly applied: HashedSeq;
}

export interface ReleaseMessage {
  readonly kind: "release";
  readonly engine: EngineId;
  readonly transaction: number;
  readonly attempt: number;
}

export interface ReleasedMessage {
  readonly kind: "released";
  readonly transaction: number;
  readonly attempt: number;
}

/** To a table's last atom's originator: hand out `count` ids by a SPLIT. */
export interface BlockRequestMessage {
  readonly kind: "blockRequest";
  readonly engine: EngineId;
  readonly space: SpaceId;
  /** From which the next ids come, as the asker sees it: of another it takes none, as it may not know who else holds that. */
  readonly atom: AtomId;
  readonly count: number;
}

/** To an Archive: a part of a catalog, once it has applied `minSeq`. */
export interface CatalogRequestMessage {
  readonly kind: "catalogRequest";
  /** The asker's number of this question; the reply names it. */
  readonly pull: number;
  /** Of which space; 0: the root catalog. */
  readonly catalog: SpaceId;
  /** With the first part: what keys are asked for. The root catalog has none, and is given whole. */
  readonly ranges: readonly BinaryRange[];
  /** Of each range so many atoms at least, with those behind it. */
  readonly rangeAtomsMin: number;
  /** As the reply to the first part has named it; 0 with the first part. */
  readonly read: number;
  /** Counts from 0. */
  readonly part: number;
  readonly minSeq: Seq;
  readonly bytesMax: number;
}

export interface CatalogMessage {
  readonly kind: "catalog";
  readonly pull: number;
  readonly catalog: SpaceId;
  /** All parts of one read are of one position. 0: no such read; begin again. */
  readonly read: number;
  readonly part: number;
  readonly position: LogPosition;
  readonly records: ReadonlyMap<string, Uint8Array>;
  readonly isLast: boolean;
}

/** To an Archive, or a Cache that holds the range ready: rows of a range, once it has stored `minSeq`. */
export interface PullRequestMessage {
  readonly kind: "pullRequest";
  /** The asker's number of this question; the reply names it. */
  readonly pull: number;
  readonly space: SpaceId;
  readonly low: Buffer;
  readonly high: Buffer | null;
  readonly minSeq: Seq;
  /** The oldest snapshot that the asker may read: what rows were since then is wanted with them, of an Archive. */
  readonly since: Seq;
  readonly bytesMax: number;
  /** The rows as they were at this seq, of an Archive. 0: as they are. */
  readonly asOf: Seq;
}

/** What a row was before the entry at `seq` changed it. */
export interface PulledImage {
  readonly seq: Seq;
  readonly key: Buffer;
  /** null: there was no such row. */
  readonly row: Buffer | null;
}

export interface PullReplyMessage {
  readonly kind: "pullReply";
  readonly pull: number;
  /** The store's seq that these rows are of. */
  readonly seq: Seq;
  readonly rows: readonly { readonly key: Buffer; readonly row: Buffer }[];
  /** Where to go on; null: the range is whole. */
  readonly next: Buffer | null;
  /** In the order of seq. */
  readonly images: readonly PulledImage[];
  /** With the images, the chunk's range can be told for every snapshot from here on. */
  readonly imagesFrom: Seq;
}

/**
 * From a Cache that was asked for rows: it holds none from there on (any more), or has too much to do just now. Another holder has them. From an Archive that
 * was asked for the past: what was there then it does not know (any more).
 */
export interface PullRefusedMessage {
  readonly kind: "pullRefused";
  readonly pull: number;
  readonly reason: "notHeld" | "busy" | "gone";
}

/** To an Archive: where to cut an atom. */
export interface CutsRequestMessage {
  readonly kind: "cutsRequest";
  readonly atom: AtomId;
  readonly space: SpaceId;
  readonly low: Buffer;
  readonly high: Buffer | null;
  /** What the sizes that come back are to be of, at least: with those of an older state, the atom's would be divided wrongly. */
  readonly minSeq: Seq;
}

export interface CutsReplyMessage {
  readonly kind: "cutsReply";
  readonly atom: AtomId;
  /** The question's: an answer to an earlier one is of other rows. */
  readonly low: Buffer;
  readonly cuts: readonly Buffer[];
  readonly pieces: readonly { readonly bytes: number; readonly rows: number }[];
}

/** To an Archive: its whole store, part by part. `transfer` 0 begins one. */
export interface TransferRequestMessage {
  readonly kind: "transferRequest";
  readonly transfer: number;
  readonly cursor: string;
}

export interface TransferReplyMessage {
  readonly kind: "transferReply";
  /** 0: no such transfer, or too many are open; begin again later. */
  readonly transfer: number;
  readonly position: LogPosition;
  /** Where this part was read from. */
  readonly cursor: string;
  /** Empty at the end. */
  readonly part: Buffer;
  readonly next: string;
}

/** To the sequencer: give up an Archive's place as voter. */
export interface RemoveVoterMessage {
  readonly kind: "removeVoter";
  readonly request: number;
  readonly nodeId: NodeId;
}

export interface RemoveVoterReplyMessage {
  readonly kind: "removeVoterReply";
  readonly request: number;
  /** "" when it is ordered. */
  readonly refusal: string;
}

/** To the sequencer: this engine goes; order its LEAVE. */
export interface FarewellMessage {
  readonly kind: "farewell";
  readonly engine: EngineId;
  /** Ids that it gives back, each range with a fence of its atom: while that holds, no row can have come there. */
  readonly ids: readonly (IdRange & { readonly fence: Fence })[];
}

/** To the sequencer: the originator of these atoms cannot be reached from here, or does not answer; another should be (DEMOTE). */
export interface SilentOriginatorMessage {
  readonly kind: "silentOriginator";
  readonly engine: EngineId;
  readonly fences: readonly Fence[];
}

export type EngineMessage =
  | SeekMessage
  | AnnounceMessage
  | ProposeMessage
  | ProposeAgainMessage
  | NotMemberMessage
  | BootRequestMessage
  | PermissionRequestMessage
  | PermissionReplyMessage
  | ReleaseMessage
  | ReleasedMessage
  | BlockRequestMessage
  | CatalogRequestMessage
  | CatalogMessage
  | PullRequestMessage
  | PullReplyMessage
  | PullRefusedMessage
  | CutsRequestMessage
  | CutsReplyMessage
  | TransferRequestMessage
  | TransferReplyMessage
  | RemoveVoterMessage
  | RemoveVoterReplyMessage
  | FarewellMessage
  | SilentOriginatorMessage
  | GossipMessage
  | ContactsMessage;

export const firstEngineKind = 64;
const uses = ["write", "delete", "exist"] as const;
const refusals = ["notHeld", "busy", "gone"] as const;
const outcomes = ["granted", "conflict", "tooYoung", "moved", "waits"] as const;

interface Codec<M> {
  readonly number: number;
  write(writer: ByteWriter, message: M): void;
  read(reader: ByteReader): Omit<M, "kind">;
}

const nothing = { write: (): void => {}, read: (): object => ({}) };

function writeAnnounce(w: ByteWriter, m: Omit<AnnounceMessage, "kind">): void {
  w.bool(m.engineKind === "archive")
    .varint(m.nodeId)
    .varint(m.nonce)
    .varint(m.engine)
    .text(m.sequencer)
    .varint(m.term);
  w.varint(m.commitSeq).varint(m.appliedSeq).varint(m.atomsHeld).varint(m.formatVersion).bool(m.canServe);
  w.varint(m.oldestSnapshot).varint(m.versions).varint(m.versionBytes).u8(heardBys.indexOf(m.by)).text(m.parent);
  w.varint(m.versionFloor).varint(m.sweptVersions).varint(m.sweptBytes).varint(m.openTransaction).varint(m.openMs);
  w.varint(m.largeValues).varint(m.largeValueBytes);
}

function readAnnounce(r: ByteReader): Omit<AnnounceMessage, "kind"> {
  return {
    engineKind: r.bool() ? "archive" : "cache",
    nodeId: r.varint() as NodeId,
    nonce: r.varint() as Nonce,
    engine: r.varint() as EngineId,
    sequencer: r.text() as Endpoint,
    term: r.varint() as Term,
    commitSeq: r.varint() as Seq,
    appliedSeq: r.varint() as Seq,
    atomsHeld: r.varint(),
    formatVersion: r.varint(),
    canServe: r.bool(),
    oldestSnapshot: r.varint() as Seq,
    versions: r.varint(),
    versionBytes: r.varint(),
    by: pick(heardBys, r.u8()),
    parent: r.text() as Endpoint,
    versionFloor: r.varint() as Seq,
    sweptVersions: r.varint(),
    sweptBytes: r.varint(),
    openTransaction: r.varint(),
    openMs: r.varint(),
    largeValues: r.varint(),
    largeValueBytes: r.varint(),
  };
}

const codecs: { readonly [K in EngineMessage["kind"]]: Codec<Extract<EngineMessage, { kind: K }>> } = {
  seek: { number: 64, ...nothing },
  announce: { number: 65, write: writeAnnounce, read: readAnnounce },
  propose: {
    number: 66,
    write: (w, m) => w.varint(m.engine).varint(m.proposalSeq).raw(m.entry),
    read: (r) => ({ engine: r.varint() as EngineId, proposalSeq: r.varint() as ProposalSeq, entry: r.raw(r.remaining) }),
  },
  proposeAgain: {
    number: 67,
    write: (w, m) => w.varint(m.engine).varint(m.from),
    read: (r) => ({ engine: r.varint() as EngineId, from: r.varint() as ProposalSeq }),
  },
  notMember: { number: 68, write: (w, m) => w.varint(m.engine), read: (r) => ({ engine: r.varint() as EngineId }) },
  bootRequest: { number: 69, write: (w, m) => w.raw(m.entry), read: (r) => ({ entry: r.raw(r.remaining) }) },
  permissionRequest: {
    number: 70,
    write: (w, m) => {
      w.varint(m.engine).varint(m.transaction).varint(m.attempt).f64(m.ageBeginMs).varint(m.ageCounter);
      writeHashedSeq(w.varint(m.snapshot), m.applied).bool(m.holdsNothing);
      writeFences(w, m.fences);
      w.varint(m.items.length);
      for (const item of m.items) w.varint(item.space).bytes(Buffer.from(item.key, "latin1")).u8(uses.indexOf(item.use));
      w.varint(m.wholeSpaces.length);
      for (const space of m.wholeSpaces) w.varint(space);
    },
    read: (r) => ({
      engine: r.varint() as EngineId,
      transaction: r.varint(),
      attempt: r.varint(),
      ageBeginMs: r.f64(),
      ageCounter: r.varint(),
      snapshot: r.varint() as Seq,
      applied: readHashedSeq(r),
      holdsNothing: r.bool(),
      fences: readFences(r),
      items: r.list((one) => ({ space: one.varint() as SpaceId, key: one.bytes().toString("latin1"), use: pick(uses, one.u8()) }), 3),
      wholeSpaces: r.list((one) => one.varint() as SpaceId),
    }),
  },
  permissionReply: {
    number: 71,
    write: (w, m) => writeHashedSeq(w.varint(m.transaction).varint(m.attempt).u8(outcomes.indexOf(m.outcome)).varint(m.reach), m.applied),
    read: (r) => ({
      transaction: r.varint(),
      attempt: r.varint(),
      outcome: pick(outcomes, r.u8()),
      reach: r.varint() as Seq,
      applied: readHashedSeq(r),
    }),
  },
  release: {
    number: 72,
    write: (w, m) => w.varint(m.engine).varint(m.transaction).varint(m.attempt),
    read: (r) => ({ engine: r.varint() as EngineId, transaction: r.varint(), attempt: r.varint() }),
  },
  released: {
    number: 73,
    write: (w, m) => w.varint(m.transaction).varint(m.attempt),
    read: (r) => ({ transaction: r.varint(), attempt: r.varint() }),
  },
  blockRequest: {
    number: 74,
    write: (w, m) => w.varint(m.engine).varint(m.space).varint(m.atom).varint(m.count),
    read: (r) => ({ engine: r.varint() as EngineId, space: r.varint() as SpaceId, atom: r.varint() as AtomId, count: r.varint() }),
  },
  catalogRequest: {
    number: 75,
    write: (w, m) => {
      w.varint(m.pull)
        .varint(m.catalog)
        .varint(m.read)
        .varint(m.part)
        .varint(m.minSeq)
        .varint(m.bytesMax)
        .varint(m.rangeAtomsMin)
        .varint(m.ranges.length);
      for (const range of m.ranges) writeRange(w, range);
    },
    read: (r) => ({
      pull: r.varint(),
      catalog: r.varint() as SpaceId,
      read: r.varint(),
      part: r.varint(),
      minSeq: r.varint() as Seq,
      bytesMax: r.varint(),
      rangeAtomsMin: r.varint(),
      ranges: r.list(readRange, 2),
    }),
  },
  catalog: {
    number: 76,
    write: (w, m) => {
      w.varint(m.pull).varint(m.catalog).varint(m.read).varint(m.part);
      writePosition(w, m.position);
      w.bool(m.isLast).varint(m.records.size);
      for (const [name, bytes] of m.records) w.text(name).bytes(bytes);
    },
    read: (r) => ({
      pull: r.varint(),
      catalog: r.varint() as SpaceId,
      read: r.varint(),
      part: r.varint(),
      position: readPosition(r),
      isLast: r.bool(),
      records: new Map(r.list((one): [string, Uint8Array] => [one.text(), one.bytes()], 2)),
    }),
  },
  pullRequest: {
    number: 77,
    write: (w, m) => {
      w.varint(m.pull).varint(m.space).bytes(m.low);
      writeOptional(w, m.high);
      w.varint(m.minSeq).varint(m.since).varint(m.bytesMax).varint(m.asOf);
    },
    read: (r) => ({
      pull: r.varint(),
      space: r.varint() as SpaceId,
      low: r.bytes(),
      high: readOptional(r),
      minSeq: r.varint() as Seq,
      since: r.varint() as Seq,
      bytesMax: r.varint(),
      asOf: r.varint() as Seq,
    }),
  },
  pullReply: {
    number: 78,
    write: (w, m) => {
      w.varint(m.pull).varint(m.seq).varint(m.rows.length);
      for (const { key, row } of m.rows) w.bytes(key).bytes(row);
      writeOptional(w, m.next);
      w.varint(m.imagesFrom).varint(m.images.length);
      for (const { seq, key, row } of m.images) writeOptional(w.varint(seq).bytes(key), row);
    },
    read: (r) => ({
      pull: r.varint(),
      seq: r.varint() as Seq,
      rows: r.list((one) => ({ key: one.bytes(), row: one.bytes() }), 2),
      next: readOptional(r),
      imagesFrom: r.varint() as Seq,
      images: r.list((one) => ({ seq: one.varint() as Seq, key: one.bytes(), row: readOptional(one) }), 3),
    }),
  },
  cutsRequest: {
    number: 79,
    write: (w, m) => {
      w.varint(m.atom).varint(m.space).bytes(m.low);
      writeOptional(w, m.high);
      w.varint(m.minSeq);
    },
    read: (r) => ({
      atom: r.varint() as AtomId,
      space: r.varint() as SpaceId,
      low: r.bytes(),
      high: readOptional(r),
      minSeq: r.varint() as Seq,
    }),
  },
  cutsReply: {
    number: 80,
    write: (w, m) => {
      w.varint(m.atom).bytes(m.low).varint(m.cuts.length);
      for (const cut of m.cuts) w.bytes(cut);
      w.varint(m.pieces.length);
      for (const piece of m.pieces) w.varint(piece.bytes).varint(piece.rows);
    },
    read: (r) => ({
      atom: r.varint() as AtomId,
      low: r.bytes(),
      cuts: r.list((one) => one.bytes()),
      pieces: r.list((one) => ({ bytes: one.varint(), rows: one.varint() }), 2),
    }),
  },
  transferRequest: {
    number: 81,
    write: (w, m) => w.varint(m.transfer).text(m.cursor),
    read: (r) => ({ transfer: r.varint(), cursor: r.text() }),
  },
  transferReply: {
    number: 82,
    write: (w, m) => {
      w.varint(m.transfer);
      writePosition(w, m.position);
      w.text(m.cursor).bytes(m.part).text(m.next);
    },
    read: (r) => ({ transfer: r.varint(), position: readPosition(r), cursor: r.text(), part: r.bytes(), next: r.text() }),
  },
  removeVoter: {
    number: 83,
    write: (w, m) => w.varint(m.request).varint(m.nodeId),
    read: (r) => ({ request: r.varint(), nodeId: r.varint() as NodeId }),
  },
  removeVoterReply: {
    number: 84,
    write: (w, m) => w.varint(m.request).text(m.refusal),
    read: (r) => ({ request: r.varint(), refusal: r.text() }),
  },
  farewell: {
    number: 85,
    write: (w, m) => {
      w.varint(m.engine);
      writeFences(
        w,
        m.ids.map((range) => range.fence),
      );
      for (const range of m.ids) writeIdRange(w, range);
    },
    read: (r) => ({ engine: r.varint() as EngineId, ids: readFences(r).map((fence) => ({ ...readIdRange(r), fence })) }),
  },
  silentOriginator: {
    number: 86,
    write: (w, m) => {
      w.varint(m.engine);
      writeFences(w, m.fences);
    },
    read: (r) => ({ engine: r.varint() as EngineId, fences: readFences(r) }),
  },
  pullRefused: {
    number: 87,
    write: (w, m) => w.varint(m.pull).u8(refusals.indexOf(m.reason)),
    read: (r) => ({ pull: r.varint(), reason: pick(refusals, r.u8()) }),
  },
  gossip: {
    number: 88,
    write: (w, m) => {
      w.varint(m.heard.length);
      for (const { endpoint, ageMs, announce } of m.heard) writeAnnounce(w.text(endpoint).varint(ageMs), announce);
    },
    read: (r) => ({ heard: r.list((one) => ({ endpoint: one.text() as Endpoint, ageMs: one.varint(), announce: readAnnounce(one) }), 16) }),
  },
  contacts: {
    number: 89,
    write: (w, m) => {
      w.varint(m.endpoints.length);
      for (const endpoint of m.endpoints) w.text(endpoint);
    },
    read: (r) => ({ endpoints: r.list((one) => one.text() as Endpoint) }),
  },
};

/** Every kind of message, for what must miss none. */
export const engineMessageKinds = Object.keys(codecs) as EngineMessage["kind"][];

const kindsByNumber = new Map(Object.entries(codecs).map(([kind, codec]) => [codec.number, kind as EngineMessage["kind"]]));

export function encodeEngineMessage(message: EngineMessage): Buffer {
  const codec = codecs[message.kind] as Codec<EngineMessage>;
  const writer = new ByteWriter("entry" in message ? message.entry.length + 32 : 128);
  writer.u8(codec.number);
  codec.write(writer, message);
  return writer.finish();
}

/** Throws MalformedBytesError. Byte fields are views of `bytes`. */
export function decodeEngineMessage(bytes: Uint8Array): EngineMessage {
  const reader = new ByteReader(bytes);
  const number = reader.u8();
  const kind = kindsByNumber.get(number);
  if (kind === undefined) throw new MalformedBytesError(`engine message kind ${number}`);
  const message = { kind, ...codecs[kind].read(reader) } as EngineMessage;
  reader.end();
  return message;
}

function writeFences(writer: ByteWriter, fences: readonly Fence[]): void {
  writer.varint(fences.length);
  for (const fence of fences) writer.varint(fence.atom).varint(fence.originator).varint(fence.ownershipVersion);
}

function readFences(reader: ByteReader): Fence[] {
  return reader.list((r) => ({ atom: r.varint() as AtomId, originator: r.varint() as EngineId, ownershipVersion: r.varint() as Seq }), 3);
}

function writePosition(writer: ByteWriter, position: LogPosition): void {
  writer.varint(position.seq).varint(position.term).text(position.hash);
}

function readPosition(reader: ByteReader): LogPosition {
  return { seq: reader.varint() as Seq, term: reader.varint() as Term, hash: reader.text() as ChainHash };
}

function writeOptional(writer: ByteWriter, bytes: Buffer | null): void {
  writer.bool(bytes !== null);
  if (bytes !== null) writer.bytes(bytes);
}

function readOptional(reader: ByteReader): Buffer | null {
  return reader.bool() ? reader.bytes() : null;
}

function pick<T>(kinds: readonly T[], index: number): T {
  const kind = kinds[index];
  if (kind === undefined) throw new MalformedBytesError(`kind ${index}`);
  return kind;
}
