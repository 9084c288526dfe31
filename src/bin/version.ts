import { readFileSync } from "node:fs";

/** Of package.json, three folders up from where this is built. */
export const version: string = (JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string }).version;
