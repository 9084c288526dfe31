/** Counts which rows of permission-table.ts requests meet, from outside: by what goes in and what comes out. */
import { PermissionTable } from "../../src/atoms/permission-table.js";
import type { Coverage } from "./coverage.js";

/** Returns what ends it. */
export function watchPermissions(coverage: Coverage): () => void {
  const { request, departed, release } = PermissionTable.prototype;
  const released = new WeakMap<PermissionTable, Map<string, number>>();
  PermissionTable.prototype.request = function (asked) {
    const closed = released.get(this)?.get(`${asked.engine}/${asked.transaction}`) ?? -1;
    const outcome = request.call(this, asked);
    if (closed >= asked.attempt) coverage.count("permissions", "closed attempt");
    else if (outcome === null) coverage.count("permissions", asked.holdsNothing ? "waits: holds nothing" : "waits: oldest");
    else if (outcome.kind === "conflict") coverage.count("permissions", "changed since its snapshot");
    else coverage.count("permissions", outcome.kind === "granted" ? "granted" : "refused for its age");
    return outcome;
  };
  PermissionTable.prototype.release = function (engine, transaction, attempt) {
    const attempts = released.get(this) ?? new Map<string, number>();
    attempts.set(`${engine}/${transaction}`, attempt);
    released.set(this, attempts);
    release.call(this, engine, transaction, attempt);
  };
  PermissionTable.prototype.departed = function (engine) {
    const before = this.grantCount;
    departed.call(this, engine);
    if (this.grantCount < before) coverage.count("permissions", "grant ends with its engine");
  };
  return () => {
    Object.assign(PermissionTable.prototype, { request, departed, release });
  };
}
