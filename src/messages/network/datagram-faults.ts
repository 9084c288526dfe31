/** Datagrams that have been received and opened, and then are lost, doubled or late: for tests on real networks (`--faults`, which no help names). */
import { DatabaseError } from "../../base/errors.js";
import type { Endpoint } from "../../base/ids.js";
import type { Random } from "../../base/random.js";

export interface DatagramFaults {
  drop(payload: Buffer, from: Endpoint): boolean;
  duplicate?(payload: Buffer, from: Endpoint): boolean;
  /** 0: at once. */
  delayMs?(payload: Buffer, from: Endpoint): number;
}

/** How late one is that others overtake, in milliseconds at most. */
const reorderMsMax = 10;

const names = ["loss", "double", "reorder", "far"] as const;
/** Percentages of what comes, and milliseconds by which everything from another network (/24) is late. */
export type FaultFigures = Readonly<Record<(typeof names)[number], number>>;

export function datagramFaults({ loss, double, reorder, far }: FaultFigures, self: string, random: Random): DatagramFaults {
  const happens = (percent: number): boolean => random.integer(1_000_000) < percent * 10_000;
  const ownNetwork = networkOf(self);
  return {
    drop: () => happens(loss),
    duplicate: () => happens(double),
    delayMs: (_payload, from) => (networkOf(from) === ownNetwork ? 0 : far) + (happens(reorder) ? 1 + random.integer(reorderMsMax) : 0),
  };
}

/** Its first three numbers. */
function networkOf(address: string): string {
  return address.slice(0, address.lastIndexOf("."));
}

/** `loss=1,double=1,reorder=2,far=50`; what is not named is 0. Throws ATOMCAST_USAGE. */
export function parseFaults(text: string): FaultFigures {
  const figures = { loss: 0, double: 0, reorder: 0, far: 0 };
  for (const part of text.split(",")) {
    const [, name, figure] = /^(\w+)=(\d+(?:\.\d+)?)$/.exec(part) ?? [];
    const known = names.find((one) => one === name);
    const value = Number(figure);
    if (known === undefined || value > (known === "far" ? 10_000 : 100)) {
      throw new DatabaseError(
        "ATOMCAST_USAGE",
        `--faults takes loss=, double=, reorder= (percent) and far= (ms) by commas, not ${JSON.stringify(part)}`,
      );
    }
    figures[known] = value;
  }
  return figures;
}
