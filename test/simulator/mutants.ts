/**
 * Deliberate bugs, put into the real engines for the time of a seed. Each must be caught by an invariant that knows nothing of it: a simulator
 * that lets one pass would let such a bug of ours pass too.
 */
import { PermissionTable } from "../../src/atoms/permission-table.js";
import { RecentKeys } from "../../src/atoms/recent-keys.js";
import { noSeq } from "../../src/base/ids.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { CatalogPulls } from "../../src/engines/catalog-pulls.js";
import { LowWaterMark } from "../../src/engines/low-water-mark.js";
import { Merges } from "../../src/engines/merges.js";
import { HeldRanges } from "../../src/sql/held-ranges.js";
import { RowHistory } from "../../src/sql/row-history.js";
import type { ProfileName } from "./profiles.js";

export const mutants = [
  /** The journal tells the engine that what it has only queued is durable. */
  "ack-before-fsync",
  /** Votes are answered before they are on the disk, and a crash forgets them. */
  "vote-not-saved",
  /** What a departed engine was granted stays granted. */
  "grant-outlives-leave",
  /** The sequencer orders proposals whose originator has changed. */
  "fence-not-checked",
  /** Originators grant keys that changed since the asker's snapshot. */
  "snapshot-not-checked",
  /** What happens to a space while its catalog is pulled is forgotten. */
  "catalog-entries-not-kept",
  /** Rows that are given up go, but their range still counts as held. */
  "drop-keeps-the-range",
  /** A Cache gives what it has of a range, whether it is all of it or not. */
  "source-gives-what-it-has",
  /** Neighbours with unlike holders are merged: some hold a part of what they count as holders of. */
  "merge-of-unlike-holders",
  /** The sequencer raises the mark to what is committed, and asks nobody for what he reads. */
  "mark-asks-nobody",
  /** What pulled rows were is thrown away, and counts as known. */
  "past-of-pulls-forgotten",
] as const;
export type Mutant = (typeof mutants)[number];

/** The profile that is made for it. */
export const profileOfMutant: Readonly<Record<Mutant, ProfileName>> = {
  "ack-before-fsync": "power",
  "grant-outlives-leave": "originators",
  "fence-not-checked": "originators",
  "vote-not-saved": "elections",
  "snapshot-not-checked": "contention",
  "catalog-entries-not-kept": "catalogs",
  "drop-keeps-the-range": "memory",
  "source-gives-what-it-has": "belated",
  "merge-of-unlike-holders": "catalogs",
  "mark-asks-nobody": "memory",
  "past-of-pulls-forgotten": "snapshots",
};

export function isMutant(name: string): name is Mutant {
  return mutants.includes(name as Mutant);
}

/** `ack-before-fsync` and `vote-not-saved` are the simulated disk's own. Returns what mends it. */
export function withMutant(mutant: Mutant | null): () => void {
  switch (mutant) {
    case "grant-outlives-leave": {
      const { departed } = PermissionTable.prototype;
      PermissionTable.prototype.departed = () => {};
      return () => {
        PermissionTable.prototype.departed = departed;
      };
    }
    case "fence-not-checked": {
      const { objection } = Catalog.prototype;
      Catalog.prototype.objection = function (proposal) {
        const found = objection.call(this, proposal);
        return found === "fence" ? null : found;
      };
      return () => {
        Catalog.prototype.objection = objection;
      };
    }
    case "snapshot-not-checked": {
      const { newerThan } = RecentKeys.prototype;
      RecentKeys.prototype.newerThan = () => noSeq;
      return () => {
        RecentKeys.prototype.newerThan = newerThan;
      };
    }
    case "catalog-entries-not-kept": {
      const { onEntry } = CatalogPulls.prototype;
      CatalogPulls.prototype.onEntry = () => {};
      return () => {
        CatalogPulls.prototype.onEntry = onEntry;
      };
    }
    case "drop-keeps-the-range": {
      const { drop } = HeldRanges.prototype;
      HeldRanges.prototype.drop = () => {};
      return () => {
        HeldRanges.prototype.drop = drop;
      };
    }
    case "source-gives-what-it-has": {
      const { pieceOf } = HeldRanges.prototype;
      HeldRanges.prototype.pieceOf = () => ({ low: "", high: null });
      return () => {
        HeldRanges.prototype.pieceOf = pieceOf;
      };
    }
    case "merge-of-unlike-holders": {
      const { belongTogether } = Merges.prototype;
      const { objection } = Catalog.prototype;
      Merges.prototype.belongTogether = () => true;
      Catalog.prototype.objection = function (proposal) {
        const found = objection.call(this, proposal);
        return found === "stale" && proposal.body.kind === "merge" ? null : found;
      };
      return () => {
        Merges.prototype.belongTogether = belongTogether;
        Catalog.prototype.objection = objection;
      };
    }
    case "mark-asks-nobody": {
      const { next } = LowWaterMark.prototype;
      LowWaterMark.prototype.next = (log, view) => (view.commitSeq > log.mark + 10 ? { kind: "mark", mark: view.commitSeq, timeMs: 0 } : null);
      return () => {
        LowWaterMark.prototype.next = next;
      };
    }
    case "past-of-pulls-forgotten": {
      const { notePull } = RowHistory.prototype;
      RowHistory.prototype.notePull = () => {};
      return () => {
        RowHistory.prototype.notePull = notePull;
      };
    }
    case "ack-before-fsync":
    case "vote-not-saved":
    case null:
      return () => {};
  }
}
