/**
 * The collector as one engine sees it: the low-water mark, what holds it back, what Archives keep of old versions for that, and what they have swept. Others' figures
 * are as they have announced them: a second old, some seconds without multicast.
 */
import type { SqlValue } from "../base/values.js";
import type { Member } from "../catalog/member.js";
import type { AnnounceMessage } from "../messages/wire/engine-messages.js";
import { noVersions } from "../storage/row-versions.js";
import type { CollectorStatus } from "./database.js";
import type { EngineCore } from "./engine-core.js";

type CollectorFigures = Pick<
  AnnounceMessage,
  | "oldestSnapshot"
  | "versions"
  | "versionBytes"
  | "versionFloor"
  | "sweptVersions"
  | "sweptBytes"
  | "largeValues"
  | "largeValueBytes"
  | "openTransaction"
  | "openMs"
>;

/** Of this engine, as it announces them. */
export function collectorFigures(core: EngineCore): CollectorFigures {
  const { count, bytes, floor, sweptCount, sweptBytes } = core.archive?.versions ?? noVersions;
  const open = core.cache?.transactions.oldestOpen() ?? null;
  return {
    oldestSnapshot: core.stream.oldestSnapshot,
    versions: count,
    versionBytes: bytes,
    versionFloor: floor,
    sweptVersions: sweptCount,
    sweptBytes,
    largeValues: core.archive?.values.count ?? 0,
    largeValueBytes: core.archive?.values.bytes ?? 0,
    openTransaction: open?.id ?? 0,
    openMs: open === null ? 0 : Math.max(0, Math.round(core.context.nowMs - open.beganMs)),
  };
}

interface Heard {
  readonly member: Member;
  /** null: nothing was heard yet. */
  readonly figures: CollectorFigures | null;
  readonly holdsMark: boolean;
}

function heardOf(core: EngineCore): Heard[] {
  const all = [...core.catalog.members.values()].map((member) => {
    const figures = member.endpoint === core.context.self.endpoint ? collectorFigures(core) : core.peers.get(member.endpoint);
    return { member, figures: figures === undefined || figures.oldestSnapshot === 0 ? null : figures };
  });
  const snapshots = all.flatMap(({ figures }) => (figures === null ? [] : [figures.oldestSnapshot]));
  const [oldest, newest] = [Math.min(...snapshots), Math.max(...snapshots)];
  return all.map((one) => ({ ...one, holdsMark: one.figures?.oldestSnapshot === oldest && oldest < newest }));
}

/** `system.gc`. */
export function gcRows(core: EngineCore): Readonly<Record<string, SqlValue>>[] {
  return heardOf(core).map(({ member: { id, kind }, figures, holdsMark }) => {
    const ofArchive = (value: number | undefined): SqlValue => (value === undefined || kind === "cache" ? null : BigInt(value));
    const ofOpen = (value: number | undefined): SqlValue => (value === undefined || figures?.openTransaction === 0 ? null : BigInt(value));
    return {
      engine: BigInt(id),
      kind,
      mark: BigInt(core.catalog.mark),
      oldest_snapshot: figures === null ? null : BigInt(figures.oldestSnapshot),
      holds_mark: holdsMark ? 1n : 0n,
      open_transaction: ofOpen(figures?.openTransaction),
      open_ms: ofOpen(figures?.openMs),
      versions: ofArchive(figures?.versions),
      version_bytes: ofArchive(figures?.versionBytes),
      version_floor: ofArchive(figures?.versionFloor),
      swept_versions: ofArchive(figures?.sweptVersions),
      swept_bytes: ofArchive(figures?.sweptBytes),
      large_values: ofArchive(figures?.largeValues),
      large_value_bytes: ofArchive(figures?.largeValueBytes),
    };
  });
}

export function collectorOf(core: EngineCore): CollectorStatus {
  const heard = heardOf(core);
  const holder = heard.find(({ holdsMark }) => holdsMark);
  const figures = holder?.figures ?? null;
  const isOpen = figures !== null && figures.openTransaction !== 0;
  return {
    mark: core.catalog.mark,
    historyMs: core.catalog.historyMs,
    heldBackBy:
      holder === undefined || figures === null
        ? null
        : {
            engine: holder.member.id,
            snapshot: figures.oldestSnapshot,
            transaction: isOpen ? figures.openTransaction : null,
            openMs: isOpen ? figures.openMs : null,
          },
    archives: heard.flatMap(({ member, figures: of }) => {
      if (member.kind === "cache" || of === null) return [];
      const { versions, versionBytes, versionFloor, sweptVersions, sweptBytes } = of;
      return [{ engine: member.id, versions, versionBytes, versionFloor, sweptVersions, sweptBytes }];
    }),
  };
}
