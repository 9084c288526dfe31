/**
 * A bounded memory by name, in two generations: when the young one has half of what may be kept it becomes the old one, and the former old one is
 * forgotten at once. At least the last half of what was set is known. (To delete the oldest of a Map one by one passes all that was deleted before.)
 */
export class Remembered<Value> {
  #young = new Map<string, Value>();
  #old = new Map<string, Value>();
  readonly #generationMax: number;

  constructor(countMax: number) {
    this.#generationMax = Math.max(1, Math.floor(countMax / 2));
  }

  get(name: string): Value | undefined {
    return this.#young.get(name) ?? this.#old.get(name);
  }

  has(name: string): boolean {
    return this.#young.has(name) || this.#old.has(name);
  }

  set(name: string, value: Value): void {
    this.#young.set(name, value);
    if (this.#young.size < this.#generationMax) return;
    this.#old = this.#young;
    this.#young = new Map();
  }

  forget(matches: (name: string) => boolean): void {
    for (const generation of [this.#young, this.#old]) for (const name of generation.keys()) if (matches(name)) generation.delete(name);
  }
}
