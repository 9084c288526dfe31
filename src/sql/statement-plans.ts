/**
 * Statements made ready to run: classified, rewritten for ids, prepared, and with every table that they can touch (plan/program-uses.ts) and what
 * of each must be here (plan/pull-plan.ts).
 */
import type { Database, Statement } from "better-sqlite3";
import type { SqlValue } from "../base/values.js";
import type { LocalForeignKey, LocalSchema, LocalTable } from "./local-schema.js";
import type { ResultSet, SqlFault, StatementArgs } from "./local-store.js";
import { boundedCache } from "./parse/bounded-cache.js";
import { classify } from "./parse/classify.js";
import { foldName } from "./parse/names.js";
import { normaliseParameters, type Parameter } from "./parse/normalise-parameters.js";
import { rewriteInsertIds } from "./parse/rewrite-insert-ids.js";
import { isFault } from "./parse/sqlite-grammar.js";
import type { ReadStatement, References, StatementInfo, WriteStatement } from "./parse/statement-info.js";
import { type Uses, usesOf } from "./plan/program-uses.js";
import { pullsOf } from "./plan/pull-plan.js";
import { isJoined, type TablePull } from "./plan/table-pulls.js";
import { type TriggerNeed, triggerNeedsOf } from "./plan/trigger-needs.js";
import { fault, faultOf, unfitValue } from "./statement-faults.js";
import { tickedSource, tickedStatement } from "./ticked-statement.js";

export type Plan = RunnablePlan | OtherPlan;

/** Not run by SQLite as it is: transaction control, PRAGMAs, DDL. */
export interface OtherPlan {
  readonly kind: "other";
  readonly info: Exclude<StatementInfo, ReadStatement | WriteStatement>;
}

export interface RunnablePlan {
  readonly kind: "runnable";
  readonly info: ReadStatement | WriteStatement;
  readonly statement: Statement<unknown[], SqlValue[]>;
  readonly parameters: readonly Parameter[];
  /** Every parameter takes the next positional value. */
  readonly isPositional: boolean;
  readonly columns: ResultSet["columns"];
  /** Every table that it reads, writes, or needs for constraint checks. */
  readonly tables: readonly LocalTable[];
  /** What of them must be here before it runs. */
  readonly pulls: readonly TablePull[];
  /** Triggers that may fire, of which the run tells what they look rows up by. */
  readonly triggers: readonly TriggerNeed[];
  /** Some of them by the rows of others. */
  readonly hasJoins: boolean;
  readonly written: readonly LocalTable[];
  /** Foreign keys of and to what it writes. */
  readonly foreignKeys: readonly LocalForeignKey[];
  /** A row may be deleted, with all that follows from it, and another one with its key take its place: REPLACE, here or in what it sets off. */
  readonly replaces: boolean;
  /** A row may be passed over where another one has its key: IGNORE or ON CONFLICT, here or in what it sets off. */
  readonly passesOver: boolean;
  /** Rows that it wrote before an error may stay: FAIL, here or in what it sets off. Else what fails is undone as a whole. */
  readonly mayFailInPart: boolean;
  /** It may give many rows. */
  readonly loops: boolean;
  /** It generates ids of the tables that it writes. */
  readonly usesIds: boolean;
  /** last_insert_rowid() must answer for this session before it runs. */
  readonly seedsRowid: boolean;
  /** It changes rows of a view: its triggers take its place, and nothing is counted. */
  readonly isOfView: boolean;
  /** Its inserts set the session's last_insert_rowid(). */
  readonly setsRowid: boolean;
  /** Generation of holds at which every table was found to be held whole. */
  heldAt: number;
  /** Round of `UsedRanges` in which it has noted its tables as used whole. */
  usedIn: number;
}

/** Statements kept ready. */
export const plansMax = 2000;

/** Total length of their texts, in UTF-16 units: the prepared programs are larger, in proportion. */
export const planCharactersMax = 4 * 1024 * 1024;

export interface PlanCache {
  /** For the schema and the foreign-key flag that are in force. */
  get(sql: string, schema: LocalSchema, foreignKeys: boolean): Plan | SqlFault;
  clear(): void;
}

export function planCache(main: Database, mirror: Database): PlanCache {
  const enforced = boundedCache<Plan>({ entriesMax: plansMax, charactersMax: planCharactersMax });
  const unenforced = boundedCache<Plan>({ entriesMax: plansMax, charactersMax: planCharactersMax });
  let generation = -1;
  return {
    get(sql, schema, foreignKeys) {
      if (generation !== schema.generation) {
        enforced.clear();
        unenforced.clear();
        generation = schema.generation;
      }
      const cache = foreignKeys ? enforced : unenforced;
      const known = cache.get(sql);
      if (known !== undefined) return known;
      const plan = makePlan(sql, schema, foreignKeys, main, mirror);
      if (!isFault(plan)) cache.set(sql, plan);
      return plan;
    },
    clear() {
      enforced.clear();
      unenforced.clear();
    },
  };
}

function makePlan(sql: string, schema: LocalSchema, foreignKeys: boolean, main: Database, mirror: Database): Plan | SqlFault {
  const info = classify(sql);
  if (isFault(info)) return info;
  if (info.kind === "refused") return info.fault;
  if (info.kind !== "read" && info.kind !== "write") return { kind: "other", info };
  const normalised = normaliseParameters(sql);
  if (isFault(normalised)) return normalised;
  try {
    return makeRunnable(info, normalised.sql, normalised.parameters, schema, foreignKeys, main, mirror);
  } catch (error) {
    const reason = faultOf(error);
    return info.references.systemTables.length > 0 ? reason : (faultInMirror(mirror, normalised.sql) ?? reason);
  }
}

/** What is wrong with it where there are the user's tables alone. null: nothing. */
function faultInMirror(mirror: Database, sql: string): SqlFault | null {
  try {
    mirror.prepare(sql);
    return null;
  } catch (error) {
    return faultOf(error);
  }
}

function makeRunnable(
  info: ReadStatement | WriteStatement,
  sql: string,
  parameters: readonly Parameter[],
  schema: LocalSchema,
  foreignKeys: boolean,
  main: Database,
  mirror: Database,
): RunnablePlan | SqlFault {
  // The text as the client wrote it comes first, so that its errors are SQLite's.
  let statement = main.prepare<unknown[], SqlValue[]>(sql);
  const rewritten =
    info.kind === "write" && info.verb === "insert"
      ? rewriteInsertIds(sql, (name) => schema.tablesByName.get(foldName(name))?.insertTable ?? null)
      : sql;
  if (rewritten !== sql) statement = main.prepare<unknown[], SqlValue[]>(rewritten);
  const unbound = bindings(parameters, { positional: [], named: [] });
  const nulls = isFault(unbound) ? [] : unbound;
  const use = usesOf(main, rewritten, nulls, schema, info);
  // A name without its schema that only the store's own tables have: in the user's schema there is none, and SQLite says so.
  if (use.elsewhere === "written" || (use.elsewhere === "read" && info.references.systemTables.length === 0)) mirror.prepare(sql);
  const introspects = readsSchema(info.references, schema);
  if (introspects) {
    if (info.kind === "write" || use.read.size > 0) {
      return fault("ATOMCAST_NOT_SUPPORTED", "one statement cannot use both the schema's tables and others: ask for them in two statements");
    }
    statement = mirror.prepare<unknown[], SqlValue[]>(sql);
  }
  // A subquery's text is its column's name, where it has no other: columns are named by the text without ticks.
  const columns = statement.reader ? statement.columns().map((column) => ({ name: column.name, declaredType: column.type })) : [];
  if (info.kind === "write" || info.explain === "no") {
    const database = introspects ? mirror : main;
    const ticked = tickedStatement(database, rewritten, nulls, tickedSource(schema));
    if (ticked !== rewritten) statement = database.prepare<unknown[], SqlValue[]>(ticked);
  }
  const written = [...use.written];
  const tables = new Set([...use.read, ...written]);
  const constraints = foreignKeys ? new Set(written.flatMap((table) => [...table.foreignKeys, ...table.referencedBy])) : new Set<LocalForeignKey>();
  for (const foreignKey of constraints) tables.add(foreignKey.parent).add(foreignKey.child);
  if (statement.reader) statement.raw();
  const needs = use.byTrigger.size === 0 ? null : triggerNeedsOf(main, schema).byName;
  const triggers = [...use.byTrigger.keys()].flatMap((name) => needs?.get(name) ?? []);
  const triggerPulls = (name: string): readonly TablePull[] | null => needs?.get(name)?.pulls ?? null;
  const pulls = use.read.size === 0 && use.written.size === 0 ? [] : pullsOf({ sql, uses: use, schema, foreignKeys, main, triggerPulls });
  const target = info.kind === "write" ? schema.tablesByName.get(foldName(info.table)) : undefined;
  const texts = resolvingTexts(sql, use, schema);
  const mayResolveBy = (word: RegExp): boolean => texts.some((text) => word.test(text));
  return {
    kind: "runnable",
    info,
    statement,
    parameters,
    isPositional: parameters.every((parameter) => parameter.key === null),
    columns,
    tables: [...tables],
    pulls,
    triggers: triggers.filter(({ columns }) => columns.length > 0),
    hasJoins: pulls.some(isJoined),
    written,
    foreignKeys: [...constraints],
    replaces: constraints.size > 0 && mayResolveBy(/\breplace\b/i),
    passesOver: written.length > 0 && mayResolveBy(/\bignore\b|\bconflict\b/i),
    mayFailInPart: constraints.size > 0 && mayResolveBy(/\bfail\b/i),
    loops: use.loops,
    usesIds: use.callsNextId,
    seedsRowid: /last_insert_rowid|\bon\s+conflict\b/i.test(sql) || mayAskForRowid(info, schema),
    isOfView: info.kind === "write" && target === undefined,
    setsRowid: info.kind === "write" && info.verb === "insert" && target !== undefined && target.identity !== "key",
    heldAt: -1,
    usedIn: -1,
  };
}

/** By itself, or through a view. */
function readsSchema(references: References, schema: LocalSchema): boolean {
  const seen = new Set<string>();
  const ahead: References[] = [references];
  for (let one = ahead.pop(); one !== undefined; one = ahead.pop()) {
    if (one.introspects) return true;
    for (const name of one.tables) {
      const object = seen.has(name) ? undefined : schema.objects.get(name)?.object;
      seen.add(name);
      const made = object?.type === "view" ? classify(object.sql) : null;
      if (made !== null && "references" in made) ahead.push(made.references);
    }
  }
  return false;
}

/** Where REPLACE, IGNORE or FAIL may stand: in itself, behind any constraint of a table that it writes, and in any trigger that it may fire. */
function resolvingTexts(sql: string, { written, byTrigger }: Uses, schema: LocalSchema): readonly string[] {
  if (written.size === 0) return [sql];
  const tables = new Set([...written].map(({ name }) => foldName(name)));
  const texts = [sql];
  for (const { object } of schema.objects.values()) {
    const isUsed = object.type === "table" ? tables.has(foldName(object.name)) : object.type === "trigger" && byTrigger.has(foldName(object.name));
    if (isUsed) texts.push(object.sql);
  }
  return texts;
}

/** A view may, and where something is written, a trigger, a default or a CHECK. */
function mayAskForRowid(info: ReadStatement | WriteStatement, schema: LocalSchema): boolean {
  for (const { object } of schema.objects.values())
    if ((info.kind === "write" || object.type === "view") && /last_insert_rowid/i.test(object.sql)) return true;
  return false;
}

/**
 * Arguments in the form that better-sqlite3 takes: those without a name in their order, then an object of the named. What a client leaves
 * out is NULL, as in SQLite; what there is no place for is a fault.
 */
export function bindings(parameters: readonly Parameter[], args: StatementArgs): unknown[] | SqlFault {
  if (args.positional.length > parameters.length) {
    return fault("SQLITE_RANGE", `${args.positional.length} parameter values for a statement with ${parameters.length} parameters`);
  }
  const bound: unknown[] = [];
  const byKey: Record<string, SqlValue> = {};
  let hasKeys = false;
  const byName = args.named.length === 0 ? null : new Map(args.named.map((one) => [one.name, one.value]));
  let matched = 0;
  for (let index = 0; index < parameters.length; index++) {
    const { name, key } = parameters[index] as Parameter;
    let value = args.positional[index] ?? null;
    if (name !== null && byName !== null) {
      const given = byName.get(name) ?? byName.get(name.slice(1));
      if (given !== undefined) {
        value = given;
        matched++;
      }
    }
    const unfit = unfitValue(value);
    if (unfit !== null) return unfit;
    if (key === null) bound.push(value);
    else {
      byKey[key] = value;
      hasKeys = true;
    }
  }
  if (matched < (byName?.size ?? 0)) return unknownName(parameters, args);
  if (hasKeys) bound.push(byKey);
  return bound;
}

function unknownName(parameters: readonly Parameter[], args: StatementArgs): unknown[] | SqlFault {
  const names = new Set(parameters.flatMap(({ name }) => (name === null ? [] : [name, name.slice(1)])));
  const stranger = args.named.find((one) => !names.has(one.name));
  if (stranger !== undefined) return fault("SQLITE_RANGE", `the statement has no parameter named ${stranger.name}`);
  return fault("SQLITE_MISUSE", "a parameter is given twice, with and without its prefix");
}

/** As `bindings`, for the usual statement: one value for each bare `?`, bound as they are. */
export function quickBindings(plan: RunnablePlan, args: StatementArgs): readonly unknown[] | SqlFault {
  if (!plan.isPositional || args.named.length > 0 || args.positional.length !== plan.parameters.length) return bindings(plan.parameters, args);
  for (const value of args.positional) {
    const unfit = unfitValue(value);
    if (unfit !== null) return unfit;
  }
  return args.positional;
}
