import { networkConformance } from "./network-conformance.js";
import { nodeHarness } from "./node-harness.js";

networkConformance("node network", nodeHarness());
