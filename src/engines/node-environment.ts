/** The real world for an engine: the process's clock, its event loop, the system's chance, sockets. */
import { randomInt } from "node:crypto";
import type { Logger } from "pino";
import type { ClusterId, Endpoint } from "../base/ids.js";
import type { Random } from "../base/random.js";
import { datagramFaults, type FaultFigures } from "../messages/network/datagram-faults.js";
import { openNodeNetwork } from "../messages/network/node-network.js";
import type { StreamLimits } from "../messages/stream/stream-node-types.js";
import type { CatalogLimits } from "./core-types.js";
import type { Clock, Environment } from "./environment.js";

export interface NodeEnvironmentOptions {
  readonly clusterId: ClusterId;
  /** The database's key, 32 bytes. */
  readonly secret: Buffer;
  readonly interfaceAddress: string;
  readonly groupAddress: string;
  readonly groupPort: number;
  /** False: none is used. Default: true. */
  readonly multicast?: boolean;
  /** Where other engines reach this one; 0, or none: any free port. */
  readonly port?: number;
  readonly contacts?: readonly Endpoint[];
  /** None: an honest network. */
  readonly faults?: FaultFigures;
  readonly logger: Logger;
}

/** design.md §4; the rest as measured on two cores. */
export const streamLimits: Omit<StreamLimits, "datagramBytesMax"> = {
  heartbeatMs: 100,
  electionTimeoutMsMin: 1000,
  electionTimeoutMsMax: 2000,
  repairDelayMsMin: 1,
  repairDelayMsMax: 10,
  // libuv reads at most 32 datagrams per turn.
  datagramsPerTurnMax: 32,
  // Half of what a receive buffer of 4 MiB holds, so that one burst fits while a receiver is busy.
  windowBytesMax: 2 * 1024 * 1024,
  keptBytesMax: 16 * 1024 * 1024,
  catchUpBytes: 1024 * 1024,
};

/** A part takes an Archive about a millisecond; what is kept is what a busy database commits in some seconds. */
export const catalogLimits: CatalogLimits = {
  partBytes: 256 * 1024,
  rangeAtomsMin: 64,
  knownAtomsMin: 4096,
  keptBytesMax: 64 * 1024 * 1024,
  mergeEveryMs: 5000,
  markEveryMs: 1000,
};

export const systemRandom: Random = { integer: (below) => randomInt(below) };

export const systemClock: Clock = {
  nowMs: () => performance.timeOrigin + performance.now(),
  soon: (act) => void setImmediate(act),
  after(delayMs, act) {
    const timer = setTimeout(act, delayMs);
    return () => clearTimeout(timer);
  },
  every(periodMs, act) {
    const timer = setInterval(act, periodMs);
    return () => clearInterval(timer);
  },
};

export function nodeEnvironment(options: NodeEnvironmentOptions): Environment {
  const { logger } = options;
  return {
    clock: systemClock,
    random: systemRandom,
    limits: streamLimits,
    catalogLimits,
    pid: process.pid,
    contacts: options.contacts ?? [],
    log: (level, message, fields = {}) => logger[level](fields, message),
    openNetwork: (nonce, handlers) =>
      openNodeNetwork({
        clusterId: options.clusterId,
        secret: options.secret,
        nonce,
        interfaceAddress: options.interfaceAddress,
        groupAddress: options.groupAddress,
        groupPort: options.groupPort,
        multicast: options.multicast ?? true,
        port: options.port ?? 0,
        handlers,
        ...(options.faults !== undefined && { faults: datagramFaults(options.faults, options.interfaceAddress, systemRandom) }),
        log: (level, message) => logger[level](message),
      }),
  };
}
