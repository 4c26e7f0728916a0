/**
 * One participant's side: what it must say next, as a function of the log so far and of its own secrets. Nothing is
 * remembered between calls, so a restart says the same bytes again.
 */
import { blsSign } from "../crypto/bls.ts";
import type { Ceremony } from "./ceremony.ts";
import {
  type AttemptSecrets,
  canDeal,
  makeComplaint,
  makeDeal,
  makeEnrolment,
  openOwnBox,
  proveHolding,
} from "./dealing.ts";
import type { CeremonyCommand } from "./message.ts";
import { combineShare } from "./outcome.ts";

/** This participant's shares of the keys that were made, 32 bytes, by position of the key in the plan. */
export type OwnShares = ReadonlyMap<number, Uint8Array>;

/** What `self` has to say now; undefined when it waits for others or is done. */
export function nextCommand(ceremony: Ceremony, self: number, secrets: AttemptSecrets): CeremonyCommand | undefined {
  const { attempt, scene } = ceremony;
  if (attempt.phase === "done" && mayConfirmLate(ceremony, self)) {
    return spoiltFor(ceremony, self, secrets).length > 0 ? undefined : confirmation(ceremony, self, secrets);
  }
  if (!ceremony.awaited.includes(self)) return undefined;
  switch (attempt.phase) {
    case "enrol":
      return { type: "enrol", ...makeEnrolment(scene, self, secrets) };
    case "deal":
      if (!canDeal(scene.plan, self, secrets)) return undefined;
      return { type: "deal", ...makeDeal(scene, self, secrets, attempt.boxKeys) };
    case "judge": {
      // Also about who is out already: who is out depends on what has landed by now, and a verdict is said once.
      const complaints = [...attempt.deals]
        .sort(([a], [b]) => a - b)
        .filter(([, { boxes }]) => boxes.some(({ participant }) => participant === self))
        .filter(([dealer, deal]) => openOwnBox(scene, dealer, self, deal, secrets) === undefined)
        .map(([dealer, deal]) => makeComplaint(scene, dealer, self, deal, secrets));
      return { type: "verdict", complaints };
    }
    case "confirm":
      return confirmation(ceremony, self, secrets);
    default:
      return undefined;
  }
}

/** A receiver that others did not wait for still shows that it holds its shares. */
function mayConfirmLate({ attempt, receivers }: Ceremony, self: number): boolean {
  const out = attempt.out.get(self);
  const said = attempt.said.get(self)?.has("confirm") === true;
  return (
    receivers.includes(self) && !said && (out === undefined || out.reason === "SILENT") && attempt.boxKeys.has(self)
  );
}

/**
 * Dealers of the attempt's result who dealt `self` a bad share: it was not waited for when the others complained, and can
 * hold no share of what has been made without its complaint. Empty before there is a result.
 */
export function spoiltFor(ceremony: Ceremony, self: number, secrets: AttemptSecrets): readonly number[] {
  const { attempt, plan, scene } = ceremony;
  const keys = (attempt.result?.keys ?? []).filter((_, position) => plan.keys[position]?.receivers.includes(self));
  const dealers = [...new Set(keys.flatMap((key) => key.dealers))].sort((a, b) => a - b);
  return dealers.filter((dealer) => {
    const deal = attempt.deals.get(dealer);
    return deal === undefined || openOwnBox(scene, dealer, self, deal, secrets) === undefined;
  });
}

/**
 * The shares that `self` holds of the attempt's result. Keep them on disk before confirming.
 * @throws RangeError when there is no result, or something dealt to it is bad (it should have complained)
 */
export function ownShares(ceremony: Ceremony, self: number, secrets: AttemptSecrets): OwnShares {
  const { attempt, plan, scene } = ceremony;
  const { result } = attempt;
  if (result === undefined) throw new RangeError("the ceremony has no result yet");
  const opened = new Map<number, ReadonlyMap<number, Uint8Array>>();
  for (const dealer of new Set(result.keys.flatMap(({ dealers }) => dealers))) {
    const deal = attempt.deals.get(dealer);
    const shares = deal === undefined ? undefined : openOwnBox(scene, dealer, self, deal, secrets);
    if (shares !== undefined) opened.set(dealer, shares);
  }
  const own = new Map<number, Uint8Array>();
  for (const [position, key] of plan.keys.entries()) {
    const index = key.receivers.indexOf(self);
    const made = result.keys[position];
    if (index < 0 || made === undefined) continue;
    const parts = new Map<number, Uint8Array>();
    for (const [dealer, shares] of opened) {
      const share = shares.get(position);
      if (share !== undefined) parts.set(dealer, share);
    }
    own.set(position, combineShare(key, made, index, parts));
  }
  return own;
}

function confirmation(ceremony: Ceremony, self: number, secrets: AttemptSecrets): CeremonyCommand | undefined {
  const { plan, publication, scene } = ceremony;
  const { result } = ceremony.attempt;
  if (result === undefined) return undefined;
  const shares = ownShares(ceremony, self, secrets);
  const holdings = [...shares].map(([position, share]) => {
    const key = plan.keys[position];
    if (key === undefined) throw new RangeError("a share of no key");
    return { key: position, proof: proveHolding(scene, self, key, result.transcript, share, secrets) };
  });
  const signing = publication === undefined ? undefined : shares.get(publication.key);
  return {
    type: "confirm",
    transcript: result.transcript,
    holdings,
    publication:
      publication === undefined || signing === undefined ? undefined : blsSign(signing, publication.digest(result)),
  };
}
