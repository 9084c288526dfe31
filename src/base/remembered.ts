/**
 * A bounded memory, in two generations: when the young one has half of what may be kept it becomes the old one, and the former old one is forgotten at
 * once. At least the last half of what was set is known. (To delete the oldest of a Map one by one passes all that was deleted before.)
 */
export class Remembered<Name, Value> {
  #young = new Map<Name, Value>();
  #old = new Map<Name, Value>();
  readonly #generationMax: number;

  constructor(countMax: number) {
    this.#generationMax = Math.max(1, Math.floor(countMax / 2));
  }

  get(name: Name): Value | undefined {
    return this.#young.get(name) ?? this.#old.get(name);
  }

  has(name: Name): boolean {
    return this.#young.has(name) || this.#old.has(name);
  }

  /** It is as new, also where it was known. */
  set(name: Name, value: Value): void {
    this.#young.set(name, value);
    if (this.#young.size < this.#generationMax) return;
    this.#old = this.#young;
    this.#young = new Map();
  }

  /** Whether it was known. */
  delete(name: Name): boolean {
    const wasYoung = this.#young.delete(name);
    return this.#old.delete(name) || wasYoung;
  }

  forget(matches: (name: Name) => boolean): void {
    for (const generation of [this.#young, this.#old]) for (const name of generation.keys()) if (matches(name)) generation.delete(name);
  }
}
