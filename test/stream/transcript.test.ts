import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runTranscript } from "./transcript.js";

/** ATOMCAST_REWRITE=1 writes what happens into the files: read the difference before you keep it. */
const isRewriting = process.env.ATOMCAST_REWRITE === "1";
const folder = new URL("./transcripts/", import.meta.url);

for (const name of readdirSync(fileURLToPath(folder)).sort()) {
  test(name, () => {
    const file = new URL(name, folder);
    const text = readFileSync(file, "utf8");
    const told = runTranscript(text);
    if (isRewriting) writeFileSync(file, told);
    else expect(told).toBe(text);
  });
}
