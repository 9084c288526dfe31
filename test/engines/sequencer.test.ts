import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, NodeId, Nonce, ProposalSeq, Seq, SpaceId } from "../../src/base/ids.js";
import { entryBytesMax } from "../../src/base/limits.js";
import type { LogEntry } from "../../src/base/log-entry.js";
import { seededRandom } from "../../src/base/random.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { CoreContext } from "../../src/engines/core-context.js";
import { Sequencer } from "../../src/engines/sequencer.js";
import type { StreamView } from "../../src/messages/stream/stream-node-types.js";
import { decodeEntry, type Entry, encodeEntry, formatVersion, type NewAtom, type SplitBody } from "../../src/messages/wire/entry.js";
import { atom, boot, createTable, genesis, proposal, space } from "./engine-parts.js";

/** Archive e1 leads; what it orders is applied at once, as committed. */
class Leading {
  readonly context: CoreContext;
  readonly sequencer: Sequencer;
  readonly ordered: Entry[] = [];
  readonly #heard = new Map<Endpoint, number>();

  constructor() {
    const self = { kind: "archive", nodeId: 11 as NodeId, nonce: 1 as Nonce, endpoint: "e1" as Endpoint, http: "-", pid: 1 } as const;
    this.context = new CoreContext(self, new Catalog(), seededRandom(1), genesis, 0);
    const { context } = this;
    const heard = this.#heard;
    const view = {
      role: "sequencer",
      voters: [11 as NodeId],
      leadsSurely: true,
      mayChangeVoters: true,
      uncommittedBytes: 0,
      oldestSnapshot: 0,
      get commitSeq() {
        return context.position.seq;
      },
      get last() {
        return context.position;
      },
      heardFrom: (endpoint: Endpoint) =>
        heard.has(endpoint) ? { atMs: heard.get(endpoint), durableSeq: context.position.seq, oldestSnapshot: 0 } : null,
    } as unknown as StreamView;
    this.sequencer = new Sequencer(context, view, (entries) => this.#order(entries), 1, 1000);
    this.sequencer.begin([]);
    this.order(boot(1, 11, "e1"));
  }

  #order(entries: readonly Uint8Array[]): LogEntry[] {
    return entries.map((bytes) => {
      const position = { ...this.context.position, seq: (this.context.position.seq + 1) as Seq };
      const entry = decodeEntry(bytes);
      this.context.catalog.apply(position.seq, entry);
      this.context.position = position;
      this.ordered.push(entry);
      return { ...position, bytes };
    });
  }

  order(entry: Entry & { kind: "boot" }): void {
    this.sequencer.boot(encodeEntry(entry));
    this.sequencer.turnEnd();
  }

  propose(entry: Entry & { kind: "proposal" }): Entry | undefined {
    this.sequencer.propose("e2" as Endpoint, { kind: "propose", engine: entry.engine, proposalSeq: entry.proposalSeq, entry: encodeEntry(entry) });
    this.sequencer.turnEnd();
    return this.ordered.at(-1);
  }

  /** Everybody at these addresses is heard all the time. */
  wait(ms: number, endpoints: readonly string[]): void {
    for (const endMs = this.context.nowMs + ms; this.context.nowMs < endMs; ) {
      this.context.nowMs += 50;
      for (const endpoint of endpoints) this.#heard.set(endpoint as Endpoint, this.context.nowMs);
      this.sequencer.tick();
      this.sequencer.turnEnd();
    }
  }

  members(): number[] {
    return [...this.context.catalog.members.keys()];
  }
}

test("a Cache that starts over, or anew at its address, ends its former life: nothing else would, for the address is heard", () => {
  const { context } = new Leading();
  const s = new Leading();
  s.order(boot(2, 0, "e2"));
  const former = s.context.position.seq;
  s.order(boot(3, 0, "e2"));
  s.wait(10_000, ["e1", "e2"]);
  expect(s.members()).not.toContain(former);
  expect(s.members()).toHaveLength(2);
  expect(context.catalog.members.size).toBe(1);
});

test("a BOOT asked for twice is ordered once", () => {
  const s = new Leading();
  s.order(boot(2, 0, "e2"));
  s.order(boot(2, 0, "e2"));
  expect(s.ordered.filter((entry) => entry.kind === "boot")).toHaveLength(2);
  expect(s.ordered.filter((entry) => entry.kind === "leave")).toHaveLength(0);
});

test("an engine of another format, or an Archive without a node id, does not become a member", () => {
  const s = new Leading();
  s.order({ ...boot(2, 0, "e2"), formatVersion: formatVersion + 1 });
  s.order({ ...boot(3, 0, "e3"), engineKind: "archive" });
  s.wait(200, ["e1", "e2", "e3"]);
  expect(s.members()).toHaveLength(1);
});

const malformed = { kind: "refused", reason: "malformed" };

function tableMade(): { s: Leading; maker: EngineId; fences: { atom: AtomId; originator: EngineId; ownershipVersion: Seq }[] } {
  const s = new Leading();
  s.order(boot(2, 0, "e2"));
  const maker = [...s.context.catalog.members.keys()][1] as EngineId;
  expect(s.propose(proposal(maker, 1, createTable()))).toMatchObject({ kind: "proposal" });
  const made = s.context.catalog.atoms.get(atom);
  if (made === undefined) throw new Error("no table was made");
  return { s, maker, fences: [{ atom, originator: made.originator, ownershipVersion: made.ownershipVersion }] };
}

test("a SPLIT whose pieces have one id is refused: applied, it would end every engine", () => {
  const { s, maker, fences } = tableMade();
  const piece = (id: number, low: number): SplitBody["pieces"][number] => ({
    atom: id as AtomId,
    low: integerKey(BigInt(low)),
    taker: 0 as EngineId,
    bytes: 0,
    rows: 0,
  });
  const body: SplitBody = {
    kind: "split",
    atom,
    space,
    firstTaker: 0 as EngineId,
    pieces: [piece(77, 10), piece(77, 20)],
    measured: null,
    sequenceFirst: 0n,
    sequenceNext: 0n,
  };
  expect(s.propose(proposal(maker, 2, body, { fences }))).toMatchObject(malformed);
});

function ddlWith(newAtoms: NewAtom[]): ReturnType<typeof createTable> {
  const body = createTable();
  if (body.kind !== "transaction" || body.parts[0]?.kind !== "ddl") throw new Error("a table's DDL");
  return { ...body, parts: [{ ...body.parts[0], newAtoms }] };
}

test("DDL that makes an atom twice, or in a space that has one, is refused", () => {
  const { s, maker } = tableMade();
  const fresh = (id: number, at: number): NewAtom => ({ space: at as SpaceId, atom: id as AtomId, indexOf: 0 as SpaceId });
  expect(s.propose(proposal(maker, 2, ddlWith([fresh(78, 500), fresh(78, 501)])))).toMatchObject(malformed);
  expect(s.propose(proposal(maker, 3, ddlWith([fresh(79, 502), fresh(80, 502)])))).toMatchObject(malformed);
  expect(s.propose(proposal(maker, 4, ddlWith([fresh(81, space)])))).toMatchObject(malformed);
});

test("rows of a table that is not there are refused: no Cache could apply them", () => {
  const { s, maker } = tableMade();
  const rows = [{ key: integerKey(1n), row: Buffer.from([0]), oldBytes: 0, indexKeys: [] }];
  const of = (table: number): ReturnType<typeof createTable> => ({
    kind: "transaction",
    exists: [],
    parts: [{ kind: "rows", table: table as SpaceId, rows }],
  });
  expect(s.propose(proposal(maker, 2, of(999)))).toMatchObject(malformed);
  expect(s.propose(proposal(maker, 3, of(space)))).toMatchObject({ kind: "proposal" });
  expect(s.propose(proposal(maker, 4 as ProposalSeq, of(space)))).toMatchObject({ kind: "proposal" });
});

test("the one that is missing is taken though very many wait behind it: otherwise none of them would ever be ordered", () => {
  const { s, maker } = tableMade();
  const propose = (n: number): void => {
    const entry = encodeEntry(proposal(maker, n, { kind: "hold", atoms: [atom] }));
    s.sequencer.propose("e2" as Endpoint, { kind: "propose", engine: maker, proposalSeq: n as ProposalSeq, entry });
  };
  for (let n = 3; n <= 9000; n++) propose(n);
  s.sequencer.turnEnd();
  propose(2);
  s.sequencer.turnEnd();
  const decided = s.context.catalog.members.get(maker)?.decided ?? 0;
  expect(decided).toBeGreaterThan(8000);
  // What was beyond the bound is sent again by its engine.
  for (let n = decided + 1; n <= 9000; n++) propose(n);
  s.sequencer.turnEnd();
  expect(s.context.catalog.members.get(maker)?.decided).toBe(9000);
});

test("a proposal that is larger than an entry may be is refused: ordered, it would end one sequencer after the other", () => {
  const { s, maker } = tableMade();
  const rows = [{ key: integerKey(1n), row: Buffer.alloc(entryBytesMax), oldBytes: 0, indexKeys: [] }];
  const body: ReturnType<typeof createTable> = { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] };
  expect(s.propose(proposal(maker, 2, body))).toMatchObject(malformed);
});
