/** Whether Caches hold what the catalogs say of them. */
import type { SpaceId } from "../../src/base/ids.js";
import { type BinaryRange, overlap } from "../../src/base/key-ranges.js";
import type { EngineCore } from "../../src/engines/engine-core.js";
import { check } from "./committed-stream.js";
import type { Coverage } from "./coverage.js";
import type { SimulatedProcess } from "./simulated-process.js";

export class HoldingWatch {
  readonly #coverage: Coverage;

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  /**
   * Once the local store has carried out all that was posted: it holds every atom of which this Cache is a ready holder, and nothing of those that it
   * does not hold. Nor may it be told from the catalog only: HeldAtoms, kept up entry by entry, must be what a look through all atoms finds.
   */
  compare(process: SimulatedProcess): void {
    const { core, local } = process;
    if (core === null || local === null || core.engine === 0) return;
    this.#compareHeldAtoms(process, core);
    if (!local.isIdle || local.store.appliedSeq !== core.context.appliedSeq) return;
    for (const space of core.catalog.schema.tables.keys()) this.#compareSpace(process, core, space, local.store.heldHash(space)?.ranges ?? []);
    this.#coverage.count("invariants", "Caches hold what the catalog says");
  }

  #compareHeldAtoms({ name }: SimulatedProcess, core: EngineCore): void {
    const { atoms } = core.catalog;
    let bytes = 0;
    let count = 0;
    for (const atom of atoms.all()) {
      if (atom.indexOf !== 0 || !atom.holders.some(({ engine }) => engine === core.engine)) continue;
      bytes += atom.bytes;
      count++;
    }
    const told = (): string => `${name} counts ${atoms.held?.count} atoms of ${atoms.held?.bytes} bytes as held, which are ${count} of ${bytes}`;
    check(atoms.held?.bytes === bytes && atoms.held.count === count, "Caches hold what the catalog says", told);
  }

  #compareSpace({ name }: SimulatedProcess, core: EngineCore, space: SpaceId, held: readonly BinaryRange[]): void {
    const { atoms } = core.catalog;
    for (const atom of atoms.ofSpace(space)) {
      const range = { low: atom.lowKey, high: atoms.highKeyOf(atom) };
      const state = atom.holders.find(({ engine }) => engine === core.engine)?.state ?? "none";
      const told = (what: string) => (): string =>
        `${name} is ${state} of atom ${atom.id} [${keyText(range.low)}, ${keyText(range.high)}), and its store ${what}`;
      if (state === "ready")
        check(
          held.some((one) => covers(one, range)),
          "Caches hold what the catalog says",
          told("does not hold it"),
        );
      if (state === "none") check(!held.some((one) => overlap(one, range)), "Caches hold what the catalog says", told("holds of it"));
    }
  }
}

function keyText(key: string | null): string {
  return key === null ? "end" : Buffer.from(key, "latin1").toString("hex");
}

function covers(outer: BinaryRange, inner: BinaryRange): boolean {
  return outer.low <= inner.low && (outer.high === null || (inner.high !== null && inner.high <= outer.high));
}
