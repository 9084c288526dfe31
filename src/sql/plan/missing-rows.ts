/**
 * What of a statement's needs is not held here: before it runs by its plan, and behind it by the rows that it touched. A run whose rows are not all
 * here is worth nothing: it is undone, they are pulled, and it runs again, until nothing is missing.
 *
 * A table that is narrowed by another's rows, in a join, waits until those are here; then it is looked for what they tell. So each table of a chain is a
 * round of its own.
 *
 * | label | after the statement, also one that failed | looked for |
 * |-------|-------------------------------------------|------------|
 * | touched | a key that a row had or was given | that key: an unheld row may have it, and SQLite did not see the conflict |
 * | parent | a row that refers to a parent that is not found | the parent's key, or its unique index's range (foreign-keys.ts) |
 * | child | a value that rows could refer to, and that is gone | the range of the child's index |
 * | by row | a trigger fired, whose statements look rows up by what its row has | what that tells of each (trigger-needs.ts) |
 *
 * | label | before the COMMIT of a transaction that was kept open between requests | looked for |
 * |-------|------------------------------------------------------------------------|------------|
 * | written | a key that it wrote in a former run | that key: what the row was before is read then |
 * | checked | tables that its writes needed whole, where constraints wait for the COMMIT | all of them |
 */
import { assert } from "../../base/errors.js";
import type { SpaceId } from "../../base/ids.js";
import { type BinaryRange, rangeOfKey } from "../../base/key-ranges.js";
import type { SqlValue } from "../../base/values.js";
import { type Touches, triggerTouch } from "../capture.js";
import type { LocalForeignKey } from "../local-schema.js";
import type { PullNeed } from "../local-store.js";
import type { Parameter } from "../parse/normalise-parameters.js";
import { isHeldWhole, type StoreState } from "../store-state.js";
import { keyOfValues } from "../stored-rows.js";
import type { Unit } from "../unit.js";
import { joinedValues } from "./joined-values.js";
import { type ConstantSource, joinRanges, type KeySelector, rangesMax, rangesOf, type TypedValue, type ValuesAt } from "./key-selector.js";
import { childRange, parentRange } from "./linked-rows.js";
import type { TablePull } from "./table-pulls.js";
import { selectorsByRow, type TriggerNeed, triggerNeedsOf, valuesOfRow } from "./trigger-needs.js";
import { typedValues } from "./typed-values.js";

type Made = ReadonlySet<SpaceId> | undefined;

type Parts = Pick<TablePull, "table" | "selectors">;

/** `made`: spaces that the unit has made, which nobody else has rows of. */
export function missingBefore(
  state: StoreState,
  pulls: readonly Parts[],
  parameters: readonly Parameter[],
  bound: readonly unknown[],
  made: Made,
): PullNeed[] {
  const needs: PullNeed[] = [];
  const waiting: PullNeed[] = [];
  let typed: TypedValue | null = null;
  for (const pull of pulls) {
    const { space } = pull.table;
    if (isHeldWhole(state, space)) {
      state.used.noteSpace(space);
      continue;
    }
    if (made?.has(space) === true) continue;
    typed ??= typedValues(state.statements);
    const type = typed;
    // Nobody has entries of an index that the unit itself has made.
    if (pull.selectors?.some(({ index }) => index !== null && made?.has(index.space) === true) === true) {
      needs.push({ space, ranges: null });
      continue;
    }
    const valuesAt = valuesOf(state, parameters, bound);
    // A table that is joined to itself is among them: what needs no other rows is asked for first.
    const ready = pull.selectors?.filter((selector) => !areOutersMissing(state, selector, valuesAt, type, made)) ?? null;
    if (ready !== null && ready.length < (pull.selectors?.length ?? 0)) waiting.push({ space, ranges: null });
    needs.push(...missingOf(state, neededRanges({ table: pull.table, selectors: ready }, valuesAt, typed)));
  }
  // What waits for other tables' rows is looked at again when these are here.
  return needs.length === 0 ? waiting : needs;
}

function missingOf(state: StoreState, needed: readonly PullNeed[]): PullNeed[] {
  return needed.flatMap((need) => {
    const ranges = need.ranges === null ? null : unheld(state, need, need.ranges);
    return ranges === null || ranges.length > 0 ? [{ ...need, ranges }] : [];
  });
}

/** Rows of a table that the selector takes values from are not here. */
function areOutersMissing(state: StoreState, selector: KeySelector, valuesAt: ValuesAt, typed: TypedValue, made: Made): boolean {
  return selector.equal.some((sources) =>
    sources.some((source) => {
      if (source.kind !== "joined" || isHeldWhole(state, source.table.space) || made?.has(source.table.space) === true) return false;
      if (source.selector === null || areOutersMissing(state, source.selector, valuesAt, typed, made)) return true;
      const pull = { table: source.table, selectors: [source.selector] };
      return missingOf(state, neededRanges(pull, valuesAt, typed)).length > 0;
    }),
  );
}

/** To be asked for joined values only where the outer rows are here. */
function valuesOf(state: StoreState, parameters: readonly Parameter[], bound: readonly unknown[]): ValuesAt {
  const valuesAt: ValuesAt = (source) =>
    source.kind === "joined" ? joinedValues(state.statements, source, valuesAt) : [sourceValue(source, parameters, bound)];
  return valuesAt;
}

/** As `neededRanges`, of a table that is not narrowed by others. */
export function neededConstantly(state: StoreState, pull: Parts, parameters: readonly Parameter[], bound: readonly unknown[]): PullNeed[] {
  return neededRanges(pull, valuesOf(state, parameters, bound), typedValues(state.statements));
}

/** All that a statement needs of one table, held or not: of its own key space, and of its indexes'. */
export function neededRanges({ table, selectors }: Parts, valuesAt: ValuesAt, typed: TypedValue): PullNeed[] {
  const { space } = table;
  if (selectors === null) return [{ space, ranges: null }];
  const needs: PullNeed[] = [];
  for (const selector of selectors) {
    const ranges = rangesOf(table, selector, valuesAt, typed);
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
export function sourceValue(source: ConstantSource, parameters: readonly Parameter[], bound: readonly unknown[]): SqlValue {
  if (source.kind === "literal") return source.value;
  assert(source.kind === "parameter", "a row's value is known where a trigger fires");
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
    for (const { keyValues } of rows.values()) ranges.push(rangeOfKey(keyOfValues(table, keyValues).toString("latin1")));
    const missing = unheld(state, { space }, ranges);
    if (missing.length > 0) needs.push({ space, ranges: missing });
  }
  return needs;
}

/** Ranges of one table that are gathered before they are joined: a statement may fire a trigger for each of a million rows. */
const gatheredMax = 20 * rangesMax;

/** `raw`: all that the run has called out. `fired`: the triggers of its statement. */
export function missingByTriggers(state: StoreState, raw: readonly (readonly SqlValue[])[], fired: readonly TriggerNeed[], made: Made): PullNeed[] {
  if (fired.length === 0) return [];
  const { byTable } = triggerNeedsOf(state.main, state.schema);
  const typed = typedValues(state.statements);
  const missing = new Map<SpaceId, { readonly need: PullNeed; ranges: BinaryRange[] | null }>();
  for (const [space, kind, place, ...values] of raw) {
    const need = kind === triggerTouch ? byTable.get(Number(space) as SpaceId)?.[Number(place)] : undefined;
    if (need === undefined || !fired.includes(need)) continue;
    const valuesAt = valuesOfRow(need, values);
    for (const pull of need.pulls) {
      const selectors = selectorsByRow(pull);
      const { table } = pull;
      if (selectors.length === 0 || isHeldWhole(state, table.space) || made?.has(table.space) === true) continue;
      const isMade = selectors.some(({ index }) => index !== null && made?.has(index.space) === true);
      for (const one of missingOf(state, neededRanges({ table, selectors: isMade ? null : selectors }, valuesAt, typed))) {
        const known = missing.get(one.space) ?? { need: one, ranges: [] };
        missing.set(one.space, known);
        if (one.ranges === null) known.ranges = null;
        else known.ranges?.push(...one.ranges);
        if (known.ranges !== null && known.ranges.length > gatheredMax) known.ranges = joinRanges(known.ranges);
      }
    }
  }
  return [...missing.values()].map(({ need, ranges }) => ({ ...need, ranges: ranges === null ? null : joinRanges(ranges) }));
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
    const needs = neededRanges(pull, valuesOf(state, parameters, bound), typedValues(state.statements));
    return needs.filter(({ ranges }) => ranges?.length !== 0);
  });
}

/** What of a foreign key's other end is not here: where a parent that was not found may be, or rows that refer to a value which goes. null: nothing. */
export function missingLinked(
  state: StoreState,
  end: "parent" | "child",
  foreignKey: LocalForeignKey,
  values: readonly SqlValue[],
  made: Made,
): PullNeed | null {
  const { space } = foreignKey[end];
  if (isHeldWhole(state, space) || made?.has(space) === true) return null;
  const need = (end === "parent" ? parentRange : childRange)(foreignKey, values, typedValues(state.statements));
  if (need === null || need.ranges === null) return need;
  if (need.indexOf !== undefined && made?.has(need.space) === true) return { space, ranges: null };
  const ranges = unheld(state, need, need.ranges);
  return ranges.length === 0 ? null : { ...need, ranges };
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
