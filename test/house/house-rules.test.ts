/** The house's rules as data: which folder may import which, no cycles, what pure code may not touch. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../src", import.meta.url));

/** Longest match wins. What a folder may import besides itself. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  "messages/wire": ["base"],
  "messages/stream": ["messages/wire", "base"],
  "messages/network": ["messages/wire", "base"],
  atoms: ["messages/wire", "base"],
  catalog: ["atoms", "messages/wire", "base"],
  storage: ["messages/wire", "base"],
  sql: ["messages/wire", "base"],
  engines: ["sql", "storage", "catalog", "atoms", "messages/wire", "messages/stream", "messages/network", "base"],
  servers: ["engines", "sql", "messages/wire", "base"],
  bin: ["servers", "engines", "sql", "storage", "catalog", "atoms", "messages/wire", "messages/stream", "messages/network", "base"],
};

/** Who alone may import a package. */
const ownedPackages: Readonly<Record<string, string>> = { "better-sqlite3": "sql/", lmdb: "storage/", "sqlite3-parser": "sql/parse/" };

/** Files and folders that are pure: no clock, chance, timer, promise, socket or file. */
const pure = [
  "atoms/",
  "catalog/",
  "messages/stream/",
  "messages/wire/",
  "engines/engine-core.ts",
  "engines/core-context.ts",
  "engines/sequencer.ts",
  "engines/originator-desk.ts",
  "engines/proposal-queue.ts",
  "engines/transactions.ts",
  "engines/releases.ts",
  "engines/pull-manager.ts",
  "engines/pull-questions.ts",
  "engines/pull-sources.ts",
  "engines/row-source.ts",
  "engines/eviction.ts",
  "engines/id-blocks.ts",
  "engines/local-driver.ts",
  "engines/archive-side.ts",
  "engines/cache-side.ts",
  "engines/catalog-pulls.ts",
  "engines/catalog-source.ts",
  "engines/joining.ts",
  "engines/announcements.ts",
];
const impure =
  /\bDate\.now\b|\bnew Date\b|\bMath\.random\b|\bsetTimeout\b|\bsetInterval\b|\bsetImmediate\b|\bperformance\.|\basync\b|\bawait\b|\bprocess\./;
const impurePackages = /^node:(?!crypto$|buffer$)/;

const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .sort();
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));

function folderOf(file: string): string {
  const folders = Object.keys(mayImport).filter((folder) => file.startsWith(`${folder}/`));
  return folders.sort((left, right) => right.length - left.length)[0] ?? "?";
}

function importsOf(file: string): string[] {
  const text = sources.get(file) ?? "";
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1] as string);
}

function targetOf(file: string, specifier: string): string {
  return relative(root, resolve(root, dirname(file), specifier)).replace(/\.js$/, ".ts");
}

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");

test("imports go down the list of folders, never up", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const folder = folderOf(file);
    for (const specifier of importsOf(file).filter((one) => one.startsWith("."))) {
      const target = targetOf(file, specifier);
      const other = folderOf(target);
      if (other !== folder && other !== "?" && !(mayImport[folder] ?? []).includes(other)) wrong.push(`${file} imports ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("packages stay behind their one folder", () => {
  const wrong: string[] = [];
  for (const file of files) {
    for (const specifier of importsOf(file)) {
      const owner = ownedPackages[specifier];
      if (owner !== undefined && !file.startsWith(owner)) wrong.push(`${file} imports ${specifier}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("no file is part of a circle of imports", () => {
  const state = new Map<string, "open" | "done">();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      circles.push([...path.slice(path.indexOf(file)), file].join(" > "));
      return;
    }
    state.set(file, "open");
    const text = withoutComments(sources.get(file) ?? "");
    // A type alone is gone at run time.
    const values = [...text.matchAll(/^import\s+(?!type\b)[^;]*?from\s+"(\.[^"]+)"/gm)].map((match) => match[1] as string);
    for (const specifier of values) visit(targetOf(file, specifier), [...path, file]);
    state.set(file, "done");
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test("pure modules touch no clock, chance, timer, promise or file", () => {
  const wrong: string[] = [];
  for (const file of files.filter((one) => pure.some((prefix) => one.startsWith(prefix)))) {
    const found = impure.exec(withoutComments(sources.get(file) ?? ""));
    if (found !== null) wrong.push(`${file}: ${found[0]}`);
    for (const specifier of importsOf(file)) if (impurePackages.test(specifier)) wrong.push(`${file} imports ${specifier}`);
  }
  expect(wrong).toEqual([]);
});

test("no file exports a default, and no folder has a barrel", () => {
  const wrong = files.filter((file) => /^export default\b/m.test(sources.get(file) ?? "") || file.endsWith("/index.ts"));
  expect(wrong).toEqual([]);
});
