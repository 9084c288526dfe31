/**
 * Stream nodes in virtual time under seeded faults: datagrams lost, doubled, late and out of order; partitions; pauses; crashes that lose
 * what was not fsynced; torn writes; changes of voters. After every step the promises of stream-node.ts are checked.
 */
import { strict as assert } from "node:assert";
import { genesisHash } from "../../src/base/chain-hash.js";
import type { Endpoint, NodeId, Nonce, Seq, Term } from "../../src/base/ids.js";
import type { LogEntry, LogPosition } from "../../src/base/log-entry.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import { votersOf } from "../../src/messages/stream/stream-log.js";
import { StreamNode } from "../../src/messages/stream/stream-node.js";
import type { StreamEffect, StreamInput, StreamLimits } from "../../src/messages/stream/stream-node-types.js";
import { encodeEntry } from "../../src/messages/wire/entry.js";
import { decodeStreamMessage } from "../../src/messages/wire/stream-messages.js";

export const genesis: LogPosition = { seq: 0 as Seq, term: 0 as Term, hash: genesisHash };

export const simulationLimits: StreamLimits = {
  heartbeatMs: 100,
  electionTimeoutMsMin: 1000,
  electionTimeoutMsMax: 2000,
  repairDelayMsMin: 1,
  repairDelayMsMax: 10,
  datagramBytesMax: 512,
  datagramsPerTurnMax: 8,
  windowBytesMax: 16_384,
  keptBytesMax: 32_768,
  catchUpBytes: 12_288,
};

export interface SimulationOptions {
  readonly seed: number;
  readonly voters: number;
  readonly caches: number;
  /** Archives that are not voters at first; voter changes take them in. */
  readonly spares: number;
  readonly faults: boolean;
  /** Many short terms: elections ten times as quick, faults ten times as often, most of them at the sequencer. */
  readonly hasty: boolean;
  /** No multicast: everything goes through the relay tree. */
  readonly unicast: boolean;
  /** Each engine computes its tree of random engines in a random order, and of others again and again. */
  readonly wrongTrees: boolean;
  /** Multicast reaches those of one's island only: members in turn belong to so many. Default: one. */
  readonly islands?: number;
}

const hastyLimits: StreamLimits = {
  ...simulationLimits,
  heartbeatMs: 25,
  electionTimeoutMsMin: 120,
  electionTimeoutMsMax: 240,
  repairDelayMsMax: 4,
};

/** An Archive's disk: what was fsynced stays, what was not may stay as a prefix of what was asked. */
interface Disk {
  /** From seq 1 on. */
  entries: LogEntry[];
  commitSeq: Seq;
  term: Term;
  votedFor: NodeId;
}

type DiskWrite =
  | { readonly kind: "append"; readonly truncateFrom: Seq | null; readonly entries: readonly LogEntry[]; readonly commitSeq: Seq }
  | { readonly kind: "vote"; readonly term: Term; readonly votedFor: NodeId };

export interface Member {
  readonly name: Endpoint;
  readonly nodeId: NodeId;
  readonly isArchive: boolean;
  readonly disk: Disk;
  /** Null: stopped. */
  node: StreamNode | null;
  /** Raised with every start: what belongs to a former life is dropped. */
  life: number;
  /** Journal and vote file, each in order; the first is being written. */
  journal: DiskWrite[];
  votes: DiskWrite[];
  pausedUntilMs: number;
  waiting: (() => void)[];
  turnPending: boolean;
  deliveredSeq: Seq;
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

export class StreamSimulation {
  readonly options: SimulationOptions;
  readonly random: Random;
  readonly members: Member[] = [];
  readonly limits: StreamLimits;
  nowMs = 0;
  #order = 0;
  #events: Event[] = [];
  #faulty: boolean;
  /** Group of each member while partitioned; members of different groups do not hear each other. */
  #groups = new Map<Endpoint, number>();
  /** Members that hear nothing, and are heard. */
  readonly #deaf = new Set<Endpoint>();
  /** Whom each member's multicast reaches; null: nobody. */
  readonly #islands = new Map<Endpoint, number | null>();
  #isMulticastDead = false;
  /** Of each datagram, besides faults. */
  #lossPerMille = 0;
  readonly #sequencers = new Map<Term, Endpoint>();
  /** What was given out as committed, anywhere, ever. */
  readonly committed: LogEntry[] = [];
  /** The term in which each was. */
  readonly #committedIn: Term[] = [];
  readonly #founders: readonly NodeId[];
  #payloads = 0;
  /** Who waits for what is ordered; null: all. */
  #writers: readonly Endpoint[] | null = null;

  constructor(options: SimulationOptions) {
    this.options = options;
    this.random = seededRandom(options.seed);
    this.limits = options.hasty ? hastyLimits : simulationLimits;
    this.#faulty = options.faults;
    const archives = options.voters + options.spares;
    this.#founders = Array.from({ length: options.voters }, (_, index) => (index + 1) as NodeId);
    for (let index = 0; index < archives + options.caches; index++) {
      const isArchive = index < archives;
      this.members.push({
        name: `${isArchive ? "a" : "c"}${index + 1}` as Endpoint,
        nodeId: (isArchive ? index + 1 : 0) as NodeId,
        isArchive,
        disk: { entries: [], commitSeq: 0 as Seq, term: 0 as Term, votedFor: 0 as NodeId },
        node: null,
        life: 0,
        journal: [],
        votes: [],
        pausedUntilMs: 0,
        waiting: [],
        turnPending: false,
        deliveredSeq: 0 as Seq,
      });
    }
    for (const [index, member] of this.members.entries()) this.setIsland(member, index % (options.islands ?? 1));
    for (const member of this.members) this.start(member);
    if (!options.unicast) this.#announce();
  }

  /** Once a second engines tell by multicast that they are there. */
  #announce(): void {
    for (const from of this.members) {
      if (from.node === null || this.nowMs < from.pausedUntilMs) continue;
      for (const to of this.members) if (this.#hearsMulticast(from, to)) this.input(to, { kind: "near", nowMs: this.nowMs, endpoint: from.name });
    }
    this.at(1000, () => this.#announce());
  }

  setIsland(member: Member, island: number | null): void {
    this.#islands.set(member.name, island);
  }

  #hearsMulticast(from: Member, to: Member): boolean {
    const island = this.#islands.get(from.name) ?? null;
    const isNear = island !== null && island === this.#islands.get(to.name);
    return from !== to && isNear && !this.#isMulticastDead && this.#areJoined(from.name, to.name) && !this.#deaf.has(to.name);
  }

  chance(percent: number): boolean {
    return this.random.integer(100) < percent;
  }

  between(low: number, high: number): number {
    return low + this.random.integer(high - low + 1);
  }

  at(delayMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + delayMs, order: this.#order++, run };
    let index = this.#events.length;
    while (index > 0 && isLater(this.#events[index - 1] as Event, event)) index--;
    this.#events.splice(index, 0, event);
  }

  run(durationMs: number): void {
    const end = this.nowMs + durationMs;
    for (let event = this.#events[0]; event !== undefined && event.atMs <= end; event = this.#events[0]) {
      this.#events.shift();
      this.nowMs = event.atMs;
      event.run();
    }
    this.nowMs = end;
  }

  start(member: Member): void {
    const { disk } = member;
    const life = ++member.life;
    // An engine's stored state is some committed prefix of what it was given; a Cache begins anew, at a snapshot.
    const known = member.isArchive ? disk.commitSeq : this.committed.length;
    member.deliveredSeq = (this.random.integer(10) < 5 ? this.random.integer(known + 1) : 0) as Seq;
    const base = (this.random.integer(10) < 5 ? this.random.integer(member.deliveredSeq + 1) : 0) as Seq;
    const baseSeq = member.isArchive ? base : member.deliveredSeq;
    member.waiting = [];
    member.turnPending = false;
    member.node = new StreamNode({
      kind: member.isArchive ? "archive" : "cache",
      nodeId: member.nodeId,
      nonce: (member.life * 1000 + this.members.indexOf(member)) as Nonce,
      endpoint: member.name,
      base: positionOf(this.committed[baseSeq - 1]),
      entries: disk.entries.slice(baseSeq),
      commitSeq: member.isArchive ? disk.commitSeq : member.deliveredSeq,
      appliedSeq: member.deliveredSeq,
      voters: this.#votersAt(baseSeq),
      term: disk.term,
      votedFor: disk.votedFor,
      repairThrough: 0 as Seq,
      random: seededRandom(this.random.integer(2 ** 31)),
      limits: this.limits,
      hasMulticast: !this.options.unicast,
      nowMs: this.nowMs,
    });
    this.tellTree(member);
    for (const peer of this.members) {
      if (peer.isArchive && peer !== member) this.input(member, { kind: "peer", nodeId: peer.nodeId, endpoint: peer.name });
    }
    const tick = (): void => {
      if (member.life !== life || member.node === null) return;
      this.input(member, { kind: "tick", nowMs: this.nowMs });
      this.at(this.between(4, 7), tick);
    };
    this.at(this.between(0, 5), tick);
  }

  /** What the member computes the relay tree from. */
  tellTree(member: Member): void {
    const right = this.members.map(
      ({ name, isArchive }, index) => ({ id: index + 1, kind: isArchive ? "archive" : "cache", endpoint: name }) as const,
    );
    const isWrong = this.options.wrongTrees && this.#faulty;
    const engines = isWrong ? right.filter(() => this.chance(70)).map((engine) => ({ ...engine, id: this.random.integer(1000) })) : right;
    this.input(member, { kind: "engines", engines, contacts: [] });
  }

  /** Set by what is committed up to `seq`. */
  #votersAt(seq: Seq): readonly NodeId[] {
    let voters = this.#founders;
    for (const entry of this.committed.slice(0, seq)) voters = votersOf(entry.bytes) ?? voters;
    return voters;
  }

  /** Stops at once: what was not fsynced is lost, or stays as a prefix. */
  crash(member: Member): void {
    if (member.node === null) return;
    member.node = null;
    member.life++;
    const write = member.journal[0];
    if (write?.kind === "append") {
      const kept = this.random.integer(write.entries.length + 1);
      // A truncation is written with its first record: torn before it, the old entries are still there.
      if (kept > 0) writeEntries(member.disk, write.truncateFrom, write.entries.slice(0, kept), write.commitSeq);
    }
    const vote = member.votes[0];
    if (vote?.kind === "vote" && this.chance(50)) writeVote(member.disk, vote);
    member.journal = [];
    member.votes = [];
    for (const peer of this.members) {
      if (peer !== member) this.at(this.between(0, 2), () => this.input(peer, { kind: "disconnected", nowMs: this.nowMs, endpoint: member.name }));
    }
  }

  pause(member: Member, durationMs: number): void {
    member.pausedUntilMs = this.nowMs + durationMs;
  }

  partition(groupsCount: number): void {
    this.#groups = new Map(this.members.map((member) => [member.name, this.random.integer(groupsCount)]));
    for (const left of this.members) {
      for (const right of this.members) {
        if (left !== right && !this.#areJoined(left.name, right.name) && this.chance(50)) {
          this.input(left, { kind: "disconnected", nowMs: this.nowMs, endpoint: right.name });
        }
      }
    }
  }

  setDeaf(member: Member, isDeaf: boolean): void {
    if (isDeaf) this.#deaf.add(member.name);
    else this.#deaf.delete(member.name);
  }

  setMulticastDead(isDead: boolean): void {
    this.#isMulticastDead = isDead;
  }

  /** All faults end, and everyone is back. */
  heal(): void {
    this.#faulty = false;
    this.#groups = new Map();
    this.#isMulticastDead = false;
    this.#deaf.clear();
    for (const member of this.members) {
      this.tellTree(member);
      member.pausedUntilMs = this.nowMs;
      if (member.node === null) this.start(member);
    }
  }

  setLoss(perMille: number): void {
    this.#lossPerMille = perMille;
  }

  #areJoined(left: Endpoint, right: Endpoint): boolean {
    return this.#groups.get(left) === this.#groups.get(right);
  }

  input(member: Member, input: StreamInput): void {
    const life = member.life;
    if (member.node === null) return;
    if (this.nowMs < member.pausedUntilMs) {
      this.at(member.pausedUntilMs - this.nowMs, () => member.life === life && this.input(member, stampAgain(input, this.nowMs)));
      return;
    }
    this.#perform(member, member.node.step(input));
    this.#check(member);
    if (input.kind !== "turnEnd") this.#endTurnSoon(member);
  }

  #endTurnSoon(member: Member): void {
    if (member.turnPending) return;
    member.turnPending = true;
    const life = member.life;
    this.at(this.random.integer(2), () => {
      if (member.life !== life) return;
      member.turnPending = false;
      this.input(member, { kind: "turnEnd", nowMs: this.nowMs });
    });
  }

  #perform(member: Member, effects: readonly StreamEffect[]): void {
    let datagrams = 0;
    for (const effect of effects) {
      switch (effect.kind) {
        case "send":
          if (effect.channel === "datagram") this.#sendDatagram(member, effect.to, effect.payload);
          else this.#sendReliable(member, effect.to, effect.payload);
          break;
        case "multicast":
          datagrams++;
          assert.ok(effect.payload.length <= this.limits.datagramBytesMax, `a frame of ${effect.payload.length} bytes`);
          assert.ok(!this.options.unicast, "multicast where there is none");
          for (const peer of this.members) if (this.#hearsMulticast(member, peer)) this.#sendDatagram(member, peer.name, effect.payload, true);
          break;
        case "append":
          assert.ok(member.isArchive, "a Cache has no journal");
          this.#write(member, member.journal, effect);
          break;
        case "saveVote":
          this.#write(member, member.votes, { kind: "vote", term: effect.term, votedFor: effect.votedFor });
          break;
        case "commit":
          this.#onCommit(member, effect.entries);
          break;
        case "readJournal":
          this.#readJournal(member, effect.requestId, effect.from, effect.bytesMax);
          break;
        case "role":
          if (effect.role === "sequencer") this.#onSequencer(member, effect.term, effect.tail);
          break;
        case "ordered":
          break;
        case "needSnapshot":
          assert.fail(`${member.name} needs a snapshot, and every journal is whole`);
          break;
        case "again":
          this.#endTurnSoon(member);
          break;
      }
    }
    assert.ok(datagrams <= this.limits.datagramsPerTurnMax, `${datagrams} datagrams in a turn`);
  }

  #readJournal(member: Member, requestId: number, from: Seq, bytesMax: number): void {
    const life = member.life;
    this.at(this.between(0, 5), () => {
      if (member.life !== life) return;
      const written: Disk = { ...member.disk, entries: [...member.disk.entries] };
      for (const write of member.journal) if (write.kind === "append") writeEntries(written, write.truncateFrom, write.entries, write.commitSeq);
      const entries: LogEntry[] = [];
      let bytes = 0;
      for (const entry of written.entries.slice(from - 1)) {
        if (entries.length > 0 && bytes + entry.bytes.length > bytesMax) break;
        entries.push(entry);
        bytes += entry.bytes.length;
      }
      this.input(member, { kind: "journalRead", nowMs: this.nowMs, requestId, entries });
    });
  }

  /** One write at a time; its fsync takes a while. */
  #write(member: Member, queue: DiskWrite[], write: DiskWrite): void {
    queue.push(write);
    if (queue.length === 1) this.#flush(member, queue);
  }

  #flush(member: Member, queue: DiskWrite[]): void {
    const life = member.life;
    this.at(this.#faulty && this.chance(5) ? this.between(10, 200) : this.between(0, 4), () => {
      if (member.life !== life) return;
      const write = queue.shift();
      if (write === undefined) return;
      if (queue.length > 0) this.#flush(member, queue);
      if (write.kind === "vote") {
        writeVote(member.disk, write);
        this.input(member, { kind: "voteSaved", nowMs: this.nowMs, term: write.term, votedFor: write.votedFor });
        return;
      }
      writeEntries(member.disk, write.truncateFrom, write.entries, write.commitSeq);
      const { seq, term, hash } = write.entries[write.entries.length - 1] as LogEntry;
      this.input(member, { kind: "journaled", nowMs: this.nowMs, position: { seq, term, hash } });
    });
  }

  #sendDatagram(from: Member, to: Endpoint, payload: Buffer, byMulticast = false): void {
    this.#checkSent(from, payload);
    const copies = this.#faulty && this.chance(3) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      if (!this.#areJoined(from.name, to) || this.#deaf.has(to) || (this.#faulty && this.chance(8))) continue;
      if (this.#lossPerMille > 0 && this.random.integer(1000) < this.#lossPerMille) continue;
      const delayMs = this.#faulty && this.chance(10) ? this.between(1, 300) : this.between(0, 2);
      const bytes = this.#faulty && this.chance(1) ? this.#corrupt(payload) : payload;
      this.at(delayMs, () => this.#deliver(from.name, to, bytes, byMulticast));
    }
  }

  /** Cut short, which no sealing would let through: the decoder must not mind. */
  #corrupt(payload: Buffer): Buffer {
    return payload.subarray(0, 1);
  }

  /** In order: the same delay for all, and a break of the connection is told by "disconnected". */
  #sendReliable(from: Member, to: Endpoint, payload: Buffer): void {
    this.#checkSent(from, payload);
    const life = from.life;
    this.at(2, () => {
      if (from.life !== life || !this.#areJoined(from.name, to)) {
        this.input(from, { kind: "disconnected", nowMs: this.nowMs, endpoint: to });
        return;
      }
      this.#deliver(from.name, to, payload);
    });
  }

  #deliver(from: Endpoint, to: Endpoint, payload: Buffer, byMulticast = false): void {
    const member = this.members.find((one) => one.name === to);
    if (member !== undefined) this.input(member, { kind: "message", nowMs: this.nowMs, from, payload, byMulticast });
  }

  /** An ack's durable prefix is on disk; a vote is on disk before it is told. */
  #checkSent(from: Member, payload: Buffer): void {
    const message = decodeStreamMessage(payload);
    if (message.kind === "ack" && from.isArchive && message.durable.seq > 0) {
      const entry = from.disk.entries[message.durable.seq - 1];
      assert.equal(entry?.hash, message.durable.hash, `${from.name} acks seq ${message.durable.seq}, which its disk does not have`);
      assert.ok(from.disk.term >= message.term, `${from.name} acks in term ${message.term}, its disk knows ${from.disk.term}`);
    }
    if (message.kind === "voteReply" && message.granted && !message.pre) {
      assert.equal(from.disk.term, message.forTerm, `${from.name} tells a vote that its disk does not have`);
    }
  }

  #onSequencer(member: Member, term: Term, tail: readonly LogEntry[]): void {
    const other = this.#sequencers.get(term);
    assert.ok(other === undefined || other === member.name, `${member.name} and ${other} are sequencers of term ${term}`);
    this.#sequencers.set(term, member.name);
    for (const entry of this.committed) {
      // What a later term has committed, a sequencer that hears of its votes late need not have.
      if (entry.seq > member.deliveredSeq && (this.#committedIn[entry.seq - 1] ?? 0) < term) {
        assert.equal(tail[entry.seq - member.deliveredSeq - 1]?.hash, entry.hash, `new sequencer ${member.name} lacks committed ${entry.seq}`);
      }
    }
    assert.equal(tail[0]?.seq, member.deliveredSeq + 1, "the tail follows what was delivered");
    assert.equal(tail.at(-1)?.term, term, "the tail ends with the term's NOOP");
  }

  #onCommit(member: Member, entries: readonly LogEntry[]): void {
    const last = entries.at(-1);
    if (member.node?.role === "sequencer" && last !== undefined && last.seq > this.committed.length) {
      assert.equal(last.term, member.node.term, `${member.name} commits seq ${last.seq} of an older term by counting`);
    }
    for (const entry of entries) {
      assert.equal(entry.seq, member.deliveredSeq + 1, `${member.name} skips or repeats a commit`);
      member.deliveredSeq = entry.seq;
      const known = this.committed[entry.seq - 1];
      if (known === undefined) {
        assert.equal(this.committed.length, entry.seq - 1);
        this.#checkDurable(member, entry);
        this.committed.push(entry);
        this.#committedIn.push(member.node?.term ?? entry.term);
      } else assert.equal(entry.hash, known.hash, `${member.name} commits another history at ${entry.seq}`);
    }
  }

  /** The first to commit is who counted: a majority of its voters has the entry on disk. */
  #checkDurable(member: Member, entry: LogEntry): void {
    const voters = member.node?.voters ?? [];
    const holders = this.members.filter((one) => voters.includes(one.nodeId) && one.disk.entries[entry.seq - 1]?.hash === entry.hash);
    assert.ok(holders.length * 2 > voters.length, `seq ${entry.seq} is committed with ${holders.length} of ${voters.length} voters durable`);
  }

  #check(member: Member): void {
    const { node } = member;
    if (node === null) return;
    assert.ok(node.commitSeq <= node.last.seq, "commit beyond the log");
    assert.ok(node.commitSeq >= member.deliveredSeq || member.deliveredSeq > node.last.seq, `${member.name}'s commit seq went back`);
  }

  get sequencer(): Member | undefined {
    return this.members.find((member) => member.node?.leadsSurely === true && member.node.term === this.#highestTerm);
  }

  get #highestTerm(): number {
    return Math.max(...this.members.map((member) => member.node?.term ?? 0));
  }

  /** Some entries at whoever leads; now and then one that takes many datagrams, or that only catch-up carries. */
  order(): void {
    for (const member of this.members) {
      if (member.node?.role !== "sequencer" || member.node.uncommittedBytes > 60_000) continue;
      const entries = Array.from({ length: this.between(1, 6) }, () => this.#payload());
      this.#orderAt(member, entries);
    }
  }

  /** From here on one Cache waits for what is ordered, or all of them do, or everyone. */
  changeWriters(): void {
    const caches = this.members.filter(({ isArchive }) => !isArchive).map(({ name }) => name);
    if (this.chance(25)) this.#writers = null;
    else this.#writers = this.chance(75) ? [caches[this.random.integer(caches.length)] as Endpoint] : caches;
  }

  #payload(): Buffer {
    const size = this.chance(3) ? this.between(2000, 9000) : this.chance(1) ? 20_000 : this.between(9, 200);
    const bytes = Buffer.alloc(size, this.#payloads & 0xff);
    // No proposal that decodes: the stream does not look into entries but for VOTERS.
    bytes[0] = 5;
    bytes.writeUInt32BE(this.#payloads++, 4);
    return bytes;
  }

  #orderAt(member: Member, entries: readonly Uint8Array[]): void {
    const { node } = member;
    if (node === null || this.nowMs < member.pausedUntilMs) return;
    const concerned = this.#writers;
    this.#perform(member, node.step({ kind: "order", nowMs: this.nowMs, entries, ...(concerned !== null && { concerned }) }));
    this.#endTurnSoon(member);
  }

  /** Takes a spare in, or a voter out. */
  changeVoters(): void {
    const member = this.members.find((one) => one.node?.mayChangeVoters === true);
    const node = member?.node;
    if (member === undefined || node === null || node === undefined) return;
    const archives = this.members.filter((one) => one.isArchive);
    const changed = archives[this.random.integer(archives.length)] as Member;
    const isVoter = node.voters.includes(changed.nodeId);
    if (isVoter && node.voters.length <= 2) return;
    const voters = isVoter ? node.voters.filter((voter) => voter !== changed.nodeId) : [...node.voters, changed.nodeId];
    this.#orderAt(member, [encodeEntry({ kind: "voters", voters })]);
  }

  expectConverged(): void {
    const leader = this.sequencer;
    assert.ok(leader?.node !== null && leader?.node !== undefined, `no sequencer at the end:\n${this.describe()}`);
    for (const member of this.members) {
      assert.equal(member.deliveredSeq, leader.deliveredSeq, `${member.name} is not where ${leader.name} is:\n${this.describe()}`);
      assert.equal(member.node?.last.hash, leader.node.last.hash, `${member.name}'s log is not ${leader.name}'s:\n${this.describe()}`);
      assert.equal(member.node?.commitSeq, leader.node.last.seq, `${member.name} has not committed all:\n${this.describe()}`);
    }
    assert.ok(this.committed.length > 0);
  }

  describe(): string {
    return this.members
      .map((one) => {
        const node = one.node;
        if (node === null) return `${one.name} stopped`;
        return `${one.name} ${node.role} term ${node.term} last ${node.last.seq} commit ${node.commitSeq} voters ${node.voters.join(",")} sequencer ${node.sequencer}`;
      })
      .join("\n");
  }
}

function positionOf(entry: LogEntry | undefined): LogPosition {
  return entry === undefined ? genesis : { seq: entry.seq, term: entry.term, hash: entry.hash };
}

function isLater(left: Event, right: Event): boolean {
  return left.atMs > right.atMs || (left.atMs === right.atMs && left.order > right.order);
}

function stampAgain(input: StreamInput, nowMs: number): StreamInput {
  return "nowMs" in input ? { ...input, nowMs } : input;
}

function writeEntries(disk: Disk, truncateFrom: Seq | null, entries: readonly LogEntry[], commitSeq: Seq): void {
  if (truncateFrom !== null) disk.entries.length = Math.min(disk.entries.length, truncateFrom - 1);
  for (const entry of entries) {
    assert.equal(entry.seq, disk.entries.length + 1, "appends are contiguous");
    disk.entries.push(entry);
  }
  if (commitSeq > disk.commitSeq) disk.commitSeq = commitSeq;
  assert.ok(disk.commitSeq <= disk.entries.length, "a journal never names a commit seq that it does not have");
}

function writeVote(disk: Disk, write: Extract<DiskWrite, { kind: "vote" }>): void {
  disk.term = write.term;
  disk.votedFor = write.votedFor;
}

/** One whole life: faults for `faultyMs`, then peace, in which all must come to agree. Throws where a promise is broken. */
export function runSimulation(options: SimulationOptions, faultyMs: number): StreamSimulation {
  const simulation = new StreamSimulation(options);
  const patienceMs = simulation.limits.electionTimeoutMsMax;
  let isOrdering = true;
  const orderSome = (): void => {
    if (!isOrdering) return;
    if (simulation.chance(2)) simulation.changeWriters();
    simulation.order();
    simulation.at(simulation.between(5, options.hasty ? 20 : 60), orderSome);
  };
  simulation.at(10, orderSome);
  if (options.faults) simulation.at(simulation.between(patienceMs >> 2, patienceMs), () => injectFault(simulation, faultyMs));
  simulation.run(faultyMs);
  simulation.heal();
  simulation.run(patienceMs * 3 + 1000);
  const before = simulation.committed.length;
  simulation.run(500);
  assert.ok(simulation.committed.length > before, `nothing is committed after the faults:\n${simulation.describe()}`);
  isOrdering = false;
  simulation.run(patienceMs + 500);
  simulation.expectConverged();
  return simulation;
}

function injectFault(simulation: StreamSimulation, untilMs: number): void {
  if (simulation.nowMs >= untilMs) return;
  const unitMs = simulation.limits.electionTimeoutMsMin;
  const lasting = (): number => simulation.between(1, unitMs * 3);
  const { options } = simulation;
  const anyone = simulation.members[simulation.random.integer(simulation.members.length)] as Member;
  const leader = simulation.members.find((one) => one.node?.role === "sequencer") ?? anyone;
  const member = simulation.chance(50) ? leader : anyone;
  if (options.wrongTrees) for (const one of simulation.members) if (simulation.chance(50)) simulation.tellTree(one);
  const kind = simulation.random.integer(12);
  if (kind < 4) {
    simulation.crash(member);
    simulation.at(lasting(), () => member.node === null && simulation.start(member));
  } else if (kind < 5) {
    simulation.pause(member, lasting());
  } else if (kind < 7) {
    simulation.partition(simulation.between(2, 3));
    simulation.at(lasting(), () => simulation.partition(1));
  } else if (kind < 8) {
    simulation.setMulticastDead(true);
    simulation.at(lasting(), () => simulation.setMulticastDead(false));
  } else if (kind < 9) {
    simulation.setDeaf(member, true);
    simulation.at(lasting(), () => simulation.setDeaf(member, false));
  } else {
    simulation.changeVoters();
  }
  simulation.at(simulation.between(unitMs >> 4, unitMs), () => injectFault(simulation, untilMs));
}
