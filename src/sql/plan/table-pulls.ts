/** What a statement needs of each table before it runs; what several uses need is united. */
import type { LocalTable } from "../local-schema.js";
import type { KeySelector } from "./key-selector.js";

export interface TablePull {
  readonly table: LocalTable;
  /** Parts that are needed; null: the whole table. */
  readonly selectors: readonly KeySelector[] | null;
  /** Parts that triggers look for by the rows that fire them: what these have, the run tells. Of no account where the whole table is needed. */
  readonly byRow: readonly KeySelector[];
  /** Keys of rows that are put there are computed: only the run tells them. */
  readonly isTold: boolean;
  /** For people: why, of each use that had a say. */
  readonly reasons: readonly string[];
}

/** Some part of it is told by another table's rows. */
export function isJoined({ selectors }: Pick<TablePull, "selectors">): boolean {
  return selectors?.some(({ equal }) => equal.some((sources) => sources.some(({ kind }) => kind === "joined"))) === true;
}

interface Need {
  selectors: KeySelector[] | null;
  readonly byRow: KeySelector[];
  isTold: boolean;
  readonly reasons: Set<string>;
}

export class TablePulls {
  readonly #needs = new Map<LocalTable, Need>();

  list(): TablePull[] {
    return [...this.#needs].map(([table, { reasons, ...need }]) => ({ table, ...need, reasons: [...reasons] }));
  }

  has(table: LocalTable): boolean {
    return this.#needs.has(table);
  }

  /** Of a table that was added. */
  noteTold(table: LocalTable): void {
    const need = this.#needs.get(table);
    if (need !== undefined) need.isTold = true;
  }

  add(table: LocalTable, selectors: readonly KeySelector[] | null, reason: string, byRow: readonly KeySelector[] = []): void {
    let need = this.#needs.get(table);
    if (need === undefined) {
      need = { selectors: [], byRow: [], isTold: false, reasons: new Set() };
      this.#needs.set(table, need);
    }
    if (selectors === null) {
      if (need.selectors !== null) need.reasons.clear();
      need.selectors = null;
    } else {
      need.selectors?.push(...selectors);
      need.byRow.push(...byRow);
    }
    if (selectors === null || need.selectors !== null) need.reasons.add(reason);
  }
}
