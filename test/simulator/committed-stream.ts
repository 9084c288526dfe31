/**
 * What the whole database has committed, as the simulator has seen it: one history, built from what journals were given and what engines took
 * for committed. Beside it a catalog and rows of its own, derived from the entries alone: the engines' are compared with these.
 *
 * Every entry is judged when it is added; `InvariantError` says what it broke.
 */
import { createHash } from "node:crypto";
import { genesisHash } from "../../src/base/chain-hash.js";
import { type AtomId, type NodeId, noEngine, type Seq, type SpaceId, schemaSpace } from "../../src/base/ids.js";
import { type BinaryRange, binaryKey } from "../../src/base/key-ranges.js";
import type { LogEntry, LogPosition } from "../../src/base/log-entry.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { foldName } from "../../src/catalog/schema-catalog.js";
import { decodeEntry, type Entry, type ProposalEntry, type SplitBody, type TransactionBody } from "../../src/messages/wire/entry.js";
import { atomHash, gapsHash, recordHash } from "./catalog-hash.js";
import type { Coverage } from "./coverage.js";

export class InvariantError extends Error {
  override name = "InvariantError";

  constructor(
    readonly invariant: string,
    message: string,
  ) {
    super(`${invariant}: ${message}`);
  }
}

export function check(condition: unknown, invariant: string, message: () => string): asserts condition {
  if (!condition) throw new InvariantError(invariant, message());
}

const noSpace = 0 as SpaceId;
const hashModulus = 1n << 128n;

/** As LocalStore.tableHash takes it of one row. */
export function rowHash(key: Uint8Array, row: Uint8Array): bigint {
  const digest = createHash("sha256").update(key).update(row).digest();
  return (digest.readBigUInt64BE(0) << 64n) + digest.readBigUInt64BE(8);
}

/** Order-independent. */
export function sumHashes(hashes: Iterable<bigint>): string {
  let sum = 0n;
  for (const hash of hashes) sum = (sum + hash) % hashModulus;
  return hashText(sum);
}

function hashText(sum: bigint): string {
  return (((sum % hashModulus) + hashModulus) % hashModulus).toString(16).padStart(32, "0");
}

interface SpaceRows {
  readonly rows: Map<string, bigint>;
  sum: bigint;
  /** The sum after each entry that changed it. */
  readonly history: { readonly seq: number; readonly hash: string }[];
}

/** When a key was last changed, by the seq of the entry. */
interface KeyUses {
  write: number;
  delete: number;
  exist: number;
}

export class CommittedStream {
  readonly entries: LogEntry[] = [];
  readonly catalog = new Catalog();
  readonly #coverage: Coverage;
  /** Every entry that any journal was given, committed or not, by its hash. */
  readonly #known = new Map<string, { readonly entry: LogEntry; readonly previousHash: string }>();
  readonly #records = new Map<string, { readonly hash: bigint; readonly space: SpaceId }>();
  /** The records of each space's atoms: their sum and count after each entry that changed them. */
  readonly #spaceAtoms = new Map<SpaceId, { readonly seq: number; readonly hash: bigint; readonly count: number }[]>();
  #catalogSum = 0n;
  readonly #catalogHashes: bigint[] = [];
  readonly #spaces = new Map<SpaceId, SpaceRows>();
  readonly #keys = new Map<string, KeyUses>();
  readonly #outcomes = new Set<string>();
  /** Tables that were altered: what is stored of an older row and what SQLite makes of it may differ in form. */
  readonly altered = new Set<SpaceId>();
  onEntry: (entry: LogEntry, decoded: Entry) => void = () => {};

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
    for (const [name, bytes] of this.catalog.dump()) this.#setRecord(name, bytes);
    this.catalog.takeDirty();
    this.#catalogHashes.push(this.#catalogSum);
  }

  get lastSeq(): Seq {
    return this.entries.length as Seq;
  }

  get lastHash(): string {
    return this.entries.at(-1)?.hash ?? genesisHash;
  }

  know(entry: LogEntry, previousHash: string): void {
    if (!this.#known.has(entry.hash)) this.#known.set(entry.hash, { entry, previousHash });
  }

  /** Of spaces that are `lacking`, only how many atoms they have. */
  catalogHashAt(seq: Seq, lacking: Iterable<SpaceId> = []): bigint | undefined {
    let sum = this.#catalogHashes[seq];
    for (const space of lacking) {
      const { hash, count } = this.#spaceAtoms.get(space)?.findLast((one) => one.seq <= seq) ?? { hash: 0n, count: 0 };
      if (sum !== undefined) sum += gapsHash(space, count) - hash;
    }
    return sum;
  }

  /** As of `lastSeq`, as an engine has it that lacks the same parts of record catalogs. */
  catalogHashLike({ atoms }: Catalog): bigint | undefined {
    let sum = this.#catalogHashes[this.lastSeq];
    for (const space of atoms.lacking()) {
      const gaps = atoms.gapsWithin(space, null);
      let count = 0;
      for (const { low, high } of gaps) {
        for (const atom of this.catalog.atoms.overlapping(space, low, high)) {
          if (atom.lowKey < low) continue;
          count++;
          if (sum !== undefined) sum -= atomHash(atom);
        }
      }
      if (sum !== undefined) sum += gapsHash(space, count, gaps);
    }
    return sum;
  }

  /** Of the rows of a space as of a seq, like LocalStore.tableHash. */
  rowsHashAt(space: SpaceId, seq: Seq): string {
    const history = this.#spaces.get(space)?.history ?? [];
    let found = hashText(0n);
    for (const one of history) {
      if (one.seq > seq) break;
      found = one.hash;
    }
    return found;
  }

  /** Of the rows within the ranges, as of `lastSeq`, like LocalStore.heldHash. */
  heldHash(space: SpaceId, ranges: readonly BinaryRange[]): string {
    const inside = (key: string): boolean => ranges.some(({ low, high }) => low <= key && (high === null || key < high));
    const rows = this.#spaces.get(space)?.rows ?? new Map<string, bigint>();
    return sumHashes([...rows].flatMap(([key, hash]) => (inside(key) ? [hash] : [])));
  }

  spaces(): Iterable<SpaceId> {
    return this.#spaces.keys();
  }

  /** An engine takes everything up to this position for committed. The voters of the history at its end decide durability, by `onEntry`. */
  reach(position: LogPosition): void {
    if (position.seq <= this.lastSeq) {
      const mine = position.seq === 0 ? genesisHash : this.entries[position.seq - 1]?.hash;
      check(mine === position.hash, "one hash per committed seq", () => `at ${position.seq}: ${position.hash} here, ${mine} elsewhere`);
      this.#coverage.count("invariants", "one hash per committed seq");
      return;
    }
    const chain: LogEntry[] = [];
    let hash: string = position.hash;
    for (let seq = position.seq as number; seq > this.lastSeq; seq--) {
      const known = this.#known.get(hash);
      check(known?.entry.seq === seq, "one hash per committed seq", () => `${hash} at ${seq} was in no journal`);
      chain.push(known.entry);
      hash = known.previousHash;
    }
    check(
      hash === this.lastHash,
      "one hash per committed seq",
      () => `what was committed at ${this.lastSeq} is not in the history that ends at ${position.seq}`,
    );
    this.#coverage.count("invariants", "one hash per committed seq", chain.length);
    for (const entry of chain.reverse()) this.#add(entry);
  }

  #add(log: LogEntry): void {
    const entry = decodeEntry(log.bytes);
    if (entry.kind === "proposal" || entry.kind === "refused") this.#judgeProposal(log.seq, entry);
    if (entry.kind === "proposal" && entry.body.kind === "split" && entry.body.sequenceNext > 0n) this.#judgeIds(log.seq, entry.body);
    if (entry.kind === "proposal" && entry.body.kind === "transaction") this.#noteTransaction(log.seq, entry, entry.body);
    if (entry.kind === "mark") {
      const { mark } = this.catalog;
      check(
        entry.mark >= mark && entry.mark < log.seq,
        "no snapshot below the low-water mark",
        () => `MARK ${entry.mark} at ${log.seq} after ${mark}`,
      );
      const { historyMs, stamps } = this.catalog;
      check(
        entry.mark === mark || historyMs === 0 || entry.mark <= stamps.lastAt(entry.timeMs - historyMs),
        "history is kept",
        () => `MARK ${entry.mark} at ${log.seq}, at the time ${entry.timeMs}, with a history of ${historyMs} ms`,
      );
      if (historyMs > 0 && entry.mark > mark) this.#coverage.count("invariants", "history is kept");
    }
    const events = this.catalog.apply(log.seq, entry);
    for (const event of events) if (event.kind === "spaceGone") this.#clearSpace(log.seq, event.space);
    for (const [name, bytes] of this.catalog.takeDirty()) this.#setRecord(name, bytes);
    this.entries.push(log);
    this.#catalogHashes.push(this.#catalogSum);
    if (entry.kind !== "noop" && entry.kind !== "refused") this.#judgeOwnership(log.seq);
    this.onEntry(log, entry);
  }

  #setRecord(name: string, bytes: Uint8Array | null): void {
    const former = this.#records.get(name);
    const hash = bytes === null ? 0n : recordHash(name, bytes);
    const change = hash - (former?.hash ?? 0n);
    this.#catalogSum += change;
    const space = former?.space ?? (name.startsWith("a:") ? this.catalog.atoms.get(Number(name.slice(2)) as AtomId)?.space : undefined) ?? noSpace;
    if (bytes === null) this.#records.delete(name);
    else this.#records.set(name, { hash, space });
    if (space !== noSpace) this.#noteAtom(space, change, (bytes === null ? 0 : 1) - (former === undefined ? 0 : 1));
  }

  #noteAtom(space: SpaceId, change: bigint, more: number): void {
    const history = this.#spaceAtoms.get(space) ?? [];
    const last = history.at(-1) ?? { seq: 0, hash: 0n, count: 0 };
    // Called before the entry is added.
    const seq = this.lastSeq + 1;
    if (last.seq === seq) history.pop();
    history.push({ seq, hash: last.hash + change, count: last.count + more });
    this.#spaceAtoms.set(space, history);
  }

  #judgeProposal(seq: Seq, entry: Extract<Entry, { kind: "proposal" | "refused" }>): void {
    const { engine, proposalSeq } = entry;
    const name = `${engine}/${proposalSeq}`;
    check(!this.#outcomes.has(name), "a proposal has one outcome", () => `${name} is decided again at ${seq}`);
    this.#outcomes.add(name);
    this.#coverage.count("invariants", "a proposal has one outcome");
    const member = this.catalog.members.get(engine);
    check(member !== undefined, "proposals are in order", () => `${name} at ${seq} is of no member`);
    check(proposalSeq === member.decided + 1, "proposals are in order", () => `${name} at ${seq} comes after ${member.decided}`);
    this.#coverage.count("invariants", "proposals are in order");
    if (entry.kind === "refused") return;
    for (const fence of entry.fences) {
      const atom = this.catalog.atoms.get(fence.atom);
      check(
        atom?.originator === fence.originator && atom.ownershipVersion === fence.ownershipVersion,
        "fences and versions hold when ordered",
        () => `${name} at ${seq}: ${JSON.stringify(fence)}, and the atom is of ${atom?.originator}, version ${atom?.ownershipVersion}`,
      );
      this.#coverage.count("invariants", "fences and versions hold when ordered");
    }
    for (const one of entry.schemaVersions) {
      const version = this.catalog.schema.tables.get(one.table)?.version;
      check(
        version === one.version,
        "fences and versions hold when ordered",
        () => `${name} at ${seq}: table ${one.table} is ${version}, not ${one.version}`,
      );
      this.#coverage.count("invariants", "fences and versions hold when ordered");
    }
  }

  /** Their taker holds them without a pull. */
  #judgeIds(seq: Seq, { space, sequenceFirst, sequenceNext }: SplitBody): void {
    const [low, high] = [binaryKey(integerKey(sequenceFirst)), binaryKey(integerKey(sequenceNext))];
    const found = [...(this.#spaces.get(space)?.rows.keys() ?? [])].filter((key) => low <= key && key < high);
    check(found.length === 0, "ids that are handed out are no row's", () => `${sequenceFirst}…${sequenceNext} of ${space} at ${seq}`);
    this.#coverage.count("invariants", "ids that are handed out are no row's");
  }

  /** No two transactions of which each did not see the other touch one key: the later one's snapshot has the earlier one. */
  #noteTransaction(seq: Seq, entry: ProposalEntry, body: TransactionBody): void {
    const { snapshot } = entry;
    const uses: { readonly name: string; readonly use: keyof KeyUses }[] = [];
    for (const { space, key } of body.exists) uses.push({ name: `${space}:${binaryKey(key)}`, use: "exist" });
    for (const part of body.parts) {
      if (part.kind === "ddl") {
        const names = [...part.drops, ...part.upserts.map((object) => object.name)];
        for (const name of names) uses.push({ name: `${schemaSpace}:${binaryKey(Buffer.from(foldName(name)))}`, use: "write" });
        // Others touch tables too, to begin with the one that they create.
        if (/^\s*alter\b/i.test(part.sql)) for (const table of part.touchedTables) this.altered.add(table);
        continue;
      }
      const rows = this.#rowsOf(part.table);
      for (const change of part.rows) {
        uses.push({ name: `${part.table}:${binaryKey(change.key)}`, use: change.row === null ? "delete" : "write" });
        for (const one of change.indexKeys) uses.push({ name: `${one.space}:${binaryKey(one.key)}`, use: "write" });
        const key = binaryKey(change.key);
        const former = rows.rows.get(key) ?? 0n;
        const next = change.row === null ? 0n : rowHash(change.key, change.row);
        rows.sum += next - former;
        if (change.row === null) rows.rows.delete(key);
        else rows.rows.set(key, next);
      }
      rows.history.push({ seq, hash: hashText(rows.sum) });
    }
    const isIndex = new Set(
      body.parts
        .flatMap((part) => (part.kind === "rows" ? part.rows.flatMap((row) => row.indexKeys) : []))
        .map((one) => `${one.space}:${binaryKey(one.key)}`),
    );
    if (entry.transactions.length > 1)
      this.#checkGroup(
        seq,
        uses.filter(({ name }) => !isIndex.has(name)),
      );
    for (const { name, use } of uses) {
      const last = this.#keys.get(name);
      if (last === undefined) continue;
      const newest = use === "exist" ? last.delete : use === "delete" ? Math.max(last.write, last.exist) : last.write;
      check(
        newest <= snapshot,
        "no conflict between snapshot and commit",
        () =>
          `${entry.engine}/${entry.proposalSeq} at ${seq} has snapshot ${snapshot}, and ${Buffer.from(name, "latin1").toString("hex")} (${use}) changed at ${newest}`,
      );
      this.#coverage.count("invariants", "no conflict between snapshot and commit");
    }
    for (const { name, use } of uses) {
      const last = this.#keys.get(name) ?? { write: 0, delete: 0, exist: 0 };
      last[use] = seq;
      // A unique key that enters or leaves counts as both, as for the originators.
      if (use === "delete" || isIndex.has(name)) [last.write, last.delete] = [seq, seq];
      this.#keys.set(name, last);
    }
  }

  /** Else one of them would not have seen what the other did, though both had permission: only parents may be relied on by several. Index keys are left out: one
   * transaction may move a key from row to row. */
  #checkGroup(seq: Seq, uses: readonly { readonly name: string; readonly use: keyof KeyUses }[]): void {
    const seen = new Map<string, keyof KeyUses>();
    for (const { name, use } of uses) {
      const other = seen.get(name);
      const isShared = other === undefined || (use === "exist" && other !== "delete") || (other === "exist" && use === "write");
      check(isShared, "transactions of a group touch different keys", () => `${seq}: ${Buffer.from(name, "latin1").toString("hex")} is used twice`);
      seen.set(name, use);
    }
    this.#coverage.count("invariants", "transactions of a group touch different keys");
  }

  #rowsOf(space: SpaceId): SpaceRows {
    let rows = this.#spaces.get(space);
    if (rows === undefined) {
      rows = { rows: new Map(), sum: 0n, history: [] };
      this.#spaces.set(space, rows);
    }
    return rows;
  }

  #clearSpace(seq: Seq, space: SpaceId): void {
    const rows = this.#spaces.get(space);
    if (rows === undefined) return;
    rows.rows.clear();
    rows.sum = 0n;
    rows.history.push({ seq, hash: hashText(0n) });
  }

  #judgeOwnership(seq: Seq): void {
    const { atoms, members } = this.catalog;
    const hasArchive = [...members.values()].some((member) => member.kind === "archive");
    for (const space of atoms.spaces()) {
      let former: string | null = null;
      for (const atom of atoms.ofSpace(space)) {
        check(
          former === null ? atom.low.length === 0 : former < atom.lowKey,
          "ranges without overlap or gap",
          () => `space ${space} at ${seq}, atom ${atom.id}`,
        );
        former = atom.lowKey;
        const isLive = atom.originator === noEngine ? !hasArchive : members.has(atom.originator);
        check(isLive, "originators are live", () => `atom ${atom.id} of space ${space} at ${seq} is of ${atom.originator}`);
      }
    }
    this.#coverage.count("invariants", "ranges without overlap or gap");
    this.#coverage.count("invariants", "originators are live");
  }

  voters(): readonly NodeId[] {
    return this.catalog.voters;
  }
}
