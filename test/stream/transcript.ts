/**
 * Runs transcripts: blocks of commands to one node, a line `----`, and what the node then does, as text. A turn's end follows the last
 * command of each block. The words of the commands are in `commands` below; histories are written as terms by commas, so that
 * `1,1,2` is three entries, the last of term 2, and `1,1x,2` has another second entry.
 */
import { type ChainHash, chainHash, genesisHash } from "../../src/base/chain-hash.js";
import type { Endpoint, EngineKind, NodeId, Nonce, Seq, Term } from "../../src/base/ids.js";
import type { LogEntry, LogPosition } from "../../src/base/log-entry.js";
import { StreamNode } from "../../src/messages/stream/stream-node.js";
import type { StreamEffect, StreamInput, StreamLimits } from "../../src/messages/stream/stream-node-types.js";
import { encodeEntry } from "../../src/messages/wire/entry.js";
import { type CatchUpOutcome, decodeStreamMessage, encodeStreamMessage, type StreamMessage } from "../../src/messages/wire/stream-messages.js";

const limits: StreamLimits = {
  heartbeatMs: 100,
  electionTimeoutMsMin: 1000,
  electionTimeoutMsMax: 2000,
  repairDelayMsMin: 5,
  repairDelayMsMax: 5,
  datagramBytesMax: 1024,
  datagramsPerTurnMax: 4,
  windowBytesMax: 8192,
  keptBytesMax: 1_000_000,
  catchUpBytes: 100_000,
};

/** Named values of a command line: `term=2 first=3`. */
type Fields = Readonly<Record<string, string>>;

export function runTranscript(text: string): string {
  const story = new Story();
  const blocks = text.trimEnd().split(/\n\n+/);
  return `${blocks.map((block) => story.tell(block)).join("\n\n")}\n`;
}

class Story {
  #node: StreamNode | null = null;
  #nowMs = 0;
  #effects: StreamEffect[] = [];
  #lastVote: { readonly term: Term; readonly votedFor: NodeId } | null = null;
  #lastRead = 0;
  /** Positions handed to the journal, by seq; the last one for each. */
  readonly #appended = new Map<number, LogPosition>();

  /** The block with what really happens below its line. */
  tell(block: string): string {
    const commands: string[] = [];
    for (const line of block.split("\n")) {
      if (line === "----") break;
      commands.push(line);
    }
    if (commands.every((line) => line.startsWith("#") || line === "")) return commands.join("\n");
    this.#effects = [];
    for (const line of commands) if (!line.startsWith("#")) this.#command(line);
    this.#step({ kind: "turnEnd", nowMs: this.#nowMs });
    return [...commands, "----", ...this.#effects.map((effect) => showEffect(effect))].join("\n");
  }

  #step(input: StreamInput): void {
    if (this.#node === null) throw new Error("the first command must be `node`");
    for (const effect of this.#node.step(input)) {
      this.#effects.push(effect);
      if (effect.kind === "saveVote") this.#lastVote = effect;
      if (effect.kind === "readJournal") this.#lastRead = effect.requestId;
      if (effect.kind === "append") for (const { seq, term, hash } of effect.entries) this.#appended.set(seq, { seq, term, hash });
    }
  }

  #command(line: string): void {
    const [command = "", ...words] = line.split(" ");
    const name = (words.find((word) => !word.includes("=")) ?? "") as Endpoint;
    const fields: Fields = Object.fromEntries(words.filter((word) => word.includes("=")).map((word) => word.split("=", 2) as [string, string]));
    const run = commands[command];
    if (run !== undefined) {
      const message = run(fields);
      // `via=a2`: through the relay tree.
      const from = (fields.via ?? name) as Endpoint;
      const { term } = message;
      const payload = encodeStreamMessage(
        fields.number === undefined
          ? message
          : { kind: "relayed", term, origin: name, number: Number(fields.number), frame: encodeStreamMessage(message) },
      );
      this.#step({ kind: "message", nowMs: this.#nowMs, from, payload, byMulticast: fields.by === "multicast" });
      return;
    }
    const nowMs = this.#nowMs;
    switch (command) {
      case "node":
        this.#start(fields);
        break;
      case "tick":
        this.#nowMs += Number(name);
        this.#step({ kind: "tick", nowMs: this.#nowMs });
        break;
      case "turn":
        break;
      case "saved":
        if (this.#lastVote !== null) this.#step({ kind: "voteSaved", nowMs, term: this.#lastVote.term, votedFor: this.#lastVote.votedFor });
        break;
      case "journaled": {
        const position = fields.history === undefined ? this.#appended.get(Number(fields.seq)) : place(fields.history, Number(fields.seq));
        if (position !== undefined) this.#step({ kind: "journaled", nowMs, position });
        break;
      }
      case "order":
        this.#step({
          kind: "order",
          nowMs,
          entries: (fields.bytes ?? "").split(",").map((size) => Buffer.alloc(Number(size), 5)),
          ...(fields.concerned !== undefined && { concerned: fields.concerned.split(",") as Endpoint[] }),
        });
        break;
      case "committed":
        this.#step({ kind: "committed", nowMs, place: place(fields.history ?? "", Number(fields.seq)) });
        break;
      case "voters":
        this.#step({ kind: "order", nowMs, entries: [encodeEntry({ kind: "voters", voters: nodes(fields.of) })] });
        break;
      case "disconnected":
      case "connected":
        this.#step({ kind: command, nowMs, endpoint: name });
        break;
      case "engines":
        this.#step({
          kind: "engines",
          engines: (fields.of ?? "")
            .split(",")
            .filter((one) => one !== "")
            .map((endpoint, index) => ({
              id: index + 1,
              kind: endpoint.startsWith("a") ? ("archive" as const) : ("cache" as const),
              endpoint: endpoint as Endpoint,
            })),
          contacts: (fields.contacts ?? "").split(",").filter((one) => one !== "") as Endpoint[],
        });
        break;
      case "near":
        this.#step({ kind: "near", nowMs, endpoint: name });
        break;
      case "confirm":
        this.#step({ kind: "confirm", nowMs });
        break;
      case "read":
        this.#step({
          kind: "journalRead",
          nowMs,
          requestId: this.#lastRead,
          entries: fields.history === undefined ? "gone" : history(fields.history).slice(Number(fields.from) - 1),
        });
        break;
      default:
        throw new Error(`no such command: ${line}`);
    }
  }

  #start(fields: Fields): void {
    const entries = history(fields.log ?? "");
    const nodeId = Number(fields.id ?? 1) as NodeId;
    this.#node = new StreamNode({
      kind: (fields.kind ?? "archive") as EngineKind,
      nodeId,
      nonce: 77 as Nonce,
      endpoint: `a${nodeId}` as Endpoint,
      base: { seq: 0 as Seq, term: 0 as Term, hash: genesisHash },
      entries,
      commitSeq: Number(fields.commit ?? 0) as Seq,
      appliedSeq: Number(fields.applied ?? fields.commit ?? 0) as Seq,
      voters: nodes(fields.voters),
      term: Number(fields.term ?? 0) as Term,
      votedFor: 0 as NodeId,
      repairThrough: Number(fields.repairThrough ?? 0) as Seq,
      // The longest wait of its range, always: a transcript's times are exact.
      random: { integer: (below) => below - 1 },
      hasMulticast: fields.multicast !== "no",
      limits: { ...limits, ...Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, Number(value)])) },
      nowMs: 0,
    });
    for (const peer of [1, 2, 3, 4, 5]) {
      if (peer !== nodeId) this.#step({ kind: "peer", nodeId: peer as NodeId, endpoint: `a${peer}` as Endpoint });
    }
  }
}

/** What peers say. */
const commands: Readonly<Record<string, (fields: Fields) => StreamMessage>> = {
  frame: (fields) => {
    const log = fields.history ?? "";
    const first = Number(fields.first ?? history(log).length + 1) as Seq;
    const isCommitted = fields.committed === "yes";
    const count = Number(fields.count ?? history(log).length - first + 1);
    const entries = history(log).slice(first - 1, first - 1 + count);
    const whole = entries[0];
    const part = fields.part?.split("-").map(Number);
    return {
      kind: "frame",
      term: Number(fields.term) as Term,
      sender: Number(fields.sender ?? 2) as NodeId,
      committed: isCommitted,
      round: Number(fields.round ?? 1),
      commit: place(log, Number(fields.commit ?? 0)),
      last: place(log, Number(fields.last ?? history(log).length)),
      firstSeq: first,
      prevHash: place(log, first - 1).hash,
      content:
        part !== undefined && whole !== undefined
          ? {
              kind: "fragment",
              term: whole.term,
              totalBytes: whole.bytes.length,
              offset: part[0] ?? 0,
              bytes: whole.bytes.subarray(part[0], part[1]),
            }
          : { kind: "entries", entries },
    };
  },
  ack: (fields) => ({
    kind: "ack",
    term: Number(fields.term) as Term,
    nodeId: Number(fields.id) as NodeId,
    nonce: 1 as Nonce,
    engine: 0,
    durable: fields.history === undefined ? place("", 0) : place(fields.history, Number(fields.durable)),
    matchedSeq: 0 as Seq,
    appliedSeq: 0 as Seq,
    oldestSnapshot: 0 as Seq,
    round: Number(fields.round ?? 0),
  }),
  asks: (fields) => ({
    kind: "voteRequest",
    pre: fields.pre === "yes",
    term: Number(fields.term) as Term,
    nodeId: Number(fields.id) as NodeId,
    lastSeq: Number(fields.lastSeq ?? 0) as Seq,
    lastTerm: Number(fields.lastTerm ?? 0) as Term,
  }),
  votes: (fields) => ({
    kind: "voteReply",
    pre: fields.pre === "yes",
    forTerm: Number(fields.for) as Term,
    term: Number(fields.term) as Term,
    nodeId: Number(fields.id) as NodeId,
    granted: fields.granted !== "no",
  }),
  repair: (fields) => ({
    kind: "repairRequest",
    term: Number(fields.term) as Term,
    from: Number(fields.from) as Seq,
    offset: Number(fields.offset ?? 0),
    through: Number(fields.through) as Seq,
  }),
  refuses: (fields) => ({ kind: "repairRefusal", term: Number(fields.term) as Term, from: Number(fields.from) as Seq }),
  catchUp: (fields) => ({
    kind: "catchUpRequest",
    term: Number(fields.term) as Term,
    requestId: Number(fields.request ?? 1),
    from: Number(fields.from) as Seq,
    offset: 0,
    prevHash: place(fields.history ?? "", Number(fields.from) - 1).hash,
    creditBytes: Number(fields.credit ?? 1_000_000),
  }),
  subscribes: (fields) => ({
    kind: "subscribe",
    term: Number(fields.term ?? 0) as Term,
    forMs: Number(fields.for ?? 1200),
    multicast: fields.multicast === "yes",
    atUs: 7,
  }),
  full: (fields) => ({
    kind: "subscribeRefusal",
    term: Number(fields.term ?? 0) as Term,
    instead: (fields.instead ?? "").split(",").filter((one) => one !== "") as Endpoint[],
  }),
  ends: (fields) => ({
    kind: "catchUpEnd",
    term: Number(fields.term) as Term,
    requestId: Number(fields.request),
    outcome: fields.outcome as CatchUpOutcome,
  }),
};

function nodes(text = ""): NodeId[] {
  return text.split(",").map((node) => Number(node) as NodeId);
}

/** `1`: an entry of term 1. `1x`: another one. `1n`: the NOOP. `1v2+3`: voters 2 and 3. `1*500`: of 500 bytes. */
function history(text: string): LogEntry[] {
  const entries: LogEntry[] = [];
  let hash: ChainHash = genesisHash;
  for (const word of text === "" ? [] : text.split(",")) {
    const term = Number.parseInt(word, 10) as Term;
    const bytes = historyBytes(word.replace(/^\d+/, ""));
    hash = chainHash(hash, term, bytes);
    entries.push({ seq: (entries.length + 1) as Seq, term, hash, bytes });
  }
  return entries;
}

function historyBytes(suffix: string): Buffer {
  if (suffix === "n") return encodeEntry({ kind: "noop" });
  if (suffix.startsWith("v")) return encodeEntry({ kind: "voters", voters: nodes(suffix.slice(1).replaceAll("+", ",")) });
  if (suffix.startsWith("*")) return Buffer.alloc(Number(suffix.slice(1)), 5);
  return Buffer.concat([Buffer.from([5]), Buffer.from(suffix)]);
}

function place(text: string, seq: number): LogPosition {
  return history(text)[seq - 1] ?? { seq: seq as Seq, term: 0 as Term, hash: genesisHash };
}

function showEffect(effect: StreamEffect): string {
  switch (effect.kind) {
    case "send":
      return `${effect.channel === "reliable" ? "reliable " : ""}${effect.to} <- ${showMessage(decodeStreamMessage(effect.payload))}`;
    case "multicast":
      return `all <- ${showMessage(decodeStreamMessage(effect.payload))}`;
    case "append":
      return `append ${effect.truncateFrom === null ? "" : `truncate ${effect.truncateFrom} `}${showEntries(effect.entries)} commit ${effect.commitSeq}`;
    case "saveVote":
      return `saveVote term ${effect.term} for ${effect.votedFor}`;
    case "commit":
      return `commit ${showEntries(effect.entries)}`;
    case "readJournal":
      return `readJournal ${effect.from}`;
    case "role":
      return `role ${effect.role} term ${effect.term} sequencer ${effect.sequencer ?? "-"}${effect.role === "sequencer" ? ` tail ${showEntries(effect.tail)}` : ""}`;
    case "ordered":
      return `ordered ${showEntries(effect.entries)}`;
    default:
      return effect.kind;
  }
}

/** `3:1 4:2`: seq and term. */
function showEntries(entries: readonly LogEntry[]): string {
  return entries.map((entry) => `${entry.seq}:${entry.term}`).join(" ") || "nothing";
}

function showMessage(message: StreamMessage): string {
  switch (message.kind) {
    case "frame": {
      const { content, commit, last, firstSeq } = message;
      const what =
        content.kind === "fragment"
          ? `${firstSeq} bytes ${content.offset}-${content.offset + content.bytes.length} of ${content.totalBytes}`
          : content.entries.length === 0
            ? "-"
            : `${firstSeq}..${firstSeq + content.entries.length - 1}`;
      return `frame ${what} term ${message.term} commit ${commit.seq} last ${last.seq}${message.committed ? " committed" : ` round ${message.round}`}`;
    }
    case "ack":
      return `ack term ${message.term} durable ${message.durable.seq} matched ${message.matchedSeq} round ${message.round}`;
    case "voteRequest":
      return `${message.pre ? "pre-vote" : "vote"} term ${message.term}? last ${message.lastSeq}:${message.lastTerm}`;
    case "voteReply":
      return `${message.pre ? "pre-vote" : "vote"} term ${message.forTerm} ${message.granted ? "granted" : "refused"} in term ${message.term}`;
    case "repairRequest":
      return `repair ${message.from}${message.offset > 0 ? `+${message.offset}` : ""}..${message.through} term ${message.term}`;
    case "repairRefusal":
      return `repair refused ${message.from} term ${message.term}`;
    case "catchUpRequest":
      return `catchUp ${message.requestId} from ${message.from} term ${message.term}`;
    case "catchUpEnd":
      return `catchUpEnd ${message.requestId} ${message.outcome}`;
    case "relayed":
      return `relayed ${message.number} of ${message.origin}: ${showMessage(decodeStreamMessage(message.frame))}`;
    case "subscribe":
      return `subscribe for ${message.forMs} ms${message.multicast ? " by multicast" : ""}`;
    case "subscribed":
      return `subscribed, asked at ${message.atUs}`;
    case "subscribeRefusal":
      return `subscribe refused, instead ${message.instead.join(" ") || "-"}`;
  }
}
