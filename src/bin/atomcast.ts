#!/usr/bin/env node
/** The `atomcast` command. */
import { Command, Option } from "commander";
import { DatabaseError } from "../base/errors.js";
import { sourcesOf } from "./engine-settings.js";
import { commonOptions, historyOption, memoryOption, statementTimeoutOption } from "./options.js";
import { version } from "./version.js";

const program = new Command("atomcast")
  .description("Atomcast: an elastic SQL database that speaks SQLite's dialect.")
  .version(version)
  // One line, as for everything else that a person can mend.
  .configureOutput({ outputError: (text, write) => write(`atomcast: ${text.replace(/^error: /, "").trimEnd()} (--help says more)\n`) });

// Commander takes a variable of an option without a value as given whatever it says: ATOMCAST_CREATE=0 would create.
for (const name of ["ATOMCAST_CREATE", "ATOMCAST_JSON", "ATOMCAST_NO_MULTICAST"])
  if (/^(0|no|false|)$/i.test(process.env[name] ?? "1")) delete process.env[name];

// A reader that goes away (`atomcast start | head -1`) is no reason for an engine to end.
process.stdout.on("error", () => {});

const dataOption = (): Option => new Option("--data <dir>", "where an Archive keeps the database").env("ATOMCAST_DATA");
const httpOption = (): Option =>
  new Option("--http <host:port>", "where clients are served (Hrana over HTTP); port 0: any free one").env("ATOMCAST_HTTP");

function withCommon(command: Command): Command {
  for (const option of commonOptions()) command.addOption(option);
  return command;
}

withCommon(program.command("start"))
  .description("one process: an Archive and a Cache; makes the database where the folder is absent or empty")
  .addOption(dataOption().default("./atomcast-data"))
  .addOption(httpOption().default("127.0.0.1:8787"))
  .addOption(historyOption())
  .addOption(memoryOption())
  .addOption(statementTimeoutOption())
  .action(async (options, command) => (await import("./run-engines.js")).runStart(options, sourcesOf(command)));

withCommon(program.command("archive"))
  .description("an Archive engine: votes, journals every change, holds all of the database on disk")
  .addOption(dataOption().makeOptionMandatory())
  .addOption(historyOption())
  .addOption(new Option("--create", "make a new database in the folder, absent or empty").env("ATOMCAST_CREATE"))
  .action(async (options) => (await import("./run-engines.js")).runArchive(options));

withCommon(program.command("cache"))
  .description("a Cache engine: holds what it needs in memory, serves SQL")
  .addOption(httpOption().default("127.0.0.1:0"))
  .addOption(memoryOption())
  .addOption(statementTimeoutOption())
  .action(async (options, command) => (await import("./run-engines.js")).runCache(options, sourcesOf(command)));

withCommon(program.command("cluster"))
  .description("a local cluster of child processes, for trying things; Caches at PORT, PORT + 1, …")
  .addOption(dataOption().makeOptionMandatory())
  .addOption(new Option("--archives <n>", "Archive processes").default("3").env("ATOMCAST_ARCHIVES"))
  .addOption(new Option("--caches <n>", "Cache processes").default("2").env("ATOMCAST_CACHES"))
  .addOption(new Option("--http <port>", "the first Cache's port").default("8787").env("ATOMCAST_HTTP"))
  .addOption(historyOption())
  .addOption(memoryOption())
  .addOption(statementTimeoutOption())
  .action(async (options) => (await import("./run-cluster.js")).runCluster(options));

withCommon(program.command("discover"))
  .description("the databases whose keys are on this machine, and their engines that are heard just now")
  .action(async (options) => (await import("./discover.js")).runDiscover(options));

const urlHelp = "a Cache's URL (default http://127.0.0.1:8787, or ATOMCAST_URL)";
const urlOf = (url: string | undefined): string => url ?? process.env.ATOMCAST_URL ?? "http://127.0.0.1:8787";

program
  .command("sql")
  .description("a shell: statements end with ;, .help lists the rest")
  .argument("[url]", urlHelp)
  .addOption(new Option("-c, --command <sql>", "run this and end").env("ATOMCAST_COMMAND"))
  .addOption(new Option("--json", "results as JSON, one object per statement").env("ATOMCAST_JSON"))
  .action(async (url, options) => {
    const { runShell } = await import("./shell.js");
    process.exitCode = await runShell({
      url: urlOf(url),
      command: options.command,
      json: options.json === true,
      input: process.stdin,
      output: process.stdout,
      errors: process.stderr,
    });
  });

program
  .command("status")
  .description("engines, sequencer, seqs, lag, atoms held")
  .argument("[url]", urlHelp)
  .addOption(new Option("--json", "as JSON").env("ATOMCAST_JSON"))
  .action(async (url, options) => (await import("./admin.js")).showStatus(urlOf(url), options.json === true));

program
  .command("import")
  .description("takes in a SQLite file (schema and rows) or a CSV file; run again after an interruption, it goes on")
  .argument("<file>")
  .argument("[url]", urlHelp)
  .addOption(new Option("--table <name>", "the table for a CSV file's rows").env("ATOMCAST_TABLE"))
  .action(async (file, url, options) => (await import("./admin.js")).runImport(file, urlOf(url), options.table));

program
  .command("remove")
  .description("gives up a lost Archive's place as voter; ARCHIVE is its node id, as `status` shows it")
  .argument("<archive>")
  .argument("[url]", urlHelp)
  .action(async (archive, url) => (await import("./admin.js")).removeArchive(archive, urlOf(url)));

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`atomcast: ${describeFailure(error)}\n`);
  process.exit(1);
}

/** One line for what a person can mend, the system's refusals (permissions, space) among it; the whole trace for what only we can. */
function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error instanceof DatabaseError || "syscall" in error ? error.message.replace(/\s*\n\s*/g, " ") : (error.stack ?? error.message);
}
