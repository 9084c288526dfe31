/**
 * Real engines for a test: processes of the built command (`npm run build` first) in surroundings of their own, a temporary directory, a state
 * directory and a database name that no other test has. Whatever happens, all of them are gone when the test is over; when it fails, what they
 * said last is told.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFailed, onTestFinished } from "vitest";

export const command = fileURLToPath(new URL("../../dist/src/bin/atomcast.js", import.meta.url));

/** A process that says nothing for this long is stuck: the slowest start, an Archive's snapshot on two busy cores, takes a few seconds. */
const readyMs = 30_000;
/** Longer than a Cache and an Archive may take for their LEAVEs. */
const exitMs = 20_000;
/** Of each process's stderr this much of the end is kept. */
const keptChars = 256 * 1024;
const toldLines = 25;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One running command. */
export interface Running {
  readonly name: string;
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly isRunning: boolean;
  kill(signal: NodeJS.Signals): void;
  /** When it has ended; fails where that takes too long. */
  ended(withinMs?: number): Promise<Exit>;
  /** The first match in what it has written to stdout, waited for; fails when it ends first or takes too long. */
  says(pattern: RegExp, withinMs?: number): Promise<RegExpExecArray>;
}

export interface Engine extends Running {
  readonly kind: "archive" | "cache";
  /** As it was at start; an engine that was evicted and came back has another. */
  readonly id: number;
  /** Where clients reach a Cache; "-" for an Archive. */
  readonly url: string;
  /** The same engine again, once this one has ended: an Archive on its folder, a Cache at its port. */
  restart(): Promise<Engine>;
}

export interface Finished extends Exit {
  readonly stdout: string;
  readonly stderr: string;
}

export interface Site {
  readonly directory: string;
  readonly database: string;
  readonly environment: NodeJS.ProcessEnv;
  /** Starts a command and waits for nothing. */
  spawn(name: string, args: readonly string[], extra?: NodeJS.ProcessEnv): Running;
  /** Starts another program, in the site's surroundings. */
  spawnProgram(name: string, program: string, args: readonly string[]): Running;
  /** Runs a command to its end. */
  run(args: readonly string[], extra?: NodeJS.ProcessEnv): Promise<Finished>;
  /** The first Archive of a site makes the database. */
  archive(name: string, args?: readonly string[]): Promise<Engine>;
  cache(name: string, args?: readonly string[]): Promise<Engine>;
}

/** What engines reach each other by. `npm run test:unicast` sets the variable, and so runs all tests without multicast. */
export type SiteNetwork = "multicast" | "unicast";
export const siteNetwork: SiteNetwork = process.env.ATOMCAST_TEST_NETWORK === "unicast" ? "unicast" : "multicast";
export const bothNetworks: readonly SiteNetwork[] = ["multicast", "unicast"];

/** To be called within a test, whose end it sees to. */
export function openSite(network = siteNetwork): Site {
  if (!existsSync(command)) throw new Error(`${command} is not there: npm run build`);
  const directory = mkdtempSync(join(tmpdir(), "atomcast-e2e-"));
  const database = `e2e-${randomBytes(6).toString("hex")}`;
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ATOMCAST_")));
  const state = join(directory, "state");
  // What a killed Cache leaves in its folder for temporary files goes with the site.
  const temporary = join(state, "tmp");
  mkdirSync(temporary, { recursive: true });
  const environment = { ...inherited, XDG_STATE_HOME: state, TMPDIR: temporary, ATOMCAST_DATABASE: database, NO_COLOR: "1" };
  const processes: Running[] = [];
  /** Of the Archives: without multicast, engines are told where they are. */
  const contacts: string[] = [];
  let hasArchive = false;

  onTestFailed(() => {
    for (const one of processes) process.stderr.write(`\n--- ${describe(one)}\n`);
  });
  onTestFinished(async () => {
    for (const one of processes) one.kill("SIGKILL");
    await Promise.all(processes.map((one) => one.ended()));
    rmSync(directory, { recursive: true, force: true });
  });

  const start = (name: string, args: readonly string[], extra: NodeJS.ProcessEnv = {}): Running => {
    const unicast = network === "unicast" ? { ATOMCAST_NO_MULTICAST: "1", ATOMCAST_JOIN: contacts.join(",") } : {};
    const running = spawnCommand(name, args, { ...environment, ...unicast, ...extra });
    processes.push(running);
    return running;
  };

  const engine = async (kind: Engine["kind"], name: string, args: readonly string[]): Promise<Engine> => {
    const running = start(name, args);
    const [, id, url = ""] = await running.says(new RegExp(`^ready ${kind} id=(\\d+) pid=${running.pid} http=(\\S+)$`, "m"));
    return Object.assign(running, {
      kind,
      id: Number(id),
      url,
      restart: async () => {
        await running.ended();
        return engine(kind, name, kind === "cache" ? withHttp(args, url) : args.filter((arg) => arg !== "--create"));
      },
    });
  };

  return {
    directory,
    database,
    environment,
    spawn: start,
    spawnProgram: (name, program, args) => {
      const running = spawnProgram(name, program, args, environment);
      processes.push(running);
      return running;
    },
    run: async (args, extra) => {
      const running = start(args[0] ?? "", args, extra);
      const exit = await running.ended(60_000);
      return { ...exit, stdout: running.stdout, stderr: running.stderr };
    },
    archive: async (name, args = []) => {
      const create = hasArchive ? [] : ["--create"];
      hasArchive = true;
      const port = network === "unicast" ? await freePort() : 0;
      if (port !== 0) contacts.push(`127.0.0.1:${port}`);
      return engine("archive", name, ["archive", "--data", join(directory, name), "--port", String(port), ...create, ...args]);
    },
    cache: (name, args = []) => engine("cache", name, ["cache", ...args]),
  };
}

/** Of an Archive that has stopped. Its lock, which is a socket, stays behind. */
export function copyFolder(from: string, to: string): void {
  cpSync(from, to, { recursive: true, filter: (path) => !/in-use-\d+$/.test(path) });
}

/** A port of loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function withHttp(args: readonly string[], url: string): string[] {
  const at = args.indexOf("--http");
  const others = at < 0 ? [...args] : [...args.slice(0, at), ...args.slice(at + 2)];
  return [...others, "--http", url.slice("http://".length)];
}

function describe(one: Running): string {
  const lines = one.stderr.trimEnd().split("\n");
  return [`${one.name} (pid ${one.pid}, ${one.isRunning ? "running" : "ended"})`, one.stdout.slice(-2000).trimEnd(), ...lines.slice(-toldLines)].join(
    "\n",
  );
}

function spawnCommand(name: string, args: readonly string[], env: NodeJS.ProcessEnv): Running {
  return spawnProgram(name, process.execPath, [command, ...args], env);
}

function spawnProgram(name: string, program: string, args: readonly string[], env: NodeJS.ProcessEnv): Running {
  const child: ChildProcess = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  let exit: Exit | null = null;
  const watchers = new Set<() => void>();
  const tell = (): void => {
    for (const watcher of [...watchers]) watcher();
  };
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout = (stdout + chunk.toString()).slice(-keptChars);
    tell();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-keptChars);
  });
  // "close": its output has been read to the end.
  child.on("close", (code, signal) => {
    exit = { code, signal };
    tell();
  });
  child.on("error", (error) => {
    stderr += error.message;
    exit ??= { code: null, signal: null };
    tell();
  });

  /** Resolves with what `look` finds, looked for whenever something happens. */
  const until = <T>(look: () => T | null, withinMs: number, what: string): Promise<T> =>
    new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        watchers.delete(watcher);
        act();
      };
      const fail = (why: string): void => settle(() => reject(new Error(`${what}: ${why}\n${describe(running)}`)));
      const watcher = (): void => {
        const found = look();
        if (found !== null) settle(() => resolve(found));
        else if (exit !== null) fail(`it ended first (${exit.signal ?? `code ${exit.code}`})`);
      };
      const timer = setTimeout(() => fail(`not within ${withinMs} ms`), withinMs);
      watchers.add(watcher);
      watcher();
    });

  const running: Running = {
    name,
    pid: child.pid ?? 0,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    get isRunning() {
      return exit === null;
    },
    kill: (signal) => {
      if (exit === null) child.kill(signal);
    },
    ended: (withinMs = exitMs) => until(() => exit, withinMs, `the end of ${name}`),
    says: (pattern, withinMs = readyMs) => until(() => pattern.exec(stdout), withinMs, `${pattern} of ${name}`),
  };
  return running;
}
