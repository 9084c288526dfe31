import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ClusterId, NodeId } from "../../src/base/ids.js";
import { createDataFolder, type FolderIdentity, folderState, openDataFolder } from "../../src/storage/data-folder.js";
import { createKeyFile, keyDirectory, listKeyFiles, loadKeyFile } from "../../src/storage/key-file.js";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "atomcast-folder-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const identity: FolderIdentity = { clusterId: "0123456789abcdef" as ClusterId, database: "shop", nodeId: 4711 as NodeId, founder: true };
const nothing = async (): Promise<void> => {};

/** The storage folder as JavaScript, for a process of its own. */
function compiled(): string {
  const source = resolve(dirname(fileURLToPath(import.meta.url)), "../../src");
  for (const folder of ["base", "storage"]) {
    mkdirSync(join(root, "js", folder), { recursive: true });
    for (const name of readdirSync(join(source, folder))) {
      const text = readFileSync(join(source, folder, name), "utf8");
      const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true };
      writeFileSync(join(root, "js", folder, name.replace(/ts$/, "js")), ts.transpileModule(text, { compilerOptions: options }).outputText);
    }
  }
  writeFileSync(join(root, "js/package.json"), '{"type":"module"}');
  symlinkSync(resolve(source, "../node_modules"), join(root, "js/node_modules"));
  return join(root, "js");
}

/** Runs the script until it has printed a line. */
async function runUntilLine(script: string): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise<string>((resolveLine, reject) => {
    child.stdout?.once("data", (data) => resolveLine(String(data).trim()));
    child.once("exit", (code) => reject(new Error(`the process ended with ${code} before it said a word`)));
  });
  return { child, line };
}

describe("data folder", () => {
  test("is made, opened again, and knows its database", async () => {
    const path = join(root, "deep", "archive");
    expect(await folderState(path)).toBe("absent");
    const made = await createDataFolder(path, identity, async (folder) => {
      expect(await folderState(path)).toBe("unfinished");
      expect(statSync(folder.journalPath).isDirectory() && statSync(folder.atomsPath).isDirectory()).toBe(true);
    });
    await made.close();
    expect(await folderState(path)).toBe("database");
    const opened = await openDataFolder(path, { clusterId: identity.clusterId, database: "shop" });
    expect(opened.identity).toEqual(identity);
    await opened.close();
    await expect(openDataFolder(path, { database: "other" })).rejects.toMatchObject({ code: "ATOMCAST_OTHER_DATABASE" });
    await expect(openDataFolder(path, { clusterId: "00000000000000ff" as ClusterId })).rejects.toMatchObject({ code: "ATOMCAST_OTHER_DATABASE" });
    await expect(createDataFolder(path, identity, nothing)).rejects.toMatchObject({ code: "ATOMCAST_FOLDER_EXISTS" });
  });

  test("what is not ours is left alone, and said to be so", async () => {
    writeFileSync(join(root, "file"), "x");
    await expect(openDataFolder(join(root, "file"))).rejects.toMatchObject({ code: "ATOMCAST_NOT_A_FOLDER" });
    await expect(openDataFolder(join(root, "file", "below"))).rejects.toMatchObject({ code: "ATOMCAST_NOT_A_FOLDER" });
    await expect(openDataFolder(join(root, "absent"))).rejects.toMatchObject({ code: "ATOMCAST_NOT_A_FOLDER" });
    await expect(createDataFolder(root, identity, nothing)).rejects.toMatchObject({ code: "ATOMCAST_NOT_A_FOLDER" });
    expect(readdirSync(root)).toEqual(["file"]);
    mkdirSync(join(root, "newer"));
    writeFileSync(join(root, "newer", "atomcast.json"), JSON.stringify({ format: 2, ...identity }));
    await expect(openDataFolder(join(root, "newer"))).rejects.toMatchObject({ code: "ATOMCAST_NEWER_FORMAT" });
    for (const content of ["{", "{}", JSON.stringify({ format: 1, ...identity, nodeId: 0 })]) {
      writeFileSync(join(root, "newer", "atomcast.json"), content);
      await expect(openDataFolder(join(root, "newer"))).rejects.toMatchObject({ code: "ATOMCAST_NOT_A_FOLDER" });
    }
  });

  test("a making that was cut short is made anew", async () => {
    const path = join(root, "archive");
    const cut = createDataFolder(path, identity, async (folder) => {
      writeFileSync(join(folder.journalPath, "half"), "x");
      throw new Error("cut");
    });
    await expect(cut).rejects.toThrow("cut");
    expect(await folderState(path)).toBe("unfinished");
    await expect(openDataFolder(path)).rejects.toMatchObject({ code: "ATOMCAST_NOT_A_FOLDER" });
    const made = await createDataFolder(path, identity, nothing);
    expect(readdirSync(made.journalPath)).toEqual([]);
    await made.close();
  });

  test("is in use once, however long its path is", async () => {
    const path = join(root, "x".repeat(150));
    const made = await createDataFolder(path, identity, nothing);
    await expect(openDataFolder(path)).rejects.toMatchObject({ code: "ATOMCAST_FOLDER_IN_USE" });
    await made.close();
    for (let round = 0; round < 5; round++) {
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => openDataFolder(path)));
      const opened = results.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      expect(opened.length).toBe(1);
      for (const one of results) if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "ATOMCAST_FOLDER_IN_USE" });
      await opened[0]?.close();
    }
    expect(readdirSync(path).filter((name) => name.startsWith("in-use")).length).toBe(1);
  });

  test("a process that was killed holds no lock", async () => {
    const path = join(root, "archive");
    await (await createDataFolder(path, identity, nothing)).close();
    const module = JSON.stringify(join(compiled(), "storage/data-folder.js"));
    const script = `import { openDataFolder } from ${module};
      const folder = await openDataFolder(${JSON.stringify(path)});
      console.log(folder.identity.database); setInterval(() => {}, 1000);`;
    const { child, line } = await runUntilLine(script);
    expect(line).toBe("shop");
    await expect(openDataFolder(path)).rejects.toMatchObject({ code: "ATOMCAST_FOLDER_IN_USE" });
    const gone = new Promise((resolveExit) => child.once("exit", resolveExit));
    child.kill("SIGKILL");
    await gone;
    await (await openDataFolder(path)).close();
  });
});

describe("key file", () => {
  test("is made once, private, and loaded again", async () => {
    const directory = join(root, "state", "atomcast");
    const made = await createKeyFile("shop", identity.clusterId, directory);
    expect(made.path).toBe(join(directory, "0123456789abcdef.key"));
    expect(statSync(made.path).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(await loadKeyFile(made.path)).toEqual(made);
    expect(made.secret.length).toBe(32);
    await expect(createKeyFile("shop", identity.clusterId, directory)).rejects.toMatchObject({ code: "ATOMCAST_KEY_EXISTS" });
    expect(readdirSync(directory)).toEqual(["0123456789abcdef.key"]);
  });

  test("is found by its database's name", async () => {
    expect(await listKeyFiles("shop", join(root, "absent"))).toEqual([]);
    for (const [name, id] of [
      ["shop", "1"],
      ["shop", "2"],
      ["bank", "3"],
    ] as const)
      await createKeyFile(name, id.repeat(16) as ClusterId, root);
    writeFileSync(join(root, "junk.key"), "junk", { mode: 0o600 });
    expect((await listKeyFiles("shop", root)).map((key) => key.clusterId)).toEqual(["1".repeat(16), "2".repeat(16)]);
    expect((await listKeyFiles(null, root)).length).toBe(3);
  });

  test("that others can read, or that is none, is refused", async () => {
    const { path } = await createKeyFile("shop", identity.clusterId, root);
    chmodSync(path, 0o640);
    await expect(loadKeyFile(path)).rejects.toMatchObject({ code: "ATOMCAST_KEY_EXPOSED", message: expect.stringContaining("chmod 600") });
    await expect(listKeyFiles("shop", root)).rejects.toMatchObject({ code: "ATOMCAST_KEY_EXPOSED" });
    await expect(loadKeyFile(join(root, "absent"))).rejects.toMatchObject({ code: "ATOMCAST_NO_KEY" });
    await expect(loadKeyFile(root)).rejects.toMatchObject({ code: "ATOMCAST_BAD_KEY" });
    const contents = ["{", "[]", JSON.stringify({ format: 1, database: "shop", clusterId: identity.clusterId, secret: "AAAA" })];
    for (const content of contents) {
      writeFileSync(join(root, "bad"), content, { mode: 0o600 });
      await expect(loadKeyFile(join(root, "bad"))).rejects.toMatchObject({ code: "ATOMCAST_BAD_KEY" });
    }
    writeFileSync(join(root, "bad"), '{"format":2}');
    await expect(loadKeyFile(join(root, "bad"))).rejects.toMatchObject({ code: "ATOMCAST_NEWER_FORMAT" });
    expect(existsSync(path)).toBe(true);
  });

  test("is below XDG_STATE_HOME, or ~/.local/state", () => {
    expect(keyDirectory({ XDG_STATE_HOME: "/var/state" })).toBe("/var/state/atomcast");
    expect(keyDirectory({ XDG_STATE_HOME: "relative" })).toMatch(/\.local\/state\/atomcast$/);
    expect(keyDirectory({})).toMatch(/\.local\/state\/atomcast$/);
  });
});
