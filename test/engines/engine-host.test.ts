import { expect, test } from "vitest";
import type { EngineCore } from "../../src/engines/engine-core.js";
import { EngineHost, type HostPorts } from "../../src/engines/engine-host.js";

test("who is stopped twice has drained when the store is read no more, and not before", async () => {
  let end: () => void = () => {};
  let closings = 0;
  const close = (): Promise<void> =>
    ++closings > 1
      ? Promise.resolve()
      : new Promise((resolve) => {
          end = resolve;
        });
  const ports = {
    environment: { clock: { nowMs: () => 0, soon: () => {}, every: () => () => {}, after: () => () => {} } },
    journal: null,
    votes: null,
    store: null,
    local: null,
    openServing: () => ({ ask: () => {}, close }),
  } as unknown as HostPorts;
  const host = new EngineHost({} as EngineCore, ports);
  host.stop();
  host.stop();
  let isDrained = false;
  const drained = host.drained().then(() => {
    isDrained = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(isDrained).toBe(false);
  end();
  await drained;
});
