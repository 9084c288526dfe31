/** The vote store's twin without a disk, for the simulator and for tests. */

import { type NodeId, noNode, noTerm, type Term } from "../base/ids.js";
import { assertVoteAllowed } from "./file-vote-store.js";
import type { VoteStore } from "./journal.js";

interface Vote {
  readonly term: Term;
  readonly votedFor: NodeId;
}

/** A save is durable when the scheduler says so; a crash keeps what is durable, or the save under way as well. */
export interface MemoryVoteStore extends VoteStore {
  /** The process is gone: saves under way stay open. `isSaved`: the last of them reached the disk nevertheless. */
  crash(isSaved: boolean): void;
}

export function createMemoryVoteStore(schedule: (complete: () => void) => void): MemoryVoteStore {
  let durable: Vote = { term: noTerm, votedFor: noNode };
  let asked = durable;
  let life = 0;
  let previous: Promise<void> = Promise.resolve();
  return {
    get term() {
      return asked.term;
    },
    get votedFor() {
      return asked.votedFor;
    },
    save(term, votedFor) {
      assertVoteAllowed(asked, term, votedFor);
      const vote = { term, votedFor };
      asked = vote;
      const lifeThen = life;
      const saved = new Promise<void>((resolve) => {
        schedule(() => {
          if (life !== lifeThen) return;
          durable = vote;
          resolve();
        });
      });
      previous = Promise.all([previous, saved]).then(() => {});
      return previous;
    },
    crash(isSaved) {
      life++;
      if (isSaved) durable = asked;
      asked = durable;
      previous = Promise.resolve();
    },
    close: () => previous,
  };
}
