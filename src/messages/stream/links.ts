/** What has gone over the links of the relay tree between this engine and others, for people to look at. */
import type { Endpoint, Term } from "../../base/ids.js";

/** Links remembered; the one used longest ago is forgotten. Reason: an engine has a parent and a few children; the others are former ones. */
const linksMax = 64;

/** A larger step of the numbers is no loss: the link was out of use in between. */
const jumpMax = 1000;

export interface Link {
  readonly endpoint: Endpoint;
  /** Live frames that came from there, by unicast or by its multicast. */
  frames: number;
  /** That went there by unicast. */
  sent: number;
  /** Of those that the sequencer numbered, while they came from there: not among them. What is only late counts too. */
  losses: number;
  /** Requests for repair that went there. */
  repairs: number;
  /** Of the last subscription and its answer; null: none yet. */
  roundTripMs: number | null;
}

interface Known extends Link {
  term: Term | null;
  /** The last number that came, in the term. */
  number: number;
}

export class Links {
  readonly #links = new Map<Endpoint, Known>();

  of(endpoint: Endpoint): Known {
    const known = this.#links.get(endpoint);
    if (known !== undefined) return known;
    const link: Known = { endpoint, frames: 0, sent: 0, losses: 0, repairs: 0, roundTripMs: null, term: null, number: 0 };
    this.#links.set(endpoint, link);
    if (this.#links.size > linksMax) {
      for (const oldest of this.#links.keys()) {
        this.#links.delete(oldest);
        break;
      }
    }
    return link;
  }

  onRelayed(from: Endpoint, { term, number }: { readonly term: Term; readonly number: number }): void {
    const link = this.of(from);
    link.frames++;
    if (link.term === term && number > link.number + 1 && number - link.number < jumpMax) link.losses += number - link.number - 1;
    if (link.term !== term || number > link.number) link.number = number;
    link.term = term;
  }

  all(): readonly Link[] {
    return [...this.#links.values()];
  }
}
