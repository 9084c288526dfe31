/** What was learned of a statement's text, the least recently used forgotten first. Bounded by count and by the length of the texts. */

export interface BoundedCache<Value> {
  readonly size: number;
  get(sql: string): Value | undefined;
  set(sql: string, value: Value): void;
  clear(): void;
}

/** A text longer than a sixteenth of `charactersMax` is not kept: one bulk insert would push out everything that is used again. */
export function boundedCache<Value>(limits: { readonly entriesMax: number; readonly charactersMax: number }): BoundedCache<Value> {
  // A Map keeps the order of insertion: the first is the least recently used.
  const entries = new Map<string, Value>();
  const textCharactersMax = limits.charactersMax / 16;
  let characters = 0;
  function forget(sql: string): void {
    if (entries.delete(sql)) characters -= sql.length;
  }
  return {
    get size() {
      return entries.size;
    },
    get(sql) {
      const value = entries.get(sql);
      if (value === undefined) return undefined;
      entries.delete(sql);
      entries.set(sql, value);
      return value;
    },
    set(sql, value) {
      forget(sql);
      if (sql.length > textCharactersMax) return;
      entries.set(sql, value);
      characters += sql.length;
      for (const oldest of entries.keys()) {
        if (entries.size <= limits.entriesMax && characters <= limits.charactersMax) break;
        forget(oldest);
      }
    },
    clear() {
      entries.clear();
      characters = 0;
    },
  };
}
