/** A member of the database, as its BOOT made it known, and its record in the root catalog. */
import { ByteReader, ByteWriter } from "../base/bytes.js";
import type { Endpoint, EngineId, EngineKind, Life, NodeId, Nonce, ProposalSeq, Seq } from "../base/ids.js";

export interface Member {
  readonly id: EngineId;
  /** What the identities that it makes begin with. */
  readonly life: Life;
  readonly kind: EngineKind;
  readonly nodeId: NodeId;
  readonly nonce: Nonce;
  readonly endpoint: Endpoint;
  readonly http: string;
  readonly pid: number;
  /** Its last decided proposal; the next to be ordered is one more. */
  readonly decided: ProposalSeq;
  /** It reads the past from here on: the mark stays at or below it. 0: it does not. */
  readonly pin: Seq;
}

export function encodeMember(member: Member): Buffer {
  const writer = new ByteWriter(96)
    .varint(member.id)
    .varint(member.life)
    .bool(member.kind === "archive")
    .varint(member.nodeId)
    .varint(member.nonce);
  return writer.text(member.endpoint).text(member.http).varint(member.pid).varint(member.decided).varint(member.pin).finish();
}

export function decodeMember(bytes: Uint8Array): Member {
  const reader = new ByteReader(bytes);
  const member: Member = {
    id: reader.varint() as EngineId,
    life: reader.varint() as Life,
    kind: reader.bool() ? "archive" : "cache",
    nodeId: reader.varint() as NodeId,
    nonce: reader.varint() as Nonce,
    endpoint: reader.text() as Endpoint,
    http: reader.text(),
    pid: reader.varint(),
    decided: reader.varint() as ProposalSeq,
    pin: reader.varint() as Seq,
  };
  reader.end();
  return member;
}
