/** A column's affinity, by SQLite's rules over its declared type (https://sqlite.org/datatype3.html §3.1). */

/** `numeric`: INTEGER and NUMERIC, which compare alike. */
export type Affinity = "numeric" | "real" | "text" | "none";

export function affinityOf(declaredType: string, isStrict: boolean): Affinity {
  const type = declaredType.toUpperCase();
  // Only in a STRICT table is ANY a type that changes nothing.
  if (isStrict && type === "ANY") return "none";
  if (type.includes("INT")) return "numeric";
  if (type.includes("CHAR") || type.includes("CLOB") || type.includes("TEXT")) return "text";
  if (type.includes("BLOB") || type === "") return "none";
  if (type.includes("REAL") || type.includes("FLOA") || type.includes("DOUB")) return "real";
  return "numeric";
}
