/**
 * The protocol state that every engine derives from the stream, entry by entry, at once and alike: members, voters, schema, record
 * catalogs with ownership, sequences, and which proposals are decided (design.md §2 "two speeds", §5).
 *
 * A Cache that joined later lacks the parts of record catalogs that it has not needed yet (AtomMap); entries say enough for what it does know. The
 * sequencer keeps a second one that also counts its log's tail: what proposals' fences are checked against (§6). Who comes next as an originator
 * is in `ownership.ts`.
 *
 * | entry | effect on ownership |
 * |---|---|
 * | boot | the node's former engine departs (as leave), and one that had the endpoint; atoms that nobody could originate go to a live Archive |
 * | leave | the engine's places as holder end; what it originated goes to the next ready holder, else to the first live Archive by rank; ids that it gives back are free |
 * | demote | the atoms go to the engine that it names, and their originator behind all holders |
 * | hold, ready, drop | the holder's place begins, counts, ends |
 * | handoff | the atoms go to the holder that it names |
 * | merge | the merged atom's ownership version is the merge's seq; originator and holders are those that all of them had |
 * | split | both pieces' ownership version is the split's seq; a taker is ready and first of its piece |
 * | pin | none; the mark does not pass it |
 * | mark | none; the low-water mark rises, and it is known what time it is (stamps.ts); what the schema was before it is forgotten (former-objects.ts) |
 * | ddl | a new space's one atom belongs to the proposer; a dropped space's atoms are gone |
 */
import { type Atom, atomBytesMax, decodeAtom, encodeAtom, type Holder } from "../atoms/atom.js";
import { ByteReader, ByteWriter, emptyBytes } from "../base/bytes.js";
import { unreachable } from "../base/errors.js";
import { historyMsOf, historyObject } from "../base/history.js";
import {
  type AtomId,
  type EngineId,
  type Life,
  type NodeId,
  noEngine,
  noSeq,
  type ProposalSeq,
  type Seq,
  type SpaceId,
  schemaAtom,
  schemaSpace,
} from "../base/ids.js";
import { binaryKey, KeyRanges, wholeRange } from "../base/key-ranges.js";
import { rowWeight } from "../base/large-values.js";
import { integerKey, integerOfKey } from "../base/sort-key.js";
import {
  type AtomSize,
  type BootEntry,
  type DdlPart,
  type Entry,
  type Fence,
  type LeaveEntry,
  type MarkEntry,
  type MergeBody,
  type Part,
  type ProposalEntry,
  type RefusalReason,
  type RowsPart,
  type SchemaVersion,
  type SplitBody,
  sumOfSizes,
} from "../messages/wire/entry.js";
import { AtomMap, decodeGaps, encodeGaps } from "./atom-map.js";
import { formerName } from "./former-objects.js";
import { decodeMember, encodeMember, type Member } from "./member.js";
import { dropObjection, handoffObjection, mergeObjection, splitObjection } from "./objections.js";
import { demoted, handedOver, inherited, merged, taken } from "./ownership.js";
import { SchemaCatalog, type TableRecord } from "./schema-catalog.js";
import { Stamps, spacingMsOf } from "./stamps.js";

export type CatalogEvent =
  | { readonly kind: "joined"; readonly member: Member }
  | { readonly kind: "departed"; readonly member: Member }
  /** `seq` of the entry that decided it. */
  | {
      readonly kind: "decided";
      readonly seq: Seq;
      readonly engine: EngineId;
      readonly proposalSeq: ProposalSeq;
      readonly transactions: readonly number[];
      readonly outcome: "applied" | RefusalReason;
    }
  /** `bytes`: of its atoms that are known here. */
  | { readonly kind: "spaceGone"; readonly space: SpaceId; readonly bytes: number }
  | { readonly kind: "split"; readonly seq: Seq; readonly body: SplitBody }
  /** Another originator, of atoms that go on as they were (those that are known here). */
  | { readonly kind: "moved"; readonly by: "demote" | "handoff"; readonly from: EngineId; readonly to: EngineId; readonly atoms: readonly AtomId[] }
  /** These are one now. */
  | { readonly kind: "merged"; readonly atoms: readonly AtomId[] }
  | { readonly kind: "voters"; readonly voters: readonly NodeId[] };

const idMax = 2n ** 63n - 1n;

export class Catalog {
  readonly atoms: AtomMap = new AtomMap();
  readonly schema: SchemaCatalog = new SchemaCatalog();
  readonly #members: Map<EngineId, Member> = new Map();
  #voters: readonly NodeId[] = [];
  /** BOOTs so far. */
  #lives = 0;
  #mark = noSeq;
  /** None below the mark. */
  readonly stamps: Stamps = new Stamps();
  readonly #sequenceKeys = new Map<SpaceId, { readonly next: bigint; readonly key: string }>();
  /** Atoms of rows above atomBytesMax: their originators split them. */
  readonly oversize: Set<AtomId> = new Set();
  /** Names of records that changed since `takeDirty`. */
  readonly #dirty = new Set<string>();

  constructor(from?: Catalog) {
    if (from !== undefined) {
      this.atoms = from.atoms.copy();
      this.schema = from.schema.copy();
      this.stamps = from.stamps.copy();
      this.oversize = new Set(from.oversize);
      this.#members = new Map(from.#members);
      this.#voters = from.#voters;
      this.#lives = from.#lives;
      this.#mark = from.#mark;
      return;
    }
    this.#addAtom({ id: schemaAtom, space: schemaSpace, indexOf: 0 as SpaceId, holders: [], originator: noEngine, ownershipVersion: noSeq });
  }

  /** As it is now, to go its own way. It costs a reference for each atom, and no more: an engine makes one while all others wait for it to lead. */
  copy(): Catalog {
    return new Catalog(this);
  }

  get members(): ReadonlyMap<EngineId, Member> {
    return this.#members;
  }

  get voters(): readonly NodeId[] {
    return this.#voters;
  }

  /** The low-water mark: no member reads a snapshot below it. */
  get mark(): Seq {
    return this.#mark;
  }

  memberOfNode(node: NodeId): Member | undefined {
    for (const member of this.#members.values()) if (member.nodeId === node && node !== 0) return member;
    return undefined;
  }

  apply(seq: Seq, entry: Entry): readonly CatalogEvent[] {
    switch (entry.kind) {
      case "noop":
        return [];
      case "boot":
        return this.#applyBoot(seq, entry);
      case "leave":
        return this.#leave(seq, entry);
      case "demote":
        return this.#move("demote", entry.from, entry.to, entry.atoms, (atom) => demoted(atom, this.#members, entry.from, entry.to, seq));
      case "voters":
        this.#voters = entry.voters;
        this.#dirty.add("v");
        return [{ kind: "voters", voters: entry.voters }];
      case "mark":
        this.#applyMark(seq, entry);
        return [];
      case "refused":
        return this.#decide(seq, entry.engine, entry.proposalSeq, [], entry.reason);
      case "proposal":
        return [...this.#applyBody(seq, entry), ...this.#decide(seq, entry.engine, entry.proposalSeq, entry.transactions, "applied")];
      default:
        return unreachable(entry);
    }
  }

  #applyMark(seq: Seq, { mark, timeMs }: MarkEntry): void {
    if (mark > this.#mark) this.#mark = mark;
    const gone = [...this.stamps.dropBelow(this.#mark), ...this.stamps.add(seq, timeMs, spacingMsOf(this.historyMs))];
    const former = this.schema.former.dropBelow(this.#mark);
    for (const name of ["m", `h:${seq}`, ...gone.map((one) => `h:${one}`), ...former.map(formerName)]) this.#dirty.add(name);
  }

  /** For so long what rows were is kept, whoever reads it. */
  get historyMs(): number {
    return historyMsOf(this.schema.setting(historyObject));
  }

  #decide(seq: Seq, engine: EngineId, proposalSeq: ProposalSeq, transactions: readonly number[], outcome: "applied" | RefusalReason): CatalogEvent[] {
    const member = this.#members.get(engine);
    if (member === undefined) return [];
    this.#setMember({ ...member, decided: proposalSeq });
    return [{ kind: "decided", seq, engine, proposalSeq, transactions, outcome }];
  }

  #setMember(member: Member): void {
    this.#members.set(member.id, member);
    this.#dirty.add(`e:${member.id}`);
  }

  #applyBoot(seq: Seq, entry: BootEntry): CatalogEvent[] {
    // Nor can a former engine be alive where this one is reached: a Cache that comes back on its port would be heard in its former self's place.
    const isFormer = (member: Member): boolean => member.endpoint === entry.endpoint || (entry.nodeId !== 0 && member.nodeId === entry.nodeId);
    const formers = [...this.#members.values()].filter(isFormer);
    const { engineKind, nodeId, nonce, endpoint, http, pid } = entry;
    const life = ++this.#lives as Life;
    this.#dirty.add("v");
    const member: Member = {
      id: seq as number as EngineId,
      life,
      kind: engineKind,
      nodeId,
      nonce,
      endpoint,
      http,
      pid,
      decided: 0 as ProposalSeq,
      pin: noSeq,
    };
    this.#setMember(member);
    const events = formers.flatMap((former) => this.#depart(seq, former.id));
    if (engineKind === "archive")
      for (const atom of this.atoms.all()) if (atom.originator === noEngine) this.#setAtom(inherited(atom, this.#members, seq));
    return [...events, { kind: "joined", member }];
  }

  #leave(seq: Seq, { engine, ids }: LeaveEntry): CatalogEvent[] {
    for (const { space, first, next } of this.#members.has(engine) ? ids : []) {
      this.schema.giveBack(space, first, next);
      this.#dirty.add(`t:${space}`);
    }
    return this.#depart(seq, engine);
  }

  #depart(seq: Seq, engine: EngineId): CatalogEvent[] {
    const member = this.#members.get(engine);
    if (member === undefined) return [];
    this.#members.delete(engine);
    this.#dirty.add(`e:${engine}`);
    for (const atom of this.atoms.all()) {
      const held = atom.holders.some((holder) => holder.engine === engine);
      if (!held && atom.originator !== engine) continue;
      const left = held ? { ...atom, holders: atom.holders.filter((holder) => holder.engine !== engine) } : atom;
      this.#setAtom(atom.originator === engine ? inherited(left, this.#members, seq) : left);
    }
    return [{ kind: "departed", member }];
  }

  /** Those of the atoms that are known here, and that `next` makes another's. */
  #move(by: "demote" | "handoff", from: EngineId, to: EngineId, ids: readonly AtomId[], next: (atom: Atom) => Atom): CatalogEvent[] {
    const atoms = ids.filter((id) => {
      const atom = this.atoms.get(id);
      const moved = atom === undefined ? atom : next(atom);
      if (moved === undefined || moved === atom) return false;
      this.#setAtom(moved);
      return true;
    });
    return atoms.length === 0 ? [] : [{ kind: "moved", by, from, to, atoms }];
  }

  #setAtom(atom: Atom): void {
    this.atoms.replace(atom);
    this.#weigh(atom);
    this.#dirty.add(`a:${atom.id}`);
  }

  #weigh(atom: Atom): void {
    if (atom.bytes > atomBytesMax && atom.rows > 1) this.oversize.add(atom.id);
    else this.oversize.delete(atom.id);
  }

  #addAtom(atom: Omit<Atom, "low" | "lowKey" | "bytes" | "rows"> & Partial<Pick<Atom, "low" | "bytes" | "rows">>): void {
    const low = atom.low ?? emptyBytes;
    const made: Atom = { bytes: 0, rows: 0, ...atom, low, lowKey: binaryKey(low) };
    this.atoms.add(made);
    this.#weigh(made);
    this.#dirty.add(`a:${atom.id}`);
  }

  #applyBody(seq: Seq, entry: ProposalEntry): CatalogEvent[] {
    const { engine, body } = entry;
    switch (body.kind) {
      case "transaction": {
        const events: CatalogEvent[] = [];
        for (const part of body.parts) {
          if (part.kind === "rows") this.#applyRows(part);
          else events.push(...this.#applyDdl(seq, engine, part));
        }
        return events;
      }
      case "hold":
        for (const id of body.atoms) this.#setHolder(id, engine, "joining");
        return [];
      case "ready":
        for (const id of body.atoms) this.#setHolder(id, engine, "ready");
        return [];
      case "drop":
        for (const id of body.atoms) this.#setHolder(id, engine, null);
        return [];
      case "handoff":
        return this.#move("handoff", engine, body.to, body.atoms, (atom) => handedOver(atom, this.#members, body.to, seq));
      case "split":
        return this.#applySplit(seq, body);
      case "merge":
        return this.#applyMerge(body, seq);
      case "pin": {
        const member = this.#members.get(engine);
        if (member !== undefined) this.#setMember({ ...member, pin: body.seq });
        return [];
      }
      default:
        return unreachable(body);
    }
  }

  /** READY counts only after HOLD; an atom that is gone meanwhile is passed over, on every engine alike. */
  #setHolder(id: AtomId, engine: EngineId, state: Holder["state"] | null): void {
    const atom = this.atoms.get(id);
    if (atom === undefined) return;
    const place = atom.holders.findIndex((holder) => holder.engine === engine);
    if (state === "joining" && place >= 0) return;
    if (state !== "joining" && place < 0) return;
    if (state === null && atom.originator === engine) return;
    const holders = [...atom.holders];
    if (state === null) holders.splice(place, 1);
    else if (place < 0) holders.push({ engine, state });
    else holders[place] = { engine, state };
    this.#setAtom({ ...atom, holders });
  }

  #applyRows(part: RowsPart): void {
    let atom: Atom | undefined;
    let high: string | null = null;
    let bytes = 0;
    let rows = 0;
    const store = (): void => {
      // Estimates; below nothing they are not stored, and a copy would go on from another figure.
      if (atom !== undefined) this.#setAtom({ ...atom, bytes: Math.max(0, atom.bytes + bytes), rows: Math.max(0, atom.rows + rows) });
      [bytes, rows] = [0, 0];
    };
    let largest = "";
    const hasFreeIds = (this.schema.tables.get(part.table)?.freeIds.length ?? 0) > 0;
    for (const change of part.rows) {
      const key = binaryKey(change.key);
      if (atom === undefined || key < atom.lowKey || (high !== null && key >= high)) {
        store();
        atom = this.atoms.at(part.table, key);
        high = atom === undefined ? null : this.atoms.highKeyOf(atom);
      }
      if (change.row !== null) bytes += change.key.length + rowWeight(change.row);
      if (change.oldBytes > 0) bytes -= change.key.length + change.oldBytes;
      rows += (change.row === null ? 0 : 1) - (change.oldBytes > 0 ? 1 : 0);
      if (change.row !== null && key > largest) largest = key;
      if (hasFreeIds && change.row !== null && this.schema.useKey(part.table, key)) this.#dirty.add(`t:${part.table}`);
    }
    store();
    this.#moveSequence(part.table, largest);
  }

  /** An explicit id in space that nobody was given moves the sequence. */
  #moveSequence(space: SpaceId, key: string): void {
    const table = this.schema.tables.get(space);
    if (table === undefined || key < this.#sequenceKey(table)) return;
    const id = integerOfKey(Buffer.from(key, "latin1"));
    if (id === null) return;
    this.schema.moveSequence(space, id >= idMax ? idMax : id + 1n);
    this.#dirty.add(`t:${space}`);
  }

  /** The sort key of the next id that nobody was given: asked for with every entry, and moved by few. */
  #sequenceKey(table: TableRecord): string {
    const known = this.#sequenceKeys.get(table.space);
    if (known?.next === table.sequenceNext) return known.key;
    const key = binaryKey(integerKey(table.sequenceNext));
    this.#sequenceKeys.set(table.space, { next: table.sequenceNext, key });
    return key;
  }

  #applyDdl(seq: Seq, engine: EngineId, part: DdlPart): CatalogEvent[] {
    const gone = this.schema.apply(seq, part, (name) => this.#dirty.add(name));
    for (const table of part.touchedTables) this.#dirty.add(`t:${table}`);
    for (const object of part.upserts) if (object.type === "table") this.#dirty.add(`t:${object.space}`);
    for (const { space, atom, indexOf } of part.newAtoms) {
      const live = this.#members.has(engine);
      const holders: Holder[] = live ? [{ engine, state: "ready" }] : [];
      this.#addAtom({ id: atom, space, indexOf, holders, originator: live ? engine : noEngine, ownershipVersion: seq });
    }
    return gone.map((space) => {
      let bytes = 0;
      for (const atom of this.atoms.removeSpace(space)) {
        bytes += atom.bytes;
        this.oversize.delete(atom.id);
        this.#dirty.add(`a:${atom.id}`);
      }
      this.#dirty.add(`t:${space}`);
      this.#sequenceKeys.delete(space);
      return { kind: "spaceGone", space, bytes };
    });
  }

  #applySplit(seq: Seq, body: SplitBody): CatalogEvent[] {
    if (body.sequenceNext > 0n) {
      this.schema.moveSequence(body.space, body.sequenceNext);
      this.schema.takeIds(body.space, body.sequenceFirst, body.sequenceNext);
      this.#dirty.add(`t:${body.space}`);
    }
    const atom = this.atoms.get(body.atom);
    if (atom === undefined) {
      this.atoms.countUnknown(body.space, body.pieces.length);
      return [];
    }
    const [first, ...sizes] = sizesOfPieces(atom, body);
    if (body.pieces.length === 0 && body.firstTaker === 0) {
      this.#setAtom({ ...atom, ...first });
      return [];
    }
    const kept = { ...atom, ...first, ownershipVersion: seq };
    this.#setAtom(taken(kept, this.#members, body.firstTaker));
    body.pieces.forEach((piece, index) => {
      const low = Buffer.from(piece.low);
      const made = { ...kept, ...sizes[index], id: piece.atom, low, lowKey: binaryKey(low) };
      this.#addAtom(taken(made, this.#members, piece.taker));
    });
    return [{ kind: "split", seq, body }];
  }

  #applyMerge({ space, atoms: ids, into }: MergeBody, seq: Seq): CatalogEvent[] {
    const known = ids.flatMap((id) => this.atoms.get(id) ?? []);
    const [first, ...rest] = known;
    if (first === undefined || known.length < ids.length) {
      // Whose end or beginning is not known here, is not known: this engine holds none of them, as their holders are the same.
      for (const atom of known) this.forget(atom);
      this.atoms.countUnknown(space, 1 - ids.length);
      return known.length === 0 ? [] : [{ kind: "merged", atoms: known.map(({ id }) => id) }];
    }
    const atom = merged(first, rest, into, seq);
    this.atoms.merge([first, ...rest], atom);
    for (const id of ids) {
      this.oversize.delete(id);
      this.#dirty.add(`a:${id}`);
    }
    this.#weigh(atom);
    this.#dirty.add(`a:${into}`);
    return [{ kind: "merged", atoms: ids }];
  }

  /** What stands against ordering the proposal now: the sequencer's check (design.md §6 "Fence"). null: nothing. */
  objection(proposal: ProposalEntry): RefusalReason | null {
    if (!proposal.fences.every((fence) => this.fenceHolds(fence))) return "fence";
    if (!proposal.schemaVersions.every((one) => this.schemaVersionHolds(one))) return "schema";
    const { body } = proposal;
    switch (body.kind) {
      case "hold":
      case "ready":
        return body.atoms.every((id) => this.atoms.get(id) !== undefined) ? null : "stale";
      case "drop":
        return dropObjection(this, proposal, body);
      case "handoff":
        return handoffObjection(this, proposal, body);
      case "split":
        return splitObjection(this, proposal, body);
      case "pin":
        return body.seq === noSeq || body.seq >= this.#mark ? null : "stale";
      case "merge":
        return mergeObjection(this, proposal, body);
      case "transaction":
        return this.#areApplicable(body.parts) ? null : "malformed";
      default:
        return unreachable(body);
    }
  }

  /** What would not apply must never be ordered: it would end every engine, each at the same seq. */
  #areApplicable(parts: readonly Part[]): boolean {
    const tables = new Set<SpaceId>();
    const spaces = new Set<SpaceId>();
    const atoms = new Set<AtomId>();
    for (const part of parts) {
      if (part.kind === "rows") {
        if (!tables.has(part.table) && !this.schema.tables.has(part.table)) return false;
        continue;
      }
      for (const object of part.upserts) if (object.type === "table") tables.add(object.space);
      for (const { atom, space } of part.newAtoms) {
        if (atoms.has(atom) || spaces.has(space) || this.atoms.get(atom) !== undefined || this.atoms.countOf(space) > 0) return false;
        atoms.add(atom);
        spaces.add(space);
      }
    }
    return true;
  }

  fenceHolds(fence: Fence): boolean {
    const atom = this.atoms.get(fence.atom);
    return atom !== undefined && atom.originator === fence.originator && atom.ownershipVersion === fence.ownershipVersion;
  }

  schemaVersionHolds(one: SchemaVersion): boolean {
    return this.schema.tables.get(one.table)?.version === one.version;
  }

  /** Records changed since the last call: name → bytes, null where it is gone. */
  takeDirty(): Map<string, Uint8Array | null> {
    const records = new Map<string, Uint8Array | null>();
    for (const name of this.#dirty) records.set(name, this.#encode(name));
    this.#dirty.clear();
    return records;
  }

  /** Where nobody stores them: the names would gather for ever. */
  forgetDirty(): void {
    this.#dirty.clear();
  }

  /** Every record that is here. */
  dump(): Map<string, Uint8Array> {
    const names = ["v", "m"];
    for (const { seq } of this.stamps.all) names.push(`h:${seq}`);
    for (const id of this.#members.keys()) names.push(`e:${id}`);
    for (const atom of this.atoms.all()) names.push(`a:${atom.id}`);
    for (const space of this.atoms.lacking()) names.push(`c:${space}`);
    for (const [name] of this.schema.records()) names.push(`s:${name}`);
    for (const former of this.schema.former.all) names.push(formerName(former));
    for (const space of this.schema.tables.keys()) names.push(`t:${space}`);
    return new Map(names.map((name) => [name, this.#encode(name) ?? emptyBytes]));
  }

  static load(records: ReadonlyMap<string, Uint8Array>): Catalog {
    const catalog = new Catalog();
    // A store that has nothing of the schema catalog yet has it as it is in the beginning.
    if (records.has(`a:${schemaAtom}`)) catalog.atoms.removeSpace(schemaSpace);
    for (const [name, bytes] of records) {
      const id = name.slice(2);
      if (name === "v") catalog.#loadVoters(bytes);
      else if (name === "m") catalog.#loadMark(bytes);
      else if (name.startsWith("h:")) catalog.stamps.load(Number(id) as Seq, new ByteReader(bytes).varint());
      else if (name.startsWith("e:")) catalog.#loadMember(bytes);
      else if (name.startsWith("a:")) catalog.loadAtom(decodeAtom(bytes));
      else if (name.startsWith("c:")) catalog.#loadGaps(Number(id) as SpaceId, bytes);
      else if (name.startsWith("s:")) catalog.schema.loadRecord(id, bytes);
      else if (name.startsWith("f:")) catalog.schema.former.load(id, bytes);
      else if (name.startsWith("t:")) catalog.schema.loadTable(bytes);
    }
    catalog.#dirty.clear();
    return catalog;
  }

  #encode(name: string): Buffer | null {
    const id = name.slice(2);
    if (name === "v") return this.encodeVoters();
    if (name === "m") return this.encodeMark();
    if (name.startsWith("h:")) {
      const timeMs = this.stamps.timeOf(Number(id) as Seq);
      return timeMs === undefined ? null : encodeStamp(timeMs);
    }
    if (name.startsWith("e:")) {
      const member = this.#members.get(Number(id) as EngineId);
      return member === undefined ? null : encodeMember(member);
    }
    if (name.startsWith("c:")) return this.#encodeGaps(Number(id) as SpaceId);
    if (name.startsWith("s:")) return this.schema.encodeRecord(id);
    if (name.startsWith("f:")) return this.schema.former.encode(id);
    if (name.startsWith("t:")) return this.schema.encodeTable(Number(id) as SpaceId);
    const atom = this.atoms.get(Number(id) as AtomId);
    return atom === undefined ? null : encodeAtom(atom);
  }

  encodeVoters(): Buffer {
    const writer = new ByteWriter().varint(this.#lives).varint(this.#voters.length);
    for (const voter of this.#voters) writer.varint(voter);
    return writer.finish();
  }

  encodeMark(): Buffer {
    return new ByteWriter(16).varint(this.#mark).varint(this.schema.former.floor).finish();
  }

  #loadMark(bytes: Uint8Array): void {
    const reader = new ByteReader(bytes);
    this.#mark = reader.varint() as Seq;
    this.schema.former.loadFloor(reader.varint() as Seq);
    reader.end();
  }

  loadAtom(atom: Atom): void {
    this.atoms.add(atom);
    this.#weigh(atom);
  }

  /** What another catalog, of the same seq, knows of a space is known here from now on. */
  learn(space: SpaceId, other: Catalog): void {
    const gaps = new KeyRanges([wholeRange]);
    for (const gap of other.atoms.gapsWithin(space, null)) gaps.remove(gap);
    for (const known of gaps.pieces) {
      for (const atom of this.atoms.learn(space, known, other.atoms.overlapping(space, known.low, known.high))) this.#weigh(atom);
    }
  }

  /** Part of a space's record catalog is not known here from now on. Only of an atom that this engine neither holds nor originates. */
  forget(atom: Atom): void {
    this.atoms.forget(atom);
    this.oversize.delete(atom.id);
    this.atoms.countUnknown(atom.space, 1);
  }

  #encodeGaps(space: SpaceId): Buffer {
    return encodeGaps(this.atoms.countOf(space) - this.atoms.knownOf(space), this.atoms.gapsWithin(space, null));
  }

  #loadGaps(space: SpaceId, bytes: Uint8Array): void {
    const { count, gaps } = decodeGaps(bytes);
    this.atoms.lack(space, count, gaps);
  }

  #loadVoters(bytes: Uint8Array): void {
    const reader = new ByteReader(bytes);
    this.#lives = reader.varint();
    this.#voters = reader.list((r) => r.varint() as NodeId);
    reader.end();
  }

  #loadMember(bytes: Uint8Array): void {
    const member = decodeMember(bytes);
    this.#members.set(member.id, member);
  }
}

export function encodeStamp(timeMs: number): Buffer {
  return new ByteWriter(8).varint(timeMs).finish();
}

/** Of the first piece, and of all others in order. What has come since they were measured is the last one's: rows are mostly added at the end. */
function sizesOfPieces(atom: AtomSize, { pieces, measured }: SplitBody): AtomSize[] {
  const nothing = sumOfSizes([]);
  const sizes = [measured?.first ?? nothing, ...pieces].map(({ bytes, rows }): AtomSize => ({ bytes, rows }));
  const counted = measured?.counted ?? sumOfSizes(pieces);
  const place = measured === null ? 0 : pieces.length;
  const { bytes, rows } = sizes[place] ?? nothing;
  sizes[place] = { bytes: Math.max(0, bytes + atom.bytes - counted.bytes), rows: Math.max(0, rows + atom.rows - counted.rows) };
  return sizes;
}
