/** The system tables' rows and the status, as one engine sees them. */
import type { Atom } from "../atoms/atom.js";
import type { SpaceId } from "../base/ids.js";
import { integerOfKey } from "../base/sort-key.js";
import type { SqlValue } from "../base/values.js";
import type { SystemTable, SystemTables } from "../sql/local-store.js";
import { collectorOf, gcRows } from "./collector-report.js";
import type { MemoryStatus, Status } from "./database.js";
import type { EngineCore } from "./engine-core.js";
import { type DatabaseFacts, type EngineSetting, settingColumns, settingRows } from "./setting-rows.js";

type Row = Readonly<Record<string, SqlValue>>;

export function systemTablesOf(core: EngineCore, started: readonly EngineSetting[]): SystemTables {
  return {
    engines: tableOf(engineRows(core)),
    atoms: tableOf(atomRows(core)),
    catalogs: tableOf(catalogRows(core)),
    memory: tableOf(memoryRows(core)),
    gc: tableOf(gcRows(core)),
    pulls: { columns: pullColumns, rows: pullRows(core) },
    links: { columns: linkColumns, rows: linkRows(core) },
    transactions: { columns: transactionColumns, rows: transactionRows(core) },
    settings: { columns: settingColumns, rows: settingRows(started, databaseFacts(core)) },
  };
}

function databaseFacts({ catalog }: EngineCore): DatabaseFacts {
  return { setting: (name) => catalog.schema.setting(name), voters: catalog.voters.length };
}

/** Of rows that are never none. */
function tableOf(rows: readonly Row[]): SystemTable {
  return { columns: Object.keys(rows[0] ?? {}), rows };
}

interface Figures {
  readonly appliedSeq: number;
  readonly commitSeq: number;
  readonly atomsHeld: number;
  readonly sequencer: string;
  readonly hears: string;
  readonly parent: string;
}

function figuresOf(core: EngineCore, endpoint: string): Figures {
  const own = endpoint === core.context.self.endpoint;
  const peer = [...core.peers].find(([at]) => at === endpoint)?.[1];
  return {
    appliedSeq: own ? (core.cache?.local.applied ?? core.archive?.stored ?? 0) : (peer?.appliedSeq ?? 0),
    commitSeq: own ? core.stream.commitSeq : (peer?.commitSeq ?? 0),
    atomsHeld: own ? heldHere(core) : (peer?.atomsHeld ?? 0),
    sequencer: core.context.sequencer ?? "",
    hears: own ? (core.stream.tree.by ?? "") : (peer?.by ?? ""),
    parent: own ? (core.stream.tree.parent ?? "") : (peer?.parent ?? ""),
  };
}

function heldHere(core: EngineCore): number {
  let held = 0;
  for (const atom of core.catalog.atoms.all()) if (isHeldHere(core, atom)) held++;
  return held;
}

function originatedHere(core: EngineCore): number {
  let originated = 0;
  for (const atom of core.catalog.atoms.all()) if (atom.originator === core.engine) originated++;
  return originated;
}

function isHeldHere(core: EngineCore, atom: Atom): boolean {
  if (core.archive !== null) return true;
  return atom.holders.some((holder) => holder.engine === core.engine && holder.state === "ready");
}

function engineRows(core: EngineCore): Row[] {
  return [...core.catalog.members.values()].map((member) => {
    const { appliedSeq, commitSeq, atomsHeld, sequencer } = figuresOf(core, member.endpoint);
    return {
      id: BigInt(member.id),
      kind: member.kind,
      is_sequencer: sequencer === member.endpoint ? 1n : 0n,
      is_voter: core.catalog.voters.includes(member.nodeId) ? 1n : 0n,
      node_id: member.nodeId === 0 ? null : BigInt(member.nodeId),
      pid: BigInt(member.pid),
      endpoint: member.endpoint,
      http: member.http === "-" ? null : member.http,
      applied_seq: BigInt(appliedSeq),
      commit_seq: BigInt(commitSeq),
      atoms_held: BigInt(atomsHeld),
    };
  });
}

function keyText(key: Uint8Array | null): SqlValue {
  if (key === null || key.length === 0) return null;
  return integerOfKey(key) ?? Buffer.from(key).toString("hex");
}

function namesOf(core: EngineCore): Map<SpaceId, string> {
  const names = new Map<SpaceId, string>([[1 as SpaceId, "schema catalog"]]);
  for (const { object } of core.catalog.schema.inOrder()) {
    if (object.space !== 0) names.set(object.space, object.name);
    for (const unique of object.uniques) names.set(unique.space, unique.name);
  }
  return names;
}

function atomRows(core: EngineCore): Row[] {
  const names = namesOf(core);
  const rows: Row[] = [];
  for (const atom of core.catalog.atoms.all()) {
    const name = names.get(atom.space) ?? null;
    rows.push({
      id: BigInt(atom.id),
      kind: atom.space === 1 ? "schema" : atom.indexOf === 0 ? "rows" : "index",
      table_name: atom.indexOf === 0 ? name : (names.get(atom.indexOf) ?? null),
      index_name: atom.indexOf === 0 ? null : name,
      key_low: keyText(atom.low),
      key_high: keyText(core.catalog.atoms.highOf(atom)),
      originator: atom.originator === 0 ? null : BigInt(atom.originator),
      ownership_version: BigInt(atom.ownershipVersion),
      holders: JSON.stringify(atom.holders),
      rows: BigInt(atom.rows),
      bytes: BigInt(atom.bytes),
      held_here: isHeldHere(core, atom) ? 1n : 0n,
    });
  }
  return rows;
}

/** Of record and index catalogs here is what this Cache has needed. */
function catalogRows(core: EngineCore): Row[] {
  const { catalog } = core;
  const { atoms, schema } = catalog;
  const row = (name: string, entries: number, known = entries, table: string | null = null, index: string | null = null): Row => ({
    name,
    table_name: table,
    index_name: index,
    entries: BigInt(entries),
    known_here: BigInt(known),
    held_here: known === entries ? 1n : 0n,
  });
  const ofSpace = (name: string, space: SpaceId, table: string, index: string | null): Row =>
    row(name, atoms.countOf(space), atoms.knownOf(space), table, index);
  const objects = schema.inOrder().map(({ object }) => object);
  const rows = [row("root", catalog.members.size + atoms.total), row("schema", objects.length), row("sequence", schema.tables.size)];
  for (const { type, name, tableName, space, uniques } of objects) {
    if (space !== 0) rows.push(type === "table" ? ofSpace("record", space, name, null) : ofSpace("index", space, tableName, name));
    for (const unique of uniques) rows.push(ofSpace("index", unique.space, name, unique.name));
  }
  return rows;
}

function memoryOf(core: EngineCore): MemoryStatus | null {
  const { cache } = core;
  const { held } = core.catalog.atoms;
  if (cache === null) return null;
  const { budgetBytes, usage, counters } = cache.eviction;
  const pulled = cache.pulls.counters;
  return {
    budgetBytes: Number.isFinite(budgetBytes) ? budgetBytes : null,
    heldBytes: held?.bytes ?? 0,
    heldAtoms: held?.count ?? 0,
    fileBytes: usage.fileBytes,
    fileUsedBytes: usage.usedBytes,
    droppedAtoms: counters.atoms,
    droppedBytes: counters.bytes,
    handedOverAtoms: counters.handedOver,
    refusedDrops: counters.refused,
    exceeded: counters.exceeded,
    knownAtoms: core.catalog.atoms.size,
    forgottenAtoms: cache.catalogEviction.counters.forgotten,
    pulledAtoms: pulled.atoms,
    pulledAgainAtoms: pulled.again,
    pulledBytes: pulled.bytes,
    units: cache.transactions.counters.units,
    unitsThatPulled: cache.transactions.counters.pulled,
  };
}

/** One row: this Cache's. */
function memoryRows(core: EngineCore): Row[] {
  const memory = memoryOf(core);
  if (memory === null) return [];
  const name = (camel: string): string => camel.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return [Object.fromEntries(Object.entries(memory).map(([key, value]) => [name(key), value === null ? null : BigInt(Math.round(value))]))];
}

const transactionColumns = [...["id", "state", "mode", "isolation", "age_ms", "idle_ms", "expires_ms"], ...["snapshot_seq", "rows_written", "bytes"]];

/** Those that clients of this engine have left open, also where a request of theirs is under way. */
function transactionRows(core: EngineCore): Row[] {
  const { nowMs } = core.context;
  const since = (ms: number): bigint => BigInt(Math.round(nowMs - ms));
  return (core.cache?.transactions.listOpen() ?? []).map(({ id, beganMs, idleSinceMs, expiresMs, summary }) => ({
    id: BigInt(id),
    state: idleSinceMs === null ? "running" : "idle",
    mode: summary.mode,
    isolation: summary.isolation,
    age_ms: since(beganMs),
    idle_ms: idleSinceMs === null ? 0n : since(idleSinceMs),
    expires_ms: expiresMs === null ? null : -since(expiresMs),
    snapshot_seq: summary.snapshot === null ? null : BigInt(summary.snapshot),
    rows_written: BigInt(summary.rowsWritten),
    bytes: BigInt(summary.bytes),
  }));
}

const linkColumns = ["from", "to", "kind", "segment", "round_trip_ms", "frames", "repairs", "losses"];

/**
 * Of this engine: from whom it hears the stream, and whom it sends to by unicast. `segment`: the engine whose multicast it is. `frames`: that came here, or
 * went from here; `losses`: numbered ones that did not come, or not in their order; `repairs`: requests that went from here.
 */
function linkRows(core: EngineCore): Row[] {
  const own = core.context.self.endpoint;
  const { by, parent, children, multicasts, links } = core.stream.tree;
  const idOf = (endpoint: string): bigint | null => {
    for (const member of core.catalog.members.values()) if (member.endpoint === endpoint) return BigInt(member.id);
    return null;
  };
  const row = (from: string, to: string | null, kind: string, segment: string | null): Row => {
    const isIn = to === own;
    const link = links.find(({ endpoint }) => endpoint === (isIn ? from : to));
    const isCounted = isIn && by !== "multicast of the sequencer";
    return {
      from: idOf(from),
      to: to === null ? null : idOf(to),
      kind,
      segment: segment === null ? null : idOf(segment),
      round_trip_ms: isIn && isCounted ? (link?.roundTripMs ?? null) : null,
      frames: to === null ? null : BigInt((isIn ? link?.frames : link?.sent) ?? 0),
      repairs: isIn ? BigInt(link?.repairs ?? 0) : null,
      losses: isCounted ? BigInt(link?.losses ?? 0) : null,
    };
  };
  const source = by === "multicast of the sequencer" ? core.context.sequencer : parent;
  const rows: Row[] = [];
  if (by !== null && source !== null) rows.push(row(source, own, by === "unicast" ? "unicast" : "multicast", by === "unicast" ? null : source));
  for (const child of children) rows.push(row(own, child, "unicast", null));
  // To whoever is within hearing.
  if (multicasts) rows.push(row(own, null, "multicast", own));
  return rows;
}

const pullColumns = [
  ...["engine", "kind", "chunks", "bytes", "latency_ms", "busy", "not_held", "silent"],
  ...["given_chunks", "given_bytes", "given_busy", "given_not_held"],
];

/** Of each other member: what this Cache has pulled from it, and what it was given of this Cache's rows. `latency_ms` is as chunks lately took. */
function pullRows(core: EngineCore): Row[] {
  const { cache, catalog } = core;
  if (cache === null) return [];
  return [...catalog.members.values()].flatMap((member): Row[] => {
    if (member.id === core.engine) return [];
    const pulled = cache.pulls.questions.sources.counters.get(member.endpoint);
    const given = cache.rows.given.get(member.endpoint);
    return [
      {
        engine: BigInt(member.id),
        kind: member.kind,
        chunks: BigInt(pulled?.chunks ?? 0),
        bytes: BigInt(pulled?.bytes ?? 0),
        latency_ms: pulled === undefined || pulled.chunks === 0 ? null : pulled.meanMs,
        busy: BigInt(pulled?.busy ?? 0),
        not_held: BigInt(pulled?.notHeld ?? 0),
        silent: BigInt(pulled?.silent ?? 0),
        given_chunks: BigInt(given?.chunks ?? 0),
        given_bytes: BigInt(given?.bytes ?? 0),
        given_busy: BigInt(given?.busy ?? 0),
        given_not_held: BigInt(given?.notHeld ?? 0),
      },
    ];
  });
}

export function statusOf(core: EngineCore, database: string, clusterId: string): Status {
  const { catalog } = core;
  return {
    database,
    clusterId,
    engines: [...catalog.members.values()].map((member) => {
      const { appliedSeq, commitSeq, atomsHeld, sequencer, hears, parent } = figuresOf(core, member.endpoint);
      const { id, kind, pid, endpoint, http } = member;
      return { id, kind, isSequencer: sequencer === endpoint, pid, endpoint, http, appliedSeq, commitSeq, atomsHeld, hears, parent };
    }),
    voters: catalog.voters.map((nodeId) => ({ nodeId, engine: catalog.memberOfNode(nodeId)?.id ?? null })),
    commitSeq: core.stream.commitSeq,
    appliedSeq: core.cache?.local.applied ?? core.archive?.stored ?? 0,
    atomCount: catalog.atoms.total,
    atomsHeldHere: heldHere(core),
    atomsOriginatedHere: originatedHere(core),
    atomChanges: { ...core.context.atomChanges },
    memory: memoryOf(core),
    collector: collectorOf(core),
  };
}
