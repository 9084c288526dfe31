/**
 * Messages of the stream (design.md §4), by hand. The first byte is the kind, below 64; numbers are append-only. docs/stream.md draws
 * the bytes. Every decoder throws MalformedBytesError and nothing else: the bytes come from other processes, perhaps of another version.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "../../base/bytes.js";
import type { ChainHash } from "../../base/chain-hash.js";
import { unreachable } from "../../base/errors.js";
import type { Endpoint, NodeId, Nonce, Seq, Term } from "../../base/ids.js";
import { entryBytesMax } from "../../base/limits.js";

export type StreamMessage =
  | FrameMessage
  | AckMessage
  | VoteRequest
  | VoteReply
  | RepairRequest
  | RepairRefusal
  | CatchUpRequest
  | CatchUpEnd
  | RelayedMessage
  | SubscribeMessage
  | SubscribeRefusal
  | SubscribedMessage;

/** A seq and the hash of the entry there: names a whole history. */
export interface HashedSeq {
  readonly seq: Seq;
  readonly hash: ChainHash;
}

/** What every frame says besides its content. */
export interface FrameHeader {
  /** The sender's. */
  readonly term: Term;
  readonly sender: NodeId;
  /**
   * False: from the term's sequencer. True: a repair by another engine; everything in it is committed, and it tells nothing about
   * who orders.
   */
  readonly committed: boolean;
  /** The sequencer's count of heartbeats in its term, echoed by acks: an ack of round n answers what was sent after n began. */
  readonly round: number;
  readonly commit: HashedSeq;
  /** The last entry that the sender has (the last committed one where `committed`): shows the loss of a last frame. */
  readonly last: HashedSeq;
}

export interface FrameMessage extends FrameHeader {
  readonly kind: "frame";
  readonly firstSeq: Seq;
  /** Of the entry before `firstSeq`. */
  readonly prevHash: ChainHash;
  readonly content: FrameEntries | FrameFragment;
}

/** Whole entries from `firstSeq` on; none: a heartbeat. */
export interface FrameEntries {
  readonly kind: "entries";
  readonly entries: readonly FrameEntry[];
}

export interface FrameEntry {
  readonly term: Term;
  readonly bytes: Uint8Array;
}

/** A part of the entry at `firstSeq`. */
export interface FrameFragment {
  readonly kind: "fragment";
  readonly term: Term;
  readonly totalBytes: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** What an engine has: the voters' ack, and every engine's sign of life. */
export interface AckMessage {
  readonly kind: "ack";
  readonly term: Term;
  /** 0: a Cache. */
  readonly nodeId: NodeId;
  readonly nonce: Nonce;
  /** 0: not a member yet. */
  readonly engine: number;
  /** A durable contiguous prefix that is matched in `term`. (0, genesis): claims nothing. */
  readonly durable: HashedSeq;
  readonly matchedSeq: Seq;
  readonly appliedSeq: Seq;
  /** A promise: from here on the engine reads no snapshot below it. */
  readonly oldestSnapshot: Seq;
  /** The last round heard in `term`. */
  readonly round: number;
}

export interface VoteRequest {
  readonly kind: "voteRequest";
  /** A pre-vote asks what would be answered, and changes nothing. */
  readonly pre: boolean;
  /** The term to be won. */
  readonly term: Term;
  readonly nodeId: NodeId;
  readonly lastSeq: Seq;
  readonly lastTerm: Term;
}

export interface VoteReply {
  readonly kind: "voteReply";
  readonly pre: boolean;
  /** The request's. */
  readonly forTerm: Term;
  /** The voter's own. */
  readonly term: Term;
  readonly nodeId: NodeId;
  readonly granted: boolean;
}

/** Asks for frames from an entry (its bytes from `offset` on) through another. */
export interface RepairRequest {
  readonly kind: "repairRequest";
  readonly term: Term;
  readonly from: Seq;
  readonly offset: number;
  readonly through: Seq;
}

/** Not in memory any more, or too much for datagrams: ask for catch-up. */
export interface RepairRefusal {
  readonly kind: "repairRefusal";
  readonly term: Term;
  readonly from: Seq;
}

/** Asks for at most `creditBytes` of frames over the reliable channel. */
export interface CatchUpRequest {
  readonly kind: "catchUpRequest";
  readonly term: Term;
  readonly requestId: number;
  readonly from: Seq;
  readonly offset: number;
  /** The asker's hash at `from` − 1: lets a server that reads its journal prove the join without one more record. */
  readonly prevHash: ChainHash;
  readonly creditBytes: number;
}

/** `more`: the credit is used up, ask again; `done`: nothing is left; `gone`: removed from this engine's journal. */
export type CatchUpOutcome = "more" | "done" | "gone";

export interface CatchUpEnd {
  readonly kind: "catchUpEnd";
  readonly term: Term;
  readonly requestId: number;
  readonly outcome: CatchUpOutcome;
}

/** A frame on its way through the relay tree: relays pass these bytes on as they are. */
export interface RelayedMessage {
  readonly kind: "relayed";
  /** The frame's. */
  readonly term: Term;
  /** The term's sequencer, which the frame is from, whoever has sent this. */
  readonly origin: Endpoint;
  /** Counts what the sequencer sends through the tree in its term, from 1: tells what is new from what comes twice. */
  readonly number: number;
  /** An encoded frame. */
  readonly frame: Buffer;
}

/** To a relay: send me what you hear of the stream. */
export interface SubscribeMessage {
  readonly kind: "subscribe";
  readonly term: Term;
  /** From now on, in milliseconds; 0: no more. */
  readonly forMs: number;
  /** The asker hears the relay's multicast: that will do. */
  readonly multicast: boolean;
  /** By the asker's clock, in microseconds; the answer names it. */
  readonly atUs: number;
}

/** Answer to a subscription that was taken: how long it took shows how far away the relay is. */
export interface SubscribedMessage {
  readonly kind: "subscribed";
  readonly term: Term;
  readonly atUs: number;
}

/** The relay sends to as many as it can; these may have room. */
export interface SubscribeRefusal {
  readonly kind: "subscribeRefusal";
  readonly term: Term;
  readonly instead: readonly Endpoint[];
}

/** Append-only. */
const kindNumbers = {
  frame: 1,
  ack: 2,
  voteRequest: 3,
  voteReply: 4,
  repairRequest: 5,
  repairRefusal: 6,
  catchUpRequest: 7,
  catchUpEnd: 8,
  relayed: 9,
  subscribe: 10,
  subscribeRefusal: 11,
  subscribed: 12,
} as const satisfies Record<StreamMessage["kind"], number>;

const kindsByNumber = new Map<number, StreamMessage["kind"]>(
  (Object.keys(kindNumbers) as StreamMessage["kind"][]).map((kind) => [kindNumbers[kind], kind]),
);

const outcomes: readonly CatchUpOutcome[] = ["more", "done", "gone"];
const entriesTag = 0;
const fragmentTag = 1;
const hashBytes = 8;

/** Initial size of a writer for messages without entries. Reason: the largest of them. */
const smallMessageBytes = 96;

/** Upper bound of what a fragment writes before its bytes: term, total, offset. */
export const fragmentHeadBytesMax = 24;

/** What `relayed` adds to a frame, in bytes, at most: kind, term, an endpoint as text, number. */
export const relayedHeadBytesMax = 40;

/** Endpoints that a refusal names. Reason: as many as one engine sends to. */
export const insteadMax = 16;

export function encodeStreamMessage(message: StreamMessage): Buffer {
  const writer = new ByteWriter(smallMessageBytes);
  if (message.kind === "frame") {
    startFrame(writer, message, message.firstSeq, message.prevHash);
    const content = message.content;
    if (content.kind === "fragment") writeFragment(writer, message.term, content);
    else writeEntries(writer, message.term, content.entries);
    return writer.finish();
  }
  writer.u8(kindNumbers[message.kind]).varint(message.term);
  switch (message.kind) {
    case "ack":
      writer.varint(message.nodeId).varint(message.nonce).varint(message.engine);
      writeHashedSeq(writer, message.durable).varint(message.matchedSeq).varint(message.appliedSeq);
      writer.varint(message.oldestSnapshot).varint(message.round);
      break;
    case "voteRequest":
      writer.bool(message.pre).varint(message.nodeId).varint(message.lastSeq).varint(message.lastTerm);
      break;
    case "voteReply":
      writer.bool(message.pre).varint(message.forTerm).varint(message.nodeId).bool(message.granted);
      break;
    case "repairRequest":
      writer.varint(message.from).varint(message.offset).varint(message.through);
      break;
    case "repairRefusal":
      writer.varint(message.from);
      break;
    case "catchUpRequest":
      writer.varint(message.requestId).varint(message.from).varint(message.offset);
      writeHash(writer, message.prevHash).varint(message.creditBytes);
      break;
    case "catchUpEnd":
      writer.varint(message.requestId).u8(outcomes.indexOf(message.outcome));
      break;
    case "relayed":
      writer.text(message.origin).varint(message.number).raw(message.frame);
      break;
    case "subscribe":
      writer.varint(message.forMs).bool(message.multicast).varint(message.atUs);
      break;
    case "subscribed":
      writer.varint(message.atUs);
      break;
    case "subscribeRefusal":
      writer.varint(message.instead.length);
      for (const endpoint of message.instead) writer.text(endpoint);
      break;
    default:
      unreachable(message);
  }
  return writer.finish();
}

/** Writes a frame up to its content: exactly one writeFragment or writeEntriesTag with writeFrameEntry calls must follow. */
export function startFrame(writer: ByteWriter, header: FrameHeader, firstSeq: Seq, prevHash: ChainHash): void {
  writer.u8(kindNumbers.frame).varint(header.term).varint(header.sender).bool(header.committed).varint(header.round);
  writeHashedSeq(writer, header.commit);
  writeHashedSeq(writer, header.last);
  writeHash(writer.varint(firstSeq), prevHash);
}

function writeEntries(writer: ByteWriter, frameTerm: Term, entries: readonly FrameEntry[]): void {
  writeEntriesTag(writer);
  for (const entry of entries) writeFrameEntry(writer, frameTerm, entry);
}

export function writeEntriesTag(writer: ByteWriter): void {
  writer.u8(entriesTag);
}

/** An entry's term is never above its frame's, so their difference is written: one byte nearly always. */
export function writeFrameEntry(writer: ByteWriter, frameTerm: Term, entry: FrameEntry): void {
  writer.varint(frameTerm - entry.term).bytes(entry.bytes);
}

/** What writeFrameEntry writes, in bytes. */
export function frameEntryBytes(frameTerm: Term, entry: FrameEntry): number {
  const length = entry.bytes.length;
  return varintBytes(frameTerm - entry.term) + varintBytes(length) + length;
}

export function writeFragment(writer: ByteWriter, frameTerm: Term, fragment: Omit<FrameFragment, "kind">): void {
  writer.u8(fragmentTag).varint(frameTerm - fragment.term);
  writer.varint(fragment.totalBytes).varint(fragment.offset).raw(fragment.bytes);
}

function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) count++;
  return count;
}

export function writeHashedSeq(writer: ByteWriter, place: HashedSeq): ByteWriter {
  return writeHash(writer.varint(place.seq), place.hash);
}

function writeHash(writer: ByteWriter, hash: ChainHash): ByteWriter {
  return writer.raw(Buffer.from(hash, "hex"));
}

/** Throws MalformedBytesError. Entries' bytes are views of `payload`. */
export function decodeStreamMessage(payload: Uint8Array): StreamMessage {
  const reader = new ByteReader(payload);
  const number = reader.u8();
  const kind = kindsByNumber.get(number);
  if (kind === undefined) throw new MalformedBytesError(`stream message kind ${number}`);
  const message = readMessage(reader, kind);
  reader.end();
  return message;
}

function readMessage(reader: ByteReader, kind: StreamMessage["kind"]): StreamMessage {
  const term = readTerm(reader);
  switch (kind) {
    case "frame":
      return readFrame(reader, term);
    case "ack":
      return {
        kind,
        term,
        nodeId: reader.varint() as NodeId,
        nonce: reader.varint() as Nonce,
        engine: reader.varint(),
        durable: readHashedSeq(reader),
        matchedSeq: readSeq(reader),
        appliedSeq: readSeq(reader),
        oldestSnapshot: readSeq(reader),
        round: reader.varint(),
      };
    case "voteRequest":
      return {
        kind,
        term,
        pre: reader.bool(),
        nodeId: reader.varint() as NodeId,
        lastSeq: readSeq(reader),
        lastTerm: readTerm(reader),
      };
    case "voteReply":
      return { kind, term, pre: reader.bool(), forTerm: readTerm(reader), nodeId: reader.varint() as NodeId, granted: reader.bool() };
    case "repairRequest":
      return { kind, term, from: readSeq(reader), offset: reader.varint(), through: readSeq(reader) };
    case "repairRefusal":
      return { kind, term, from: readSeq(reader) };
    case "catchUpRequest":
      return {
        kind,
        term,
        requestId: reader.varint(),
        from: readSeq(reader),
        offset: reader.varint(),
        prevHash: readHash(reader),
        creditBytes: reader.varint(),
      };
    case "catchUpEnd":
      return { kind, term, requestId: reader.varint(), outcome: readOutcome(reader) };
    case "relayed":
      return { kind, term, origin: reader.text() as Endpoint, number: reader.varint(), frame: reader.raw(reader.remaining) };
    case "subscribe":
      return { kind, term, forMs: reader.varint(), multicast: reader.bool(), atUs: reader.varint() };
    case "subscribed":
      return { kind, term, atUs: reader.varint() };
    case "subscribeRefusal":
      return { kind, term, instead: readInstead(reader) };
    default:
      return unreachable(kind);
  }
}

function readFrame(reader: ByteReader, term: Term): FrameMessage {
  const sender = reader.varint() as NodeId;
  const committed = reader.bool();
  const round = reader.varint();
  const commit = readHashedSeq(reader);
  const last = readHashedSeq(reader);
  const firstSeq = readSeq(reader);
  const prevHash = readHash(reader);
  if (firstSeq === 0) throw new MalformedBytesError("frame begins at seq 0");
  if (commit.seq > last.seq) throw new MalformedBytesError(`commit seq ${commit.seq} beyond last seq ${last.seq}`);
  const tag = reader.u8();
  if (tag > fragmentTag) throw new MalformedBytesError(`frame content ${tag}`);
  const content = tag === fragmentTag ? readFragment(reader, term) : readEntries(reader, term);
  return { kind: "frame", term, sender, committed, round, commit, last, firstSeq, prevHash, content };
}

function readEntries(reader: ByteReader, frameTerm: Term): FrameEntries {
  const entries: FrameEntry[] = [];
  while (reader.remaining > 0) entries.push({ term: readEntryTerm(reader, frameTerm), bytes: reader.bytes() });
  return { kind: "entries", entries };
}

function readFragment(reader: ByteReader, frameTerm: Term): FrameFragment {
  const term = readEntryTerm(reader, frameTerm);
  const totalBytes = reader.varint();
  const offset = reader.varint();
  const bytes = reader.raw(reader.remaining);
  if (totalBytes > entryBytesMax) throw new MalformedBytesError(`an entry of ${totalBytes} bytes`);
  if (bytes.length === 0 || offset + bytes.length > totalBytes) {
    throw new MalformedBytesError(`fragment of ${bytes.length} bytes at ${offset} of ${totalBytes}`);
  }
  return { kind: "fragment", term, totalBytes, offset, bytes };
}

function readEntryTerm(reader: ByteReader, frameTerm: Term): Term {
  const term = frameTerm - reader.varint();
  if (term < 1) throw new MalformedBytesError(`entry of term ${term}`);
  return term as Term;
}

/** The largest term that is taken from the wire. Reason: whoever hears it adds to it; a billion terms a second would take three days. */
const wireTermMax = 2 ** 48;

function readTerm(reader: ByteReader): Term {
  const term = reader.varint();
  if (term > wireTermMax) throw new MalformedBytesError(`term ${term}`);
  return term as Term;
}

/** The largest seq that is taken from the wire. Reason: seq + 1 must still be exact. */
const wireSeqMax = Number.MAX_SAFE_INTEGER - 1;

function readSeq(reader: ByteReader): Seq {
  const seq = reader.varint();
  if (seq > wireSeqMax) throw new MalformedBytesError(`seq ${seq}`);
  return seq as Seq;
}

export function readHashedSeq(reader: ByteReader): HashedSeq {
  return { seq: readSeq(reader), hash: readHash(reader) };
}

function readHash(reader: ByteReader): ChainHash {
  return reader.raw(hashBytes).toString("hex") as ChainHash;
}

function readInstead(reader: ByteReader): Endpoint[] {
  const instead = reader.list((one) => one.text() as Endpoint);
  if (instead.length > insteadMax) throw new MalformedBytesError(`${instead.length} endpoints to ask instead`);
  return instead;
}

function readOutcome(reader: ByteReader): CatchUpOutcome {
  const index = reader.u8();
  const outcome = outcomes[index];
  if (outcome === undefined) throw new MalformedBytesError(`catch-up outcome ${index}`);
  return outcome;
}
