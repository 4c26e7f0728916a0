/** Member keys that a fraud proof stands against: whoever shows it, it is judged here, by the lattice config alone. */
import { encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { ROSTER, type Roster } from "@lattice/organism/committee/roster.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
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

/** Of the seats that are called blocked, those whose key is proven to have said two things. @returns keys as hex */
export async function provenKeys(view: CommitteeView, known: ReadonlySet<string>): Promise<Set<string>> {
  const { config, organism, seats, answers, eras } = view;
  const proven = new Set(known);
  const wanted = seats.filter(({ blocked, memberKey }) => blocked && !known.has(toHex(memberKey)));
  if (wanted.length === 0) return proven;
  const committee = committeeId(config, organism);
  const question = {
    config,
    organism,
    eras,
    rosters: rostersTold(view),
    wanted: (key: Uint8Array) => wanted.some(({ memberKey }) => equalBytes(memberKey, key)),
    deadlineMs: DEADLINE_MS,
  };
  for (const { address, problem } of answers) {
    if (problem !== undefined || wanted.every(({ memberKey }) => proven.has(toHex(memberKey)))) continue;
    const client = connectService(CommitteeService, address, { committee });
    try {
      for await (const key of provenBy(client, question)) proven.add(key);
    } catch {
      // The next one may have it.
    } finally {
      client.close();
    }
  }
  return proven;
}
