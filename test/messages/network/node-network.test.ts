import { networkConformance } from "./network-conformance.js";
import { nodeHarness } from "./node-harness.js";

networkConformance("node network", nodeHarness());
networkConformance("node network without multicast", nodeHarness({ multicast: false }), false);
