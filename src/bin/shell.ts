/**
 * `atomcast sql`: statements from a person, a pipe or the command line to a database over Hrana. All of a shell's statements run on one
 * stream, so transactions and session settings last from one to the next; an interactive shell keeps it alive while its user thinks.
 *
 * Exit codes: 0 all went well; 1 a statement or dot command failed (where nobody is there to correct it, the first failure ends the
 * shell); 2 the server could not be reached.
 */
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { DatabaseError } from "../base/errors.js";
import { type ClientStream, type HranaClient, HranaError, openHranaClient } from "./hrana-client.js";
import { formatError, formatResult, type ShellMode, shellModes } from "./shell-format.js";
import { historyFile, historyLinesMax, openHistory } from "./shell-history.js";
import { createStatementScanner, type StatementScanner } from "./statement-scanner.js";

export interface ShellOptions {
  readonly url: string;
  readonly token?: string | undefined;
  /** Statements and dot commands to run instead of reading any. */
  readonly command?: string | undefined;
  /** Start in mode json. */
  readonly json?: boolean | undefined;
  readonly input: Readable & { readonly isTTY?: boolean };
  readonly output: Writable & { readonly isTTY?: boolean };
  readonly errors: Writable;
  /** Whether a person is typing; by default, whether input and output are a terminal. */
  readonly isInteractive?: boolean;
  /** null: no history. */
  readonly historyFile?: string | null;
}

export type ExitCode = 0 | 1 | 2;

/** Well below the ten seconds after which a server gives up an idle stream, in milliseconds. */
const keepAliveMs = 3_000;

const help = `.help            this text
.tables          tables and views
.schema [NAME]   the SQL that made everything, or NAME and what stands on it
.mode [MODE]     how results are shown: ${shellModes.join(", ")}
.quit            leave (or Ctrl-D)

A statement ends with a semicolon and may take several lines. Ctrl-C gives up what is typed.
`;

interface Shell {
  readonly client: HranaClient;
  readonly stream: ClientStream;
  readonly output: Writable;
  readonly errors: Writable;
  mode: ShellMode;
  /** A statement is on its way. */
  isRunning: boolean;
}

/** What a line led to; "quit" also for .quit. */
type Outcome = { readonly kind: "ok" } | { readonly kind: "quit" } | { readonly kind: "failed"; readonly exitCode: ExitCode };

const ok: Outcome = { kind: "ok" };

export async function runShell(options: ShellOptions): Promise<ExitCode> {
  let client: HranaClient;
  try {
    client = openHranaClient(options.url, options.token === undefined ? {} : { token: options.token });
  } catch (error) {
    if (!(error instanceof HranaError)) throw error;
    options.errors.write(`Error: ${error.message}\n`);
    return 2;
  }
  const shell: Shell = {
    client,
    stream: client.openStream(),
    output: options.output,
    errors: options.errors,
    mode: options.json === true ? "json" : "table",
    isRunning: false,
  };
  try {
    if (options.command !== undefined) return await runScript(shell, options.command.split("\n"));
    const isInteractive = options.isInteractive ?? (options.input.isTTY === true && options.output.isTTY === true);
    if (isInteractive) return await converse(shell, options);
    return await runScript(shell, createInterface({ input: options.input, crlfDelay: Infinity }));
  } finally {
    // An open transaction is rolled back by this; where it cannot be told, by the stream's expiry.
    await shell.stream.close().catch(() => {});
    client.close();
  }
}

async function runScript(shell: Shell, lines: Iterable<string> | AsyncIterable<string>): Promise<ExitCode> {
  const scanner = createStatementScanner();
  for await (const line of lines) {
    const outcome = await runLine(shell, scanner, line);
    if (outcome.kind === "quit") return 0;
    if (outcome.kind === "failed") return outcome.exitCode;
    await drained(shell.output);
  }
  const rest = scanner.takeRest();
  const outcome = rest === "" ? ok : await runStatement(shell, rest);
  return outcome.kind === "failed" ? outcome.exitCode : 0;
}

async function converse(shell: Shell, options: ShellOptions): Promise<ExitCode> {
  const history = openHistory(options.historyFile === undefined ? historyFile() : options.historyFile);
  const scanner = createStatementScanner();
  const terminal = createInterface({
    input: options.input,
    output: options.output,
    terminal: true,
    history: [...history.lines],
    historySize: historyLinesMax,
  });
  options.output.write(`Connected to ${options.url}. Statements end with a semicolon; .help tells more.\n`);
  const timer = setInterval(() => void keepAlive(shell), keepAliveMs);
  terminal.on("SIGINT", () => onInterrupt(shell, scanner, terminal));
  // The input may have ended while its last lines wait to be run: from Node 24 on, who prompts then is told an error.
  let isClosed = false;
  terminal.once("close", () => {
    isClosed = true;
  });
  const prompt = (): void => {
    const text = scanner.isEmpty ? (shell.stream.isAutocommit ? "atomcast> " : "atomcast*> ") : "     ...> ";
    if (isClosed) {
      options.output.write(text);
      return;
    }
    terminal.setPrompt(text);
    terminal.prompt();
  };
  try {
    prompt();
    for await (const line of terminal) {
      history.add(line);
      const outcome = await runLine(shell, scanner, line);
      if (outcome.kind === "quit") break;
      prompt();
    }
  } finally {
    clearInterval(timer);
    terminal.close();
  }
  options.output.write("\n");
  return 0;
}

function onInterrupt(shell: Shell, scanner: StatementScanner, terminal: Interface): void {
  if (shell.isRunning) {
    // Hrana has no cancel: the answer is given up, not the work.
    shell.client.close();
    shell.errors.write("\nGiven up here; the server may yet carry it out.\n");
    return;
  }
  scanner.takeRest();
  terminal.write(null, { ctrl: true, name: "e" });
  terminal.write(null, { ctrl: true, name: "u" });
  shell.output.write("^C\n");
  terminal.setPrompt("atomcast> ");
  terminal.prompt();
}

async function keepAlive(shell: Shell): Promise<void> {
  if (shell.isRunning) return;
  const wasAutocommit = shell.stream.isAutocommit;
  shell.isRunning = true;
  try {
    await shell.stream.keepAlive();
  } catch {
    if (!wasAutocommit) shell.errors.write("\nThe connection was lost, and with it the open transaction: it is rolled back.\n");
  } finally {
    shell.isRunning = false;
  }
}

async function runLine(shell: Shell, scanner: StatementScanner, line: string): Promise<Outcome> {
  if (scanner.isEmpty && line.startsWith(".")) return runDotCommand(shell, line);
  let statements: string[];
  try {
    statements = scanner.push(line);
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    shell.errors.write(`Error: ${error.message} (${error.code})\n`);
    return { kind: "failed", exitCode: 1 };
  }
  for (const statement of statements) {
    const outcome = await runStatement(shell, statement);
    if (outcome.kind === "failed") return outcome;
  }
  return ok;
}

async function runStatement(shell: Shell, sql: string): Promise<Outcome> {
  while (shell.isRunning) await new Promise((resolve) => setTimeout(resolve, 5));
  const wasAutocommit = shell.stream.isAutocommit;
  const startedMs = performance.now();
  shell.isRunning = true;
  try {
    const result = await shell.stream.execute({ sql });
    shell.output.write(formatResult(result, shell.mode, performance.now() - startedMs));
    return ok;
  } catch (error) {
    if (!(error instanceof HranaError)) throw error;
    shell.errors.write(formatError(error, sql));
    if (!wasAutocommit && shell.stream.isAutocommit) shell.errors.write("The open transaction is rolled back.\n");
    return { kind: "failed", exitCode: error.code === "ATOMCAST_UNREACHABLE" ? 2 : 1 };
  } finally {
    shell.isRunning = false;
  }
}

const tablesQuery = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
const schemaQuery = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";

async function runDotCommand(shell: Shell, line: string): Promise<Outcome> {
  const [command = "", argument, ...more] = line.trim().split(/\s+/);
  if (more.length > 0) return refuse(shell, `${command} takes one argument at most`);
  switch (command) {
    case ".help":
      shell.output.write(help);
      return ok;
    case ".quit":
    case ".exit":
      return { kind: "quit" };
    case ".tables":
      return query(shell, tablesQuery, [], ([name, type]) => (type === "view" ? `${name} (view)` : String(name)));
    case ".schema":
      if (argument === undefined) return query(shell, schemaQuery, [], ([sql]) => `${sql};`);
      return query(shell, `${schemaQuery} AND (name = ? COLLATE NOCASE OR tbl_name = ? COLLATE NOCASE)`, [argument, argument], ([sql]) => `${sql};`);
    case ".mode": {
      const mode = shellModes.find((each) => each === argument);
      if (argument !== undefined && mode === undefined) return refuse(shell, `no mode is named ${argument}; there are ${shellModes.join(", ")}`);
      if (mode === undefined) shell.output.write(`${shell.mode}\n`);
      else shell.mode = mode;
      return ok;
    }
    default:
      return refuse(shell, `no command is named ${command}; .help lists them`);
  }
}

function refuse(shell: Shell, why: string): Outcome {
  shell.errors.write(`Error: ${why}.\n`);
  return { kind: "failed", exitCode: 1 };
}

/** On the shell's stream, so that an open transaction sees what it made. */
async function query(shell: Shell, sql: string, args: readonly string[], show: (row: readonly unknown[]) => string): Promise<Outcome> {
  while (shell.isRunning) await new Promise((resolve) => setTimeout(resolve, 5));
  shell.isRunning = true;
  try {
    const { rows } = await shell.stream.execute({ sql, args });
    for (const row of rows) shell.output.write(`${show(row)}\n`);
    return ok;
  } catch (error) {
    if (!(error instanceof HranaError)) throw error;
    shell.errors.write(formatError(error, sql));
    return { kind: "failed", exitCode: error.code === "ATOMCAST_UNREACHABLE" ? 2 : 1 };
  } finally {
    shell.isRunning = false;
  }
}

/** Waits for a slow reader of the output: a long script must not pile up its results. */
async function drained(output: Writable): Promise<void> {
  if (!output.writableNeedDrain || output.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      output.off("drain", done);
      output.off("close", done);
      resolve();
    };
    output.on("drain", done);
    output.on("close", done);
  });
}
