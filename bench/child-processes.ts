/** The processes that the benchmark starts. Whatever happens to the benchmark, they are killed, each by its pid. */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Calls, Reply } from "./load-messages.js";

const alive = new Set<ChildProcess>();

/** How long an engine may take to be ready. Milliseconds. */
const readyTimeoutMs = 30_000;
/** How long a process may take to end by itself. Milliseconds. */
const endTimeoutMs = 10_000;

export interface Child {
  readonly name: string;
  readonly pid: number;
  /** kill -9; resolves when it is gone. */
  kill(): Promise<void>;
  /** Cleanly: engines by SIGTERM, workers by word; by kill -9 where that takes too long. */
  end(): Promise<void>;
}

interface Handle extends Child {
  readonly ended: Promise<void>;
}

export interface EngineChild extends Child {
  /** The line that it says when it is ready. */
  readonly readyLine: string;
}

export interface WorkerChild extends Child {
  ask<K extends keyof Calls>(call: K, asked: Calls[K]["asked"]): Promise<Calls[K]["answered"]>;
}

export function killAll(): void {
  for (const child of alive) child.kill("SIGKILL");
}

process.on("exit", killAll);

function watched(name: string, child: ChildProcess): Handle {
  alive.add(child);
  const ended = new Promise<void>((resolve) => {
    const done = (): void => {
      alive.delete(child);
      resolve();
    };
    child.once("exit", done);
    child.once("error", done);
  });
  return {
    name,
    pid: child.pid ?? 0,
    ended,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    async end() {
      const timer = setTimeout(() => child.kill("SIGKILL"), endTimeoutMs);
      child.kill("SIGTERM");
      await ended;
      clearTimeout(timer);
    },
  };
}

/** `nodeArgs`: for Node itself, such as --cpu-prof. `readyMs`: an Archive that copies a large store takes longer than others. */
export async function startEngine(
  name: string,
  args: readonly string[],
  nodeArgs: readonly string[],
  env: NodeJS.ProcessEnv,
  readyMs = readyTimeoutMs,
): Promise<EngineChild> {
  const command = fileURLToPath(new URL("../src/bin/atomcast.js", import.meta.url));
  const child = spawn(process.execPath, [...nodeArgs, command, ...args], { stdio: ["ignore", "pipe", "inherit"], env });
  const handle = watched(name, child);
  const readyLine = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${name} was not ready within ${readyMs / 1000} s`)), readyMs);
    let text = "";
    child.stdout?.setEncoding("utf8");
    child.stdout?.on("data", (chunk: string) => {
      text += chunk;
      const line = /^ready .*$/m.exec(text)?.[0];
      if (line === undefined || !text.includes("\n")) return;
      clearTimeout(timer);
      resolve(line);
    });
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`${name} ended before it was ready (${signal ?? `code ${code}`})`));
    });
    child.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
  return { ...handle, readyLine };
}

export function startWorker(name: string, nodeArgs: readonly string[], env: NodeJS.ProcessEnv): WorkerChild {
  const child = fork(fileURLToPath(new URL("./load-worker.js", import.meta.url)), [], {
    execArgv: [...nodeArgs],
    env,
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const handle = watched(name, child);
  const waiting = new Map<number, { resolve(answered: unknown): void; reject(error: Error): void }>();
  let lastId = 0;
  child.on("message", (reply: Reply) => {
    const asker = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error !== undefined) asker?.reject(new Error(`${name}: ${reply.error}`));
    else asker?.resolve(reply.answered);
  });
  child.once("exit", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${name} ended (${signal ?? `code ${code}`})`));
    waiting.clear();
  });
  return {
    ...handle,
    ask<K extends keyof Calls>(call: K, asked: Calls[K]["asked"]): Promise<Calls[K]["answered"]> {
      return new Promise((resolve, reject) => {
        const id = ++lastId;
        waiting.set(id, { resolve: (answered) => resolve(answered as Calls[K]["answered"]), reject });
        child.send({ id, call, asked }, (error) => {
          if (error === null) return;
          waiting.delete(id);
          reject(error);
        });
      });
    },
    async end() {
      // An embedded engine leaves its database before its process ends, and a CPU profile is written at a process's own exit only.
      const timer = setTimeout(() => child.kill("SIGKILL"), endTimeoutMs);
      await this.ask("close", null).catch(() => child.kill("SIGKILL"));
      await handle.ended;
      clearTimeout(timer);
    },
  };
}
