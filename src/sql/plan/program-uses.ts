/**
 * What a statement's program opens, as EXPLAIN lists it: views, triggers and foreign-key actions with it. Whatever the text says, nothing that
 * runs is left out. The main program comes first, then each subprogram, from address 0 again; a trigger's begins with its name, an action's
 * has none. Capture triggers look only at rows that the planner knows of (keys, and equal values of unique indexes).
 */
import type { Database } from "better-sqlite3";
import type { LocalSchema, LocalTable } from "../local-schema.js";
import { foldName } from "../parse/names.js";
import type { StatementInfo } from "../parse/statement-info.js";

export interface Uses {
  readonly read: ReadonlySet<LocalTable>;
  readonly written: ReadonlySet<LocalTable>;
  /** By the main program, reading or writing: what the text names, and the other tables of foreign keys. */
  readonly named: ReadonlySet<LocalTable>;
  /** By users' triggers. */
  readonly triggered: ReadonlySet<LocalTable>;
  /** By each of those that may fire, by its folded name. */
  readonly byTrigger: ReadonlyMap<string, ReadonlySet<LocalTable>>;
  /** By foreign-key actions. */
  readonly acted: ReadonlySet<LocalTable>;
  readonly callsNextId: boolean;
  readonly loops: boolean;
  /** Tables of other schemas than the user's: system tables, and the store's own. */
  readonly elsewhere: "nothing" | "read" | "written";
}

/** An operand of OpenRead and OpenWrite is a register, not a page (OPFLAG_P2ISREG): only in programs of DDL. */
const pageIsRegister = 0x10;

type Instruction = readonly [address: number, opcode: string, p1: number, p2: number, p3: number, p4: string | null, p5: number];

const triggerName = /^-- TRIGGER (.*)$/s;
const capturePrefix = "_capture_";

export function usesOf(main: Database, sql: string, nulls: readonly unknown[], schema: LocalSchema, info: StatementInfo | null): Uses {
  const read = new Set<LocalTable>();
  const written = new Set<LocalTable>();
  const named = new Set<LocalTable>();
  const byTrigger = new Map<string, Set<LocalTable>>();
  const acted = new Set<LocalTable>();
  let callsNextId = false;
  let loops = false;
  let elsewhere: Uses["elsewhere"] = "nothing";
  // What EXPLAIN itself tells needs no rows.
  if (info?.kind === "read" && info.explain !== "no")
    return { read, written, named, triggered: new Set(), byTrigger, acted, callsNextId, loops, elsewhere };
  const program = main
    .prepare<unknown[], Instruction>(`EXPLAIN ${sql}`)
    .raw()
    // A program has many instructions, and its operands have 32 bits.
    .safeIntegers(false)
    .all(...nulls);
  /** Where the section's tables are noted. null: capture's. */
  let section: Set<LocalTable> | null = named;
  const note = (set: Set<LocalTable>, page: number): void => {
    const table = schema.tablesByRoot.get(page);
    if (table === undefined) return;
    set.add(table);
    section?.add(table);
  };
  for (const [index, [address, opcode, p1, p2, p3, p4, p5]] of program.entries()) {
    if (address === 0 && index > 0) {
      const name = triggerName.exec(p4 ?? "")?.[1];
      const isCapture = name?.startsWith(capturePrefix) === true && !schema.objects.has(foldName(name));
      section = isCapture ? null : name === undefined ? acted : triggerSection(byTrigger, name);
    }
    switch (opcode) {
      case "OpenRead":
      case "ReopenIdx":
        if (p3 === 0 && (p5 & pageIsRegister) === 0) note(read, p2);
        else if (p3 !== 0 && section !== null && elsewhere === "nothing") elsewhere = "read";
        break;
      case "OpenWrite":
        if (p3 === 0 && (p5 & pageIsRegister) === 0) note(written, p2);
        else if (p3 !== 0 && section !== null) elsewhere = "written";
        break;
      case "Clear":
        if (p2 === 0) note(written, p1);
        else if (section !== null) elsewhere = "written";
        break;
      case "Function":
      case "PureFunc":
        if (p4?.startsWith("_nid(")) callsNextId = true;
        break;
      case "Next":
      case "Prev":
      case "SorterNext":
      case "VNext":
        loops = true;
        break;
      default:
    }
  }
  const triggered = new Set([...byTrigger.values()].flatMap((tables) => [...tables]));
  return { read, written, named, triggered, byTrigger, acted, callsNextId, loops, elsewhere };
}

/** A trigger has a program for each way in which conflicts are resolved. */
function triggerSection(byTrigger: Map<string, Set<LocalTable>>, name: string): Set<LocalTable> {
  const folded = foldName(name);
  const known = byTrigger.get(folded) ?? new Set<LocalTable>();
  byTrigger.set(folded, known);
  return known;
}
