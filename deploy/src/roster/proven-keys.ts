/** Proofs of fraud that a committee's members have: whoever shows one, it is judged here, by the lattice config alone. */
import { encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { ROSTER, type Roster } from "@lattice/organism/committee/roster.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Caught } from "@lattice/organism/node/fraud-collector.ts";
import { provenBy } from "@lattice/organism/node/proven-frauds.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { CommitteeView } from "./committee-view.ts";

const DEADLINE_MS = 3000;

/** Rosters that f + 1 members tell of: under a key that is over anybody may have certified others. */
function rostersTold({ answers, quorum }: CommitteeView): Roster[] {
  const tellers = new Map<string, { readonly roster: Roster; readonly by: Set<number> }>();
  for (const { index, rosters = [] } of answers) {
    for (const { roster } of rosters) {
      const name = toHex(encode(ROSTER, roster));
      const told = tellers.get(name) ?? { roster, by: new Set() };
      told.by.add(index);
      tellers.set(name, told);
    }
  }
  return [...tellers.values()].flatMap(({ roster, by }) => (by.size > quorum.faults ? roster : []));
}

/**
 * Asks the members that answer, in turn, for what they have.
 * @param wanted whether a proof against this member key is still wanted
 */
export async function* provenFrauds(
  { config, organism, ...view }: CommitteeView,
  wanted: (memberKey: Uint8Array) => boolean,
): AsyncGenerator<Caught, void, void> {
  const committee = committeeId(config, organism);
  const rosters = rostersTold({ config, organism, ...view });
  const question = { config, organism, eras: view.eras, rosters, wanted, deadlineMs: DEADLINE_MS };
  for (const { address, blocked } of view.answers) {
    if (blocked?.some(wanted) !== true) continue;
    const client = connectService(CommitteeService, address, { committee });
    try {
      yield* provenBy(client, question);
    } catch {
      // The next one may have it.
    } finally {
      client.close();
    }
  }
}

/** Of the seats that are called blocked, those whose key is proven to have said two things. @returns keys as hex */
export async function provenKeys(view: CommitteeView, known: ReadonlySet<string>): Promise<Set<string>> {
  const proven = new Set(known);
  const isWanted = (key: Uint8Array): boolean =>
    !proven.has(toHex(key)) && view.seats.some(({ blocked, memberKey }) => blocked && equalBytes(memberKey, key));
  for await (const { fraud } of provenFrauds(view, isWanted)) proven.add(toHex(fraud.memberKey));
  return proven;
}
