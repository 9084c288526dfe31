/** Names as SQLite compares and writes them. */

/** ASCII letters to lower case, and no others: SQLite takes É and é, or K and the Kelvin sign, for different names. */
export function foldName(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

export function sameName(a: string, b: string): boolean {
  return a === b || (a.length === b.length && foldName(a) === foldName(b));
}

/** Always in double quotes: right for keywords and any character. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

const rowidNames = new Set(["rowid", "_rowid_", "oid"]);

/** A name that means the rowid unless a column has it. */
export function isRowidName(name: string): boolean {
  return rowidNames.has(foldName(name));
}

/** The name that a token spells: without its quotes, and with doubled ones single. */
export function unquoteName(text: string): string {
  const close = { '"': '"', "`": "`", "'": "'", "[": "]" }[text[0] ?? ""];
  if (close === undefined || text.length < 2) return text;
  const inner = text.slice(1, -1);
  return close === "]" ? inner : inner.replaceAll(close + close, close);
}
