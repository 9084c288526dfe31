/** Commands that ask a running engine: `status`, `import`, `remove`. */
import Table from "cli-table3";
import { DatabaseError } from "../base/errors.js";
import { durationText } from "../base/history.js";
import type { CollectorStatus, MemoryStatus, Status } from "../engines/database.js";
import { describeImport, importFile } from "./import-file.js";

const answerTimeoutMs = 10_000;

async function ask(url: string, path: string, init: RequestInit = {}): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(new URL(path, url), { ...init, signal: AbortSignal.timeout(answerTimeoutMs) });
  } catch (cause) {
    throw new DatabaseError("ATOMCAST_UNREACHABLE", `no engine answers at ${url}: is it running, and is that its address?`, { cause });
  }
  const text = await response.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new DatabaseError("ATOMCAST_UNREACHABLE", `what answers at ${url} is no Atomcast engine`, { cause });
  }
  if (!response.ok) throw new DatabaseError("ATOMCAST_REFUSED", (body as { message?: string }).message ?? `${url} answers ${response.status}`);
  return body;
}

export async function showStatus(url: string, json: boolean): Promise<void> {
  const status = (await ask(url, "/v1/status")) as Status;
  if (json) {
    process.stdout.write(`${JSON.stringify(status, null, 2)}\n`);
    return;
  }
  process.stdout.write(`database ${status.database} (${status.clusterId}), committed ${status.commitSeq}, ${status.atomCount} atoms\n`);
  const table = new Table({ head: ["id", "kind", "role", "pid", "http", "applied", "lag", "atoms", "hears"], style: { head: [], border: [] } });
  for (const engine of status.engines) {
    const voter = status.voters.some((one) => one.engine === engine.id);
    const role = engine.isSequencer ? "sequencer" : voter ? "voter" : "learner";
    table.push([
      engine.id,
      engine.kind,
      role,
      engine.pid,
      engine.http,
      engine.appliedSeq,
      Math.max(0, engine.commitSeq - engine.appliedSeq),
      engine.atomsHeld,
      hearsText(engine, status),
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
  if (status.memory !== null) process.stdout.write(`${describeMemory(status.memory)}\n`);
  process.stdout.write(`${describeCollector(status.collector)}\n`);
  const { handoff, demote, merge } = status.atomChanges;
  process.stdout.write(`since this engine began: ${handoff} atoms handed over, ${demote} demoted, ${merge} merged\n`);
  const lost = status.voters.filter((voter) => voter.engine === null);
  for (const voter of lost)
    process.stdout.write(`voter ${voter.nodeId} is away: start it again, or give it up with "atomcast remove ${voter.nodeId}"\n`);
}

/** The stream, and from which engine: the relay tree, row by row. */
function hearsText({ hears, parent }: Status["engines"][number], { engines }: Status): string {
  if (hears === "") return "-";
  const from = engines.find((engine) => engine.endpoint === parent);
  if (hears === "multicast of the sequencer") return "multicast";
  return `${hears === "unicast" ? "unicast" : "multicast"} of ${from?.id ?? parent}`;
}

function describeMemory(memory: MemoryStatus): string {
  const megabytes = (bytes: number): string => (bytes / 1024 ** 2).toFixed(1);
  const { budgetBytes, heldBytes, droppedAtoms, pulledAtoms, pulledAgainAtoms, units, unitsThatPulled } = memory;
  const budget = budgetBytes === null ? "" : ` of ${megabytes(budgetBytes)}`;
  const share = units === 0 ? "" : `, ${(100 * (1 - unitsThatPulled / units)).toFixed(1)} % of ${units} transactions without a pull`;
  return `here: rows of ${megabytes(heldBytes)}${budget} MB; ${pulledAtoms} atoms pulled, ${droppedAtoms} dropped, ${pulledAgainAtoms} pulled again${share}`;
}

/** What Archives keep of rows' old versions, and why. */
export function describeCollector({ mark, historyMs, heldBackBy, archives }: CollectorStatus): string {
  const kept = archives.map(({ engine, versions, versionBytes, versionFloor, sweptVersions }) => {
    const bytes = versions === 0 ? "" : ` (${(versionBytes / 1024 ** 2).toFixed(1)} MB)`;
    const from = versionFloor > mark ? `, knows none from before ${versionFloor}` : "";
    return `${versions}${bytes} on ${engine}, which has swept ${sweptVersions}${from}`;
  });
  const history = historyMs === 0 ? "" : `, history ${durationText(historyMs)}`;
  const open =
    heldBackBy?.transaction == null ? "" : `, where transaction ${heldBackBy.transaction} has been open for ${describeMs(heldBackBy.openMs ?? 0)}`;
  const why = heldBackBy === null ? "" : `, held back by engine ${heldBackBy.engine} at ${heldBackBy.snapshot}${open}`;
  return `old versions: ${kept.length === 0 ? "nothing was heard of any" : kept.join("; ")}; low-water mark ${mark}${history}${why}`;
}

function describeMs(ms: number): string {
  return ms < 1000 ? `${ms} ms` : ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
}

export async function runImport(file: string, url: string, table: string | undefined): Promise<void> {
  const report = await importFile({ file, url, progress: process.stderr, ...(table === undefined ? {} : { table }) });
  process.stdout.write(`${describeImport(report)}\n`);
  if (report.violations.length > 0) process.exitCode = 1;
}

export async function removeArchive(archive: string, url: string): Promise<void> {
  if (!/^\d{1,16}$/.test(archive))
    throw new DatabaseError("ATOMCAST_USAGE", `ARCHIVE is a node id, a number that "atomcast status" shows, not ${JSON.stringify(archive)}`);
  await ask(url, "/v1/remove", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ nodeId: Number(archive) }),
  });
  process.stdout.write(`Archive ${archive} is no voter any more\n`);
}
