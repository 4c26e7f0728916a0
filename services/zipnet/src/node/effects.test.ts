/** What a server makes of the sums that it is handed, when its log does not take them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import type { Refusal } from "@lattice/organism/machine.ts";
import { World } from "../../test/world.ts";
import { type Aggregate, aggregateDigest, signAggregate } from "../core/aggregate.ts";
import { FOLD } from "../core/types.ts";
import { Effects, type Host } from "./effects.ts";

const SLOT = 1n;

test("a sum that was not even said is not listed in a close, and another one may be forwarded; one of unknown fate stays", async () => {
  const world = new World({ config: { throwAway: true } });
  world.publishServerKeys();
  const [a, b] = [await world.join("a"), await world.join("b")];
  const header = world.open(SLOT);
  const fold = world.fold(SLOT);
  for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
  const sumBy = (seed: number): Aggregate => {
    const key = generateSigningKey(new Uint8Array(32).fill(seed));
    return signAggregate(key, world.committee, fold.aggregate(key.publicKey));
  };

  let submit: () => Promise<Refusal | undefined> = async () => undefined;
  const effects = new Effects({
    config: world.config,
    committee: world.committee,
    self: 0,
    secrets: { serverKey: world.serverSecrets[0], operatorKey: new Uint8Array(32) },
    settings: { ZIPNET_SERVER_SERIAL: 1n },
    journal: world.journals[0],
    state: () => world.state,
    log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
    submit: () => submit(),
  } as unknown as Host);
  const listed = async (): Promise<readonly Uint8Array[]> => {
    const close = await effects.execute({
      type: "closeFold",
      key: "close",
      slot: SLOT,
      promise: false,
    });
    assert.ok(close?.type === "close" && close.stage === FOLD);
    return close.inputs;
  };
  const fault = faultsOf("zipnet", COMMON_FAULTS);

  const [one, other] = [sumBy(5), sumBy(6)];
  submit = () => Promise.reject(fault("LOG_REFUSED"));
  await assert.rejects(effects.forward(one), fault("LOG_REFUSED"));
  assert.deepEqual(await listed(), []);
  submit = () => Promise.reject(fault("FATE_UNKNOWN"));
  await assert.rejects(effects.forward(other), fault("FATE_UNKNOWN"));
  assert.deepEqual(await listed(), [aggregateDigest(other)]);
  assert.equal((await effects.forward(one))?.reason, "DUPLICATE");
  // It may be on its way from the time before.
  submit = () => Promise.reject(fault("LOG_REFUSED"));
  await assert.rejects(effects.forward(other), fault("LOG_REFUSED"));
  assert.deepEqual(await listed(), [aggregateDigest(other)]);
});
