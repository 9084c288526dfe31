/**
 * What of a statement's needs is not held here: before it runs by its plan, and behind it by the rows that it touched. A run whose rows are not all
 * here is worth nothing: it is undone, they are pulled, and it runs again, until nothing is missing.
 *
 * | label | after the statement, also one that failed | looked for |
 * |-------|-------------------------------------------|------------|
 * | touched | a key that a row had or was given | that key: an unheld row may have it, and SQLite did not see the conflict |
 * | parent | a row that refers to a parent that is not found | the parent's key (foreign-keys.ts) |
 *
 * | label | before the COMMIT of a transaction that was kept open between requests | looked for |
 * |-------|------------------------------------------------------------------------|------------|
 * | written | a key that it wrote in a former run | that key: what the row was before is read then |
 * | checked | tables that its writes needed whole, where constraints wait for the COMMIT | all of them |
 */
import type { SpaceId } from "../../base/ids.js";
import { encodeSortKeyOf } from "../../base/sort-key.js";
import type { SqlValue } from "../../base/values.js";
import type { Touches } from "../capture.js";
import type { LocalForeignKey } from "../local-schema.js";
import type { BinaryRange, PullNeed } from "../local-store.js";
import { foldName } from "../parse/names.js";
import type { Parameter } from "../parse/normalise-parameters.js";
import { isHeldWhole, type StoreState } from "../store-state.js";
import { keyOfValues } from "../stored-rows.js";
import type { Unit } from "../unit.js";
import { joinRanges, keyRange, rangesOf, type TypedValue, type ValueSource } from "./key-selector.js";
import type { TablePull } from "./pull-plan.js";
import { typedValues } from "./typed-values.js";

type Made = ReadonlySet<SpaceId> | undefined;

/** `made`: spaces that the unit has made, which nobody else has rows of. */
export function missingBefore(
  state: StoreState,
  pulls: readonly TablePull[],
  parameters: readonly Parameter[],
  bound: readonly unknown[],
  made: Made,
): PullNeed[] {
  const needs: PullNeed[] = [];
  let typed: TypedValue | null = null;
  for (const pull of pulls) {
    const { space } = pull.table;
    if (isHeldWhole(state, space)) {
      state.used.noteSpace(space);
      continue;
    }
    if (made?.has(space) === true) continue;
    typed ??= typedValues(state.statements);
    // Nobody has entries of an index that the unit itself has made.
    if (pull.selectors?.some(({ index }) => index !== null && made?.has(index.space) === true) === true) {
      needs.push({ space, ranges: null });
      continue;
    }
    const needed = neededRanges(pull, (source) => sourceValue(source, parameters, bound), typed);
    for (const need of needed) {
      const ranges = need.ranges === null ? null : unheld(state, need, need.ranges);
      if (ranges === null || ranges.length > 0) needs.push({ ...need, ranges });
    }
  }
  return needs;
}

/** All that a statement needs of one table, held or not: of its own key space, and of its indexes'. */
export function neededRanges({ table, selectors }: TablePull, value: (source: ValueSource) => SqlValue, typed: TypedValue): PullNeed[] {
  const { space } = table;
  if (selectors === null) return [{ space, ranges: null }];
  const needs: PullNeed[] = [];
  for (const selector of selectors) {
    const ranges = rangesOf(table, selector, value, typed);
    if (ranges === null) return [{ space, ranges: null }];
    needs.push(selector.index === null ? { space, ranges } : { space: selector.index.space, ranges, indexOf: space });
  }
  return needs.length < 2 ? needs : joinNeeds(needs);
}

function unheld(state: StoreState, { space, indexOf }: Omit<PullNeed, "ranges">, ranges: readonly BinaryRange[]): BinaryRange[] {
  const held = state.held.get(space);
  // Which atoms of the table a range of an index stands for is not looked up each time.
  if (indexOf !== undefined) state.used.noteSpace(indexOf);
  else state.used.note(space, ranges);
  return joinRanges(held === undefined ? ranges : ranges.filter((range) => !held.holds(range)));
}

/** Of `bindings`: values by place, then an object of those by name. */
export function sourceValue(source: ValueSource, parameters: readonly Parameter[], bound: readonly unknown[]): SqlValue {
  if (source.kind === "literal") return source.value;
  const key = parameters[source.number - 1]?.key ?? null;
  if (key !== null) return ((bound.at(-1) as Readonly<Record<string, SqlValue>>)[key] ?? null) as SqlValue;
  let place = source.number - 1;
  for (let before = place - 1; before >= 0; before--) if (parameters[before]?.key != null) place--;
  return (bound[place] ?? null) as SqlValue;
}

export function missingTouched(state: StoreState, touches: Touches, made: Made): PullNeed[] {
  const needs: PullNeed[] = [];
  for (const [space, { rows }] of touches) {
    const table = state.schema.tables.get(space);
    if (table === undefined || isHeldWhole(state, space) || made?.has(space) === true) continue;
    const ranges: BinaryRange[] = [];
    for (const { keyValues } of rows.values()) ranges.push(keyRange(keyOfValues(table, keyValues).toString("latin1")));
    const missing = unheld(state, { space }, ranges);
    if (missing.length > 0) needs.push({ space, ranges: missing });
  }
  return needs;
}

export function missingAtCommit(state: StoreState, unit: Unit): PullNeed[] {
  const needs = unit.segments.flatMap((segment) => (segment.kind === "rows" ? missingTouched(state, segment.touches, unit.made) : []));
  if (unit.deferred.size > 0)
    for (const space of unit.neededWhole)
      if (state.schema.tables.has(space) && !isHeldWhole(state, space) && !unit.made.has(space)) needs.push({ space, ranges: null });
  return needs;
}

/** What is needed, held or not, of tables that are not held whole. */
export function neededInParts(
  state: StoreState,
  pulls: readonly TablePull[],
  parameters: readonly Parameter[],
  bound: readonly unknown[],
  made: Made,
): PullNeed[] {
  return pulls.flatMap((pull): PullNeed[] => {
    const { space } = pull.table;
    if (isHeldWhole(state, space) || made?.has(space) === true) return [];
    const needs = neededRanges(pull, (source) => sourceValue(source, parameters, bound), typedValues(state.statements));
    return needs.filter(({ ranges }) => ranges?.length !== 0);
  });
}

/** Where a parent that was not found may be, though not here. null: it is nowhere. */
export function missingParent(state: StoreState, foreignKey: LocalForeignKey, values: readonly SqlValue[], made: Made): PullNeed | null {
  const { parent, parentKey, parentNames } = foreignKey;
  const { space } = parent;
  if (isHeldWhole(state, space) || made?.has(space) === true) return null;
  if (parentKey?.kind !== "row") return { space, ranges: null };
  const typed = typedValues(state.statements);
  const key: SqlValue[] = [];
  for (const [column, name] of parent.keyNames.entries()) {
    const place = parentNames.findIndex((one) => foldName(one) === foldName(name));
    const value = typed(values[place] ?? null, parent.keyAffinities[column] ?? "none");
    if (value === undefined) return { space, ranges: null };
    if (value === null) return null;
    key.push(value);
  }
  const missing = unheld(state, { space }, [keyRange(encodeSortKeyOf(key, parent.keyOrders).toString("latin1"))]);
  return missing.length > 0 ? { space, ranges: missing } : null;
}

/** One need for each space. */
export function joinNeeds(needs: readonly PullNeed[]): PullNeed[] {
  const bySpace = new Map<SpaceId, PullNeed>();
  for (const need of needs) {
    const known = bySpace.get(need.space)?.ranges;
    const ranges = known === undefined ? need.ranges : known === null || need.ranges === null ? null : [...known, ...need.ranges];
    bySpace.set(need.space, { ...need, ranges });
  }
  return [...bySpace.values()].map((need) => ({ ...need, ranges: need.ranges === null ? null : joinRanges(need.ranges) }));
}
