/** A Cache's local store in a worker thread, as a LocalPort. */
import { BugError, DatabaseError } from "../base/errors.js";
import type { Description, SqlFault } from "../sql/local-store.js";
import type { LocalStoreCall, LocalStoreReply } from "../sql/local-store-calls.js";
import { openWorkerLocalStore, type WorkerLocalStoreOptions } from "../sql/worker-local-store.js";
import type { LocalHandlers, LocalPort } from "./environment.js";

type Question = Extract<LocalStoreCall, { kind: "describe" | "tableHash" }>;

/** Questions of sessions have ids of their own: below 0, where the core's are above. */
export function openWorkerLocalPort(handlers: LocalHandlers, options: WorkerLocalStoreOptions): LocalPort {
  const questions = new Map<number, { resolve(reply: LocalStoreReply): void; reject(error: Error): void }>();
  let lastId = 0;
  const store = openWorkerLocalStore(
    {
      onReplies(replies) {
        for (const reply of replies) {
          if (reply.kind !== "described" && reply.kind !== "hashed") {
            handlers.onReply(reply);
            continue;
          }
          questions.get(reply.id)?.resolve(reply);
          questions.delete(reply.id);
        }
      },
      onFailure(error) {
        rejectAll(new DatabaseError("ATOMCAST_UNAVAILABLE", "the local store has failed", { cause: error }));
        handlers.onFailure(error);
      },
    },
    options,
  );
  const rejectAll = (error: Error): void => {
    for (const { reject } of questions.values()) reject(error);
    questions.clear();
  };
  const ask = (question: (id: number) => Question): Promise<LocalStoreReply> =>
    new Promise((resolve, reject) => {
      const id = --lastId;
      questions.set(id, { resolve, reject });
      store.post(question(id));
      store.flush();
    });
  return {
    post: (call) => store.post(call),
    flush: () => store.flush(),
    cancelRun: (run) => store.cancelRun(run),
    async describe(sql, transaction): Promise<Description | SqlFault> {
      const reply = await ask((id) => ({ kind: "describe", id, sql, transaction }));
      if (reply.kind !== "described") throw new BugError("another question was answered");
      return reply.description;
    },
    async tableHash(space) {
      const reply = await ask((id) => ({ kind: "tableHash", id, space }));
      if (reply.kind !== "hashed") throw new BugError("another question was answered");
      return reply.hash;
    },
    close() {
      rejectAll(new DatabaseError("ATOMCAST_UNAVAILABLE", "the engine is stopping"));
      return store.close();
    },
  };
}
