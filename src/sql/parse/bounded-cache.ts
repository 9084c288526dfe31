/**
 * What was learned of a statement's text. Bounded by count and by the length of the texts. Two generations: what is used again moves to the young
 * one; when that has half of what is allowed it becomes the old one, and the former old one, unused all the while, is forgotten. A hit
 * in the young one changes nothing: an exact order of use, kept in a full Map, costs thirty times as much.
 */

export interface BoundedCache<Value> {
  readonly size: number;
  get(sql: string): Value | undefined;
  set(sql: string, value: Value): void;
  clear(): void;
}

/** A text longer than a sixteenth of `charactersMax` is not kept: one bulk insert would push out everything that is used again. */
export function boundedCache<Value>(limits: { readonly entriesMax: number; readonly charactersMax: number }): BoundedCache<Value> {
  const textCharactersMax = limits.charactersMax / 16;
  let young = new Map<string, Value>();
  let old = new Map<string, Value>();
  let youngCharacters = 0;
  function keep(sql: string, value: Value): void {
    const characters = young.has(sql) ? 0 : sql.length;
    const full = young.size + 1 > limits.entriesMax / 2 || youngCharacters + characters > limits.charactersMax / 2;
    if (full && characters > 0) {
      old = young;
      young = new Map();
      youngCharacters = 0;
    } else old.delete(sql);
    young.set(sql, value);
    youngCharacters += characters;
  }
  return {
    get size() {
      return young.size + old.size;
    },
    get(sql) {
      const recent = young.get(sql);
      if (recent !== undefined) return recent;
      const value = old.get(sql);
      if (value !== undefined) keep(sql, value);
      return value;
    },
    set(sql, value) {
      if (sql.length <= textCharactersMax) keep(sql, value);
    },
    clear() {
      young = new Map();
      old = new Map();
      youngCharacters = 0;
    },
  };
}
