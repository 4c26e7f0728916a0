/** Plans by which a finished ceremony's keys go to other members. For tests and benchmarks. */
import type { CeremonyResult } from "../ceremony/ceremony.ts";
import type { CeremonyPlan, PlannedKey } from "../ceremony/plan.ts";
import type { CeremonyDriver, DriverPerson } from "./ceremony-driver.ts";

/** The same keys for `next`, with new thresholds. `oldHolders` are persons of `from` by their member index there. */
export function resharing(
  from: CeremonyDriver,
  oldHolders: readonly number[],
  next: readonly DriverPerson[],
  thresholds: Readonly<Record<string, number>>,
  options: Partial<CeremonyPlan> = {},
): { readonly plan: CeremonyPlan; readonly persons: DriverPerson[] } {
  const result: CeremonyResult | undefined = from.replica(0).attempt.result;
  if (result === undefined) throw new RangeError("nothing to share anew");
  const persons: DriverPerson[] = oldHolders.map((index) => ({
    key: (from.persons[index] as DriverPerson).key,
    oldShares: from.ownShares(index),
  }));
  const receivers = next.map((person) => {
    const at = persons.findIndex(({ key }) => Buffer.compare(key.publicKey, person.key.publicKey) === 0);
    return at >= 0 ? at : persons.push(person) - 1;
  });
  const keys = result.keys.map(
    ({ name, publicKey, publicShares, threshold }): PlannedKey => ({
      name,
      threshold: thresholds[name] ?? threshold,
      receivers,
      source: {
        type: "reshare",
        publicKey,
        threshold,
        holders: oldHolders.map((index, participant) => ({
          participant,
          index,
          publicShare: publicShares[index] ?? new Uint8Array(),
        })),
      },
    }),
  );
  const plan: CeremonyPlan = {
    version: 1,
    root: from.plan.root,
    purpose: new Uint8Array(32).fill(11),
    participants: persons.map(({ key }) => key.publicKey),
    keys,
    closeQuorum: Math.floor(persons.length / 2) + 1,
    dealersMin: 1,
    holdersMin: next.length,
    ...options,
  };
  return { plan, persons };
}
