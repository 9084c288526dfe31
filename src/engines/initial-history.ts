/**
 * `--history` of a new database: an Archive has no SQL, so its core proposes what `PRAGMA atomcast.history` would, once, as soon as it may.
 *
 * | what it finds | then |
 * |---|---|
 * | it is no member yet, or what it has proposed is undecided | waits |
 * | the database has the setting | done; another one than was asked for is told to the log |
 * | another engine originates the schema catalog: the database is not new | done; told to the log |
 * | none of these | asks its own desk for the name, and proposes |
 * | that is not granted, or refused | begins again |
 */
import { durationText, historyMsOf, historyObject, historySql } from "../base/history.js";
import { type SpaceId, schemaSpace } from "../base/ids.js";
import { binaryKey } from "../base/key-ranges.js";
import { foldName } from "../catalog/schema-catalog.js";
import { encodeBody, type SchemaObject } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import type { OriginatorDesk } from "./originator-desk.js";
import type { ProposalQueue } from "./proposal-queue.js";

export class InitialHistory {
  readonly #context: CoreContext;
  readonly #desk: OriginatorDesk;
  readonly #proposals: ProposalQueue;
  /** null: there is nothing to do (any more). */
  #wantedMs: number | null;
  #isUnderWay = false;
  /** Of its transactions: an Archive has no others. */
  #count = 0;

  constructor(context: CoreContext, desk: OriginatorDesk, proposals: ProposalQueue, wantedMs: number | null) {
    this.#context = context;
    this.#desk = desk;
    this.#proposals = proposals;
    this.#wantedMs = wantedMs;
  }

  tick(): void {
    const { catalog, engine } = this.#context;
    if (this.#wantedMs === null || this.#isUnderWay || engine === 0) return;
    const wantedMs = this.#wantedMs;
    const key = binaryKey(Buffer.from(foldName(historyObject)));
    const atom = catalog.atoms.at(schemaSpace, key);
    const set = catalog.schema.setting(historyObject);
    if (set !== undefined || atom?.originator !== engine) {
      this.#wantedMs = null;
      if (set !== undefined && historyMsOf(set) === wantedMs) return;
      const history = set === undefined ? "none" : durationText(historyMsOf(set));
      this.#context.log("warn", "--history is for a new database: this one keeps its own until PRAGMA atomcast.history changes it", { history });
      return;
    }
    this.#isUnderWay = true;
    const transaction = ++this.#count;
    const fence = { atom: atom.id, originator: engine, ownershipVersion: atom.ownershipVersion };
    const snapshot = this.#context.appliedSeq;
    const age = { beginMs: this.#context.nowMs, engine, counter: transaction };
    const items = [{ space: schemaSpace, key, use: "write" }] as const;
    const request = { engine, transaction, attempt: 1, age, snapshot, items, wholeSpaces: [], holdsNothing: true };
    const body = encodeBody({ kind: "transaction", exists: [], parts: [ddlOf(wantedMs)] });
    const again = (): void => {
      this.#desk.release(engine, transaction, 1);
      this.#isUnderWay = false;
    };
    this.#desk.ask(request, [fence], (outcome) => {
      if (outcome.kind !== "granted") again();
      else this.#proposals.join({ transaction, snapshot, fences: [fence], schemaVersions: [], body, mayJoin: false, onDecided: again });
    });
  }
}

function ddlOf(ms: number) {
  const sql = historySql(ms);
  const names = { type: "setting", name: historyObject, tableName: historyObject } as const;
  const object: SchemaObject = { ...names, sql, space: 0 as SpaceId, columns: [], uniques: [], indexed: [] };
  return { kind: "ddl", sql, upserts: [object], drops: [], touchedTables: [], newAtoms: [] } as const;
}
