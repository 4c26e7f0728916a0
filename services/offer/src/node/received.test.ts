import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { refuse } from "@lattice/organism/machine.ts";
import { ReceivedBids } from "./received.ts";

const id = (byte: number): string => toHex(new Uint8Array(32).fill(byte));

test("a close lists what was applied and what has not come back for longer than a patience, ascending, by stage", () => {
  const received = new ReceivedBids();
  received.pending("blind", 5n, id(3), 1000);
  received.pending("blind", 5n, id(1), 1000);
  received.pending("blind", 5n, id(2), 1950);
  received.pending("blind", 5n, id(4), 1000);
  received.pending("seen", 5n, id(5), 1000);
  received.pending("blind", 6n, id(6), 1000);
  received.applied(5n, id(3));
  received.refused(5n, id(4));
  assert.deepEqual(received.list("blind", 5n, 2000, 100).map(toHex), [id(1), id(3)]);
  assert.deepEqual(received.list("blind", 5n, 2051, 100).map(toHex), [id(1), id(2), id(3)]);
  assert.deepEqual(received.list("seen", 5n, 2000, 100).map(toHex), [id(5)]);
  received.forget(6n);
  assert.deepEqual(received.list("blind", 5n, 9000, 100), []);
  assert.deepEqual(received.list("blind", 6n, 9000, 100).map(toHex), [id(6)]);
});

test("a bid that was not even said is not listed; one whose fate is unknown is, and one that had been said before", async () => {
  const received = new ReceivedBids();
  const fault = faultsOf("offer", COMMON_FAULTS);
  const fails = async (byte: number, reason: "LOG_REFUSED" | "NOT_READY" | "TOO_LARGE" | "FATE_UNKNOWN") => {
    const submit = () => Promise.reject(fault(reason));
    await assert.rejects(received.during("seen", 5n, id(byte), 1000, submit), fault(reason));
  };
  await fails(1, "LOG_REFUSED");
  await fails(2, "NOT_READY");
  await fails(3, "TOO_LARGE");
  await fails(4, "FATE_UNKNOWN");
  assert.equal(await received.during("seen", 5n, id(5), 1000, async () => undefined), undefined);
  await fails(5, "LOG_REFUSED");
  const duplicate = refuse("DUPLICATE", "known");
  assert.equal(await received.during("seen", 5n, id(6), 1000, async () => duplicate), duplicate);
  const late = refuse("CLASS_CLOSED", "too late");
  assert.equal(await received.during("seen", 5n, id(7), 1000, async () => late), late);
  assert.deepEqual(received.list("seen", 5n, 9000, 100).map(toHex), [id(4), id(5), id(6)]);
});
