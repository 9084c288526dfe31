/** What a seed is run under: how many engines, what clients do, what goes wrong, how slow disks and network are. */
import { calmConditions, type FabricConditions } from "../../src/messages/network/memory-fabric-types.js";
import type { FaultPlan } from "./faults.js";
import type { DiskTimes } from "./simulated-disk.js";
import type { Mix } from "./workload.js";

export interface Profile {
  readonly archives: number;
  readonly caches: number;
  readonly clients: number;
  /** How long clients work and faults happen, in virtual milliseconds. */
  readonly workMs: number;
  readonly thinkMsMax: number;
  readonly mix: Mix;
  /** Nine of ten operations go to one Cache, another after so many virtual milliseconds; 0: to any. */
  readonly favourMs: number;
  readonly faults: FaultPlan;
  readonly conditions: FabricConditions;
  readonly diskTimes: DiskTimes;
  readonly storeMsMax: number;
  /** Budgets of Caches, in bytes of rows: the seeds take turns. Without it, none. */
  readonly memoryBytes?: readonly number[];
  /** How long what rows were is kept. Default: while somebody may read it. */
  readonly historyMs?: number;
  /** Where multicast reaches: everybody, nobody, or each only those of its island. Default: everybody. */
  readonly network?: "unicast" | "islands";
  /** Every engine computes its relay tree of random engines in a random order. */
  readonly wrongTrees?: boolean;
  /** Share of the seeds of `all`. */
  readonly share: number;
}

const mixed: Mix = {
  transfer: 8,
  deal: 3,
  ledger: 2,
  leaveDuty: 3,
  duty: 1,
  sum: 4,
  item: 6,
  pair: 3,
  explicitItem: 2,
  claim: 4,
  rename: 2,
  replace: 1,
  unclaim: 2,
  child: 4,
  parent: 3,
  orphan: 2,
  hot: 4,
  readHot: 2,
  tally: 3,
  order: 3,
  unorder: 1,
  code: 2,
  codeIndex: 1,
  table: 1,
  big: 1,
};
const quickDisk: DiskTimes = { syncMsMin: 0.1, syncMsMax: 0.8 };
const slowDisk: DiskTimes = { syncMsMin: 1, syncMsMax: 30, applyMsMax: 60 };
const noFaults: FaultPlan = { weights: {}, everyMsMin: 1000, everyMsMax: 1000 };
const base: Profile = {
  archives: 3,
  caches: 2,
  clients: 5,
  workMs: 1100,
  thinkMsMax: 25,
  mix: mixed,
  favourMs: 0,
  faults: noFaults,
  // A cut ends its connections soon, so that what TCP's patience would hide is seen within a seed.
  conditions: { ...calmConditions, cutBreaksAfterMs: 400, openTimeoutMs: 300 },
  diskTimes: quickDisk,
  storeMsMax: 1,
  share: 1,
};

export const profiles = {
  /** No multicast: the stream goes from engine to engine. */
  unicast: {
    ...base,
    network: "unicast",
    share: 2,
    caches: 5,
    workMs: 900,
    faults: {
      weights: {
        crashArchive: 3,
        crashCache: 6,
        crashSequencer: 2,
        crashAll: 1,
        pause: 4,
        isolate: 3,
        oneWay: 2,
        badNetwork: 4,
        leaveCache: 1,
        reset: 3,
      },
      everyMsMin: 60,
      everyMsMax: 400,
    },
  },
  /** The same, and every engine has a tree of its own, which is wrong. */
  wrongTrees: {
    ...base,
    network: "unicast",
    wrongTrees: true,
    caches: 5,
    workMs: 800,
    faults: { weights: { crashCache: 4, crashArchive: 2, crashSequencer: 1, pause: 3, isolate: 2, badNetwork: 3 }, everyMsMin: 80, everyMsMax: 400 },
  },
  /** Two islands of multicast, between which engines move, and out of which they fall. */
  islands: {
    ...base,
    network: "islands",
    share: 2,
    caches: 5,
    workMs: 900,
    faults: {
      weights: { moveIsland: 8, crashArchive: 2, crashCache: 4, crashSequencer: 2, pause: 3, isolate: 1, badNetwork: 2, leaveCache: 1, crashAll: 1 },
      everyMsMin: 60,
      everyMsMax: 300,
    },
  },
  /** One Archive, one Cache, nothing goes wrong. */
  smallest: { ...base, archives: 1, caches: 1, clients: 3, workMs: 500 },
  calm: { ...base, workMs: 800 },
  normal: {
    ...base,
    share: 6,
    workMs: 900,
    faults: {
      weights: {
        crashArchive: 3,
        crashCache: 3,
        crashSequencer: 2,
        crashAll: 1,
        pause: 3,
        isolate: 3,
        oneWay: 2,
        badNetwork: 4,
        leaveCache: 1,
        newCache: 1,
      },
      everyMsMin: 60,
      everyMsMax: 500,
    },
  },
  network: {
    ...base,
    share: 2,
    conditions: { ...base.conditions, lossPerMille: 60, duplicatePerMille: 30, reorderPerMille: 80, reorderDelayMs: 4, delayMsMax: 2 },
    faults: { weights: { isolate: 4, oneWay: 4, badNetwork: 6, reset: 12, pause: 2 }, everyMsMin: 20, everyMsMax: 300 },
  },
  /** The power fails, again and again, with disks that take their time. */
  power: {
    ...base,
    share: 2,
    workMs: 1000,
    diskTimes: slowDisk,
    faults: { weights: { crashAll: 4, crashArchive: 3, crashSequencer: 3, crashCache: 1 }, everyMsMin: 80, everyMsMax: 400 },
  },
  /** Terms change all the time: a network about as slow as elections are patient, voters that come back at once. */
  elections: {
    ...base,
    clients: 2,
    workMs: 3500,
    thinkMsMax: 100,
    conditions: { ...base.conditions, delayMsMin: 0.1, delayMsMax: 60, lossPerMille: 50 },
    faults: { weights: { flicker: 4, flickerVoter: 14, crashSequencer: 3 }, everyMsMin: 5, everyMsMax: 60 },
  },
  /** Long silences: engines that live are taken for dead. */
  eviction: {
    ...base,
    share: 2,
    clients: 3,
    workMs: 4500,
    thinkMsMax: 60,
    faults: { weights: { longPause: 3, longCut: 3, cutPair: 4, crashCache: 1 }, everyMsMin: 300, everyMsMax: 1500 },
  },
  membership: {
    ...base,
    archives: 4,
    share: 2,
    workMs: 1600,
    thinkMsMax: 50,
    faults: {
      weights: {
        replaceArchive: 4,
        leaveArchive: 2,
        leaveCache: 2,
        newCache: 2,
        trim: 2,
        fallBehind: 3,
        crashArchive: 2,
        crashCache: 1,
        damage: 1,
        diskFails: 1,
      },
      everyMsMin: 80,
      everyMsMax: 500,
    },
  },
  damage: {
    ...base,
    faults: { weights: { damage: 5, crashArchive: 2, crashAll: 1, trim: 1, fallBehind: 1, diskFails: 2 }, everyMsMin: 100, everyMsMax: 400 },
  },
  /** Everybody wants the same keys. */
  contention: {
    ...base,
    share: 2,
    caches: 3,
    clients: 9,
    thinkMsMax: 8,
    workMs: 700,
    mix: {
      transfer: 6,
      sum: 2,
      claim: 5,
      rename: 4,
      replace: 2,
      unclaim: 4,
      child: 5,
      parent: 5,
      orphan: 3,
      hot: 6,
      readHot: 3,
      tally: 4,
      order: 3,
      unorder: 2,
    },
    conditions: { ...base.conditions, delayMsMax: 3 },
    storeMsMax: 3,
    faults: { weights: { reset: 1 }, everyMsMin: 20, everyMsMax: 100 },
  },
  /** Local stores that take their time, so that much is applied between a run and its commit, and pulls fall behind. */
  slowStore: {
    ...base,
    caches: 3,
    clients: 6,
    storeMsMax: 60,
    faults: { weights: { newCache: 2, crashCache: 2, pause: 1, reset: 1 }, everyMsMin: 100, everyMsMax: 400 },
  },
  /** Ids, large rows, splits. */
  ids: {
    ...base,
    caches: 3,
    mix: { item: 8, pair: 3, explicitItem: 4, big: 12, sum: 1, code: 3 },
    thinkMsMax: 15,
    workMs: 800,
    faults: { weights: { crashCache: 2, newCache: 1, pause: 1, leaveCache: 1 }, everyMsMin: 150, everyMsMax: 600 },
  },
  /** One Cache writes nearly everything, then another: atoms go after them, while they are granted, split and taken. */
  writers: {
    ...base,
    caches: 3,
    clients: 8,
    workMs: 2400,
    thinkMsMax: 20,
    favourMs: 1700,
    mix: {
      transfer: 6,
      sum: 1,
      item: 6,
      claim: 4,
      rename: 3,
      unclaim: 3,
      child: 2,
      parent: 2,
      orphan: 1,
      hot: 5,
      readHot: 1,
      tally: 3,
      order: 3,
      big: 4,
    },
    conditions: { ...base.conditions, delayMsMax: 2 },
    storeMsMax: 3,
    faults: { weights: { crashCache: 3, crashSequencer: 1, reset: 3, pause: 1, cutPair: 2, leaveCache: 1 }, everyMsMin: 300, everyMsMax: 1200 },
  },
  /** A table of many atoms, and Caches that hold some of them: pulls of parts while others split, change and die. */
  parts: {
    ...base,
    share: 2,
    caches: 3,
    clients: 6,
    mix: { page: 6, turn: 6, pageRange: 3, newPage: 4, tagged: 6, retag: 5, hot: 1, transfer: 1, sum: 1 },
    thinkMsMax: 20,
    workMs: 800,
    storeMsMax: 70,
    faults: {
      weights: { crashCache: 4, newCache: 3, crashArchive: 2, crashSequencer: 1, pause: 4, leaveCache: 1, reset: 2, badNetwork: 1 },
      everyMsMin: 60,
      everyMsMax: 300,
    },
  },
  /** Caches that hold a few atoms at most of a table of many: evictions, and pulls of what was given up, while engines come and go. */
  memory: {
    ...base,
    share: 3,
    caches: 3,
    clients: 6,
    memoryBytes: [60_000, 150_000, 300_000],
    mix: { page: 10, turn: 8, pageRange: 2, newPage: 4, item: 2, transfer: 2, deal: 3, ledger: 2, sum: 1, table: 1 },
    thinkMsMax: 15,
    workMs: 800,
    storeMsMax: 4,
    faults: {
      weights: { crashCache: 4, newCache: 2, crashArchive: 3, crashSequencer: 1, pause: 2, leaveCache: 1, reset: 3, longCut: 1, badNetwork: 1 },
      everyMsMin: 60,
      everyMsMax: 350,
    },
  },
  /** Caches hold an atom or two of many, on a slow network: whoever asks for rows often asks a Cache that has given them up meanwhile. */
  belated: {
    ...base,
    caches: 4,
    clients: 8,
    memoryBytes: [30_000, 60_000],
    mix: { page: 10, turn: 4, pageRange: 4, newPage: 2 },
    thinkMsMax: 8,
    workMs: 800,
    conditions: { ...base.conditions, delayMsMax: 12 },
    storeMsMax: 4,
    faults: { weights: { pause: 2, reset: 1, newCache: 1, crashCache: 1 }, everyMsMin: 60, everyMsMax: 350 },
  },
  /** Whatever no transaction needs just now is given up at once, of every table. */
  thrift: {
    ...base,
    share: 2,
    caches: 3,
    memoryBytes: [1, 400],
    mix: { ...mixed, big: 0, table: 2, atoms: 1, migration: 1 },
    thinkMsMax: 15,
    workMs: 800,
    faults: {
      weights: {
        crashCache: 3,
        newCache: 2,
        crashArchive: 2,
        crashSequencer: 1,
        crashAll: 1,
        pause: 2,
        leaveCache: 2,
        reset: 2,
        isolate: 1,
        cutPair: 1,
      },
      everyMsMin: 60,
      everyMsMax: 400,
    },
  },
  /** Transactions that stay open on Caches that come empty, and pull in the middle of them what others change. */
  snapshots: {
    ...base,
    caches: 3,
    clients: 8,
    mix: { transfer: 10, deal: 4, ledger: 10, page: 1, turn: 2, sum: 1, migration: 1 },
    thinkMsMax: 10,
    workMs: 800,
    storeMsMax: 4,
    faults: {
      weights: { crashCache: 6, newCache: 4, leaveCache: 2, crashArchive: 2, crashSequencer: 1, pause: 1, reset: 2 },
      everyMsMin: 30,
      everyMsMax: 150,
    },
  },
  /** Rows with large values, on Caches that come empty and give up what they hold, and on a slow network: many are gone before they are fetched. */
  values: {
    ...base,
    caches: 3,
    clients: 6,
    memoryBytes: [60_000, 300_000],
    mix: { document: 8, title: 8, undocument: 3, readDocuments: 8, transfer: 2, ledger: 2, page: 1, sum: 1 },
    thinkMsMax: 15,
    workMs: 700,
    conditions: { ...base.conditions, delayMsMax: 6 },
    storeMsMax: 4,
    faults: {
      weights: { crashCache: 4, newCache: 4, leaveCache: 1, crashArchive: 3, crashSequencer: 1, crashAll: 1, pause: 2, reset: 2, badNetwork: 1 },
      everyMsMin: 60,
      everyMsMax: 300,
    },
  },
  /** What rows were is kept for a while, whoever reads it. */
  past: {
    ...base,
    historyMs: 250,
    caches: 3,
    mix: { transfer: 10, deal: 2, ledger: 2, past: 10, item: 3, pair: 2, page: 1, turn: 2, sum: 1, table: 6, alter: 1 },
    thinkMsMax: 15,
    workMs: 900,
    faults: {
      weights: { crashCache: 3, newCache: 2, leaveCache: 1, crashArchive: 3, crashSequencer: 2, crashAll: 1, pause: 2, reset: 2, badNetwork: 1 },
      everyMsMin: 60,
      everyMsMax: 300,
    },
  },
  schema: {
    ...base,
    mix: { ...mixed, codeIndex: 5, code: 6, table: 6, alter: 2, migration: 3 },
    faults: { weights: { crashCache: 2, crashSequencer: 1, newCache: 1, badNetwork: 1 }, everyMsMin: 150, everyMsMax: 600 },
  },
  /** Caches join late and need catalogs of tables that are split, made and dropped meanwhile, from Archives that come and go. */
  catalogs: {
    ...base,
    share: 2,
    clients: 6,
    workMs: 1100,
    thinkMsMax: 12,
    mix: { ...mixed, item: 10, pair: 4, big: 16, order: 5, table: 12, code: 4, codeIndex: 6, atoms: 2, race: 14 },
    conditions: { ...base.conditions, delayMsMax: 6 },
    faults: {
      weights: { newCache: 4, crashCache: 6, leaveCache: 2, crashArchive: 4, crashSequencer: 1, reset: 6, pause: 2, badNetwork: 1 },
      everyMsMin: 20,
      everyMsMax: 150,
    },
  },
  /** Originators come and go under those who have their permission. */
  originators: {
    ...base,
    share: 2,
    caches: 3,
    clients: 6,
    workMs: 900,
    thinkMsMax: 12,
    mix: {
      transfer: 6,
      sum: 2,
      claim: 4,
      rename: 3,
      unclaim: 3,
      child: 3,
      parent: 3,
      orphan: 1,
      hot: 6,
      readHot: 2,
      tally: 3,
      item: 2,
      order: 3,
      unorder: 1,
    },
    conditions: { ...base.conditions, delayMsMax: 4 },
    storeMsMax: 4,
    faults: {
      weights: { crashCache: 5, leaveCache: 3, crashSequencer: 1, pause: 1, isolate: 1, badNetwork: 1, reset: 4 },
      everyMsMin: 40,
      everyMsMax: 250,
    },
  },
} satisfies Readonly<Record<string, Profile>>;

export type ProfileName = keyof typeof profiles;

/** The profile of a seed where none is asked for: each has its share. */
export function profileOfSeed(seed: number): ProfileName {
  const names = Object.entries(profiles).flatMap(([name, profile]) => new Array<ProfileName>(profile.share).fill(name as ProfileName));
  return names[seed % names.length] ?? "normal";
}

export function isProfileName(name: string): name is ProfileName {
  return Object.hasOwn(profiles, name);
}
