/** Whom a follower stays with, and whom it leaves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { WatchOutcomesResponseSchema } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { dealCommittee } from "../../test/test-lattice.ts";
import { committeeId } from "../identity/lattice-config.ts";
import { toWireOutcome } from "./committee-wire.ts";
import { type CommitteeClient, OutcomeFollower } from "./outcome-follower.ts";

test("a member that sends what does not verify, and goes on with it, is left for the next one", async () => {
  const { config, rosters } = dealCommittee(3);
  const addresses = ["liar:1", "honest:1"];
  const endpoints = { zipnet: [], unseal: [], offer: [], atelier: [], relay: addresses, tally: [] };
  const others = Promise.withResolvers<void>();
  let sent = 0;
  let refused = 0;
  const forged = (slot: bigint) =>
    create(WatchOutcomesResponseSchema, {
      event: {
        case: "outcome",
        value: toWireOutcome({
          outcome: {
            version: 1,
            committee: committeeId(config, "relay"),
            generation: 0n,
            epoch: 0n,
            slot,
            stage: "first",
            kind: "result",
            commitment: new Uint8Array(),
            bodyHash: undefined,
          },
          signature: new Uint8Array(96),
          signers: [],
        }),
      },
    });
  const client = (address: string) => ({
    async *watchOutcomes() {
      if (address !== "liar:1") {
        others.resolve();
        return;
      }
      for (; sent < 10_000; sent++) yield forged(BigInt(sent + 1));
    },
    close: () => undefined,
  });
  const follower = new OutcomeFollower({
    config,
    rosters,
    endpoints: () => endpoints,
    log: { debug: () => undefined, info: () => undefined, warn: () => refused++, error: () => undefined },
    offset: 0,
    fromSlot: () => 1n,
    known: () => false,
    onOutcome: () => assert.fail("nothing verifies"),
    connect: (address) => client(address) as unknown as CommitteeClient,
    jitter: () => 0,
  });
  follower.followAll(["relay"]);
  await others.promise;
  await follower.close();
  assert.ok(refused > 0 && refused < 200, `${refused} were judged, each with a pairing`);
});
