/**
 * What a serializable transaction has read, as keys and tables that must be unchanged since its snapshot when it commits (design.md §6). A
 * statement's plan tells what can matter to it (plan/pull-plan.ts); so rows that were not there are among it, and phantoms conflict like changes.
 *
 * | what the plan tells | permission |
 * |---|---|
 * | single keys of rows | each of them, as if it was written: nobody else changes it meanwhile |
 * | keys that the run alone tells, where a row is passed over that has one which is there | the whole table, unchanged |
 * | anything else | the whole table, unchanged |
 *
 * A statement that fails has told its client what stands against it, which its plan need not name: a key that was computed, a parent that is not there. All its
 * tables are read then.
 */
import type { SpaceId } from "../base/ids.js";
import type { BinaryRange } from "../base/key-ranges.js";
import type { PullNeed } from "./local-store.js";
import { neededConstantly } from "./plan/missing-rows.js";
import { isJoined } from "./plan/table-pulls.js";
import type { RunnablePlan } from "./statement-plans.js";
import type { StoreState } from "./store-state.js";
import type { Unit } from "./unit.js";

/** Keys of one table; beyond it the whole table counts as read. */
const readKeysMax = 1000;

export function noteReads(state: StoreState, unit: Unit, plan: RunnablePlan, bound: readonly unknown[]): void {
  if (unit.isolation !== "serializable") return;
  for (const pull of plan.pulls) {
    const { space } = pull.table;
    if (unit.made.has(space) || unit.wholeTables.has(space)) continue;
    const isOpen = isJoined(pull) || pull.byRow.length > 0 || (pull.isTold && plan.passesOver);
    const needs = isOpen ? wholeOf(space) : neededConstantly(state, pull, plan.parameters, bound);
    const keys = unit.readKeys.get(space) ?? new Set();
    const isKnown = needs.every(({ ranges, indexOf }) => indexOf === undefined && ranges?.every(isOneKey) === true);
    for (const { ranges } of isKnown ? needs : []) for (const { low } of ranges ?? []) keys.add(low);
    if (isKnown && keys.size <= readKeysMax) unit.readKeys.set(space, keys);
    else unit.wholeTables.add(space);
  }
}

export function noteFailure(unit: Unit, { tables }: RunnablePlan): void {
  if (unit.isolation !== "serializable") return;
  for (const { space } of tables) if (!unit.made.has(space)) unit.wholeTables.add(space);
}

function wholeOf(space: SpaceId): PullNeed[] {
  return [{ space, ranges: null }];
}

function isOneKey({ low, high }: BinaryRange): boolean {
  return high === `${low}\0`;
}
