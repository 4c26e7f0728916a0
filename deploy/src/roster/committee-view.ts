/** A committee as its operators see it from outside: every member is asked, and nothing is believed that is not signed or certified. */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { EraLinks } from "@lattice/organism/committee/era-links.ts";
import type { Eras } from "@lattice/organism/committee/eras.ts";
import { type SignedHead, verifyHead } from "@lattice/organism/committee/heads.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { faultsTolerated } from "@lattice/organism/committee/quorum.ts";
import { checkRoster, type Quorum, type Roster, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { HEADS_KEPT } from "@lattice/organism/committee/state.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { rostersTold } from "@lattice/organism/node/committee-wire.ts";
import { EraBook } from "@lattice/organism/node/era-book.ts";
import { takeTold } from "@lattice/organism/node/era-watch.ts";
import { fromWireHead } from "@lattice/organism/node/integrity-wire.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";

/** What one address answered. */
export interface Answer {
  readonly index: number;
  readonly address: string;
  /** Why there is no answer. */
  readonly problem?: string;
  readonly decidedSlot?: bigint;
  readonly caughtUp?: boolean;
  /** Which rules govern its log. */
  readonly rules?: number;
  /** Keys that it says were proven to say two things. */
  readonly blocked?: readonly Uint8Array[];
  /** Certified under the keys of their eras. */
  readonly rosters?: readonly { readonly roster: Roster; readonly certified: CertifiedOutcome }[];
  /** Signed by whoever answers, at one position for all. */
  readonly head?: SignedHead;
}

/** How one seat of the newest roster is taken. */
export interface Seat {
  readonly index: number;
  readonly memberKey: Uint8Array;
  readonly address: string;
  /** It answers under the newest roster's key, has caught up, and has the chain head of the most. */
  readonly live: boolean;
  /** Its key was proven to say two things, as f + 1 members say. */
  readonly blocked: boolean;
  /** Why it is not live. */
  readonly problem: string | undefined;
}

export interface CommitteeView {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** The newest roster that a quorum has taken up. */
  readonly roster: Roster;
  readonly certified: CertifiedOutcome;
  /** The certificate keys so far, as f + 1 members tell of them, and the rosters that began them. */
  readonly eras: Eras;
  readonly links: EraLinks;
  readonly quorum: Quorum;
  /** By how many members each later or equal roster is known, by epoch. */
  readonly knownBy: ReadonlyMap<bigint, number>;
  readonly seats: readonly Seat[];
  /** Live seats that are not blocked, less the quorum. */
  readonly margin: number;
  /** The newest slot that a quorum has decided. */
  readonly decidedSlot: bigint;
  readonly answers: readonly Answer[];
}

const DEADLINE_MS = 3000;
/** Whoever is so many entries behind is not waited for: members keep heads for twice as many. */
const COMPARED_BEHIND_MAX = BigInt(HEADS_KEPT / 2);

/** How far a member says that it has come. */
interface Place {
  readonly generation: bigint;
  readonly position: bigint;
}

/**
 * Where heads are compared: at the lowest position of those who are near enough to where f + 1 members have come. Neither a
 * member that stands still far behind nor one that makes up its position can so move it to where the others keep no head.
 */
export function comparedAt(places: readonly Place[], faults: number): Place {
  const sorted = places.toSorted((a, b) =>
    a.generation !== b.generation ? (a.generation < b.generation ? 1 : -1) : a.position < b.position ? 1 : -1,
  );
  const there = sorted[Math.min(faults, sorted.length - 1)] ?? { generation: 0n, position: 0n };
  const near = sorted.filter(
    ({ generation, position }) => generation === there.generation && position + COMPARED_BEHIND_MAX >= there.position,
  );
  return near.reduce((lowest, each) => (each.position < lowest.position ? each : lowest), there);
}

/** Why whoever is there has no head to compare at `common`. */
function elsewhere({ generation, position }: Place, common: Place): string | undefined {
  if (generation !== common.generation) return `it is in generation ${generation}, the others in ${common.generation}`;
  if (position < common.position)
    return `it has come to position ${position}, the others to ${common.position} and further`;
  return undefined;
}

interface Asked extends Omit<Answer, "rosters"> {
  readonly place?: Place;
  /** Rosters, not judged yet. */
  readonly told?: readonly CertifiedOutcome[];
}

/** The eras that enough of them tell of alike. */
function erasTold(
  config: LatticeConfig,
  organism: Organism,
  told: ReadonlyMap<string, readonly CertifiedOutcome[]>,
): EraBook {
  const eras = new EraBook(config);
  takeTold({ config, eras }, organism, told);
  return eras;
}

function standing(config: LatticeConfig, organism: Organism, told: readonly CertifiedOutcome[], eras: Eras) {
  return told.flatMap((certified) => {
    const checked = checkRoster(config, organism, certified, eras);
    return "problem" in checked ? [] : [{ roster: checked.roster, certified }];
  });
}

/** Asks everybody. Never throws for a member's sake. */
export async function askCommittee(
  config: LatticeConfig,
  organism: Organism,
  addresses: readonly string[],
): Promise<Answer[]> {
  const committee = committeeId(config, organism);
  const clients = addresses.map((address) =>
    connectService(CommitteeService, address, { committee, deadlineMs: DEADLINE_MS }),
  );
  try {
    const answers = await Promise.all(
      clients.map(async (client, index): Promise<Asked> => {
        const address = addresses[index] ?? "";
        try {
          const [status, { rosters }, { frauds }] = await Promise.all([
            client.getStatus({}),
            client.getRosters({}),
            client.listFrauds({}),
          ]);
          return {
            index,
            address,
            place: { generation: status.generation, position: status.position },
            decidedSlot: status.decidedSlot,
            caughtUp: status.caughtUp,
            ...(status.rules === undefined ? {} : { rules: status.rules.active }),
            // Also those that have no seat any more.
            blocked: frauds.map(({ memberKey }) => memberKey),
            told: rostersTold(rosters),
          };
        } catch (error) {
          return { index, address, problem: error instanceof Error ? error.message : String(error) };
        }
      }),
    );
    const eras = erasTold(config, organism, new Map(answers.map(({ address, told = [] }) => [address, told]))).of(
      organism,
    );
    const faults = faultsTolerated(config[organism].policy, addresses.length);
    const common = comparedAt(
      answers.flatMap(({ place }) => place ?? []),
      faults,
    );
    return await Promise.all(
      answers.map(async ({ place, told, ...asked }): Promise<Answer> => {
        const answer = told === undefined ? asked : { ...asked, rosters: standing(config, organism, told, eras) };
        const client = clients[answer.index];
        if (client === undefined || place === undefined || answer.problem !== undefined) return answer;
        const problem = elsewhere(place, common);
        if (problem !== undefined) return { ...answer, problem };
        try {
          const head = fromWireHead(await client.getHead({ position: common.position }));
          return head === undefined ? { ...answer, problem: "its head is malformed" } : { ...answer, head };
        } catch (error) {
          return { ...answer, problem: error instanceof Error ? error.message : String(error) };
        }
      }),
    );
  } finally {
    for (const client of clients) client.close();
  }
}

/** Rosters by how many have them, newest first; two of one epoch are two. */
function counted(answers: readonly Answer[]) {
  const found = new Map<string, { roster: Roster; certified: CertifiedOutcome; count: number }>();
  for (const { rosters = [] } of answers) {
    for (const { roster, certified } of rosters) {
      const key = toHex(certified.outcome.commitment);
      const known = found.get(key);
      if (known === undefined) found.set(key, { roster, certified, count: 1 });
      else known.count += 1;
    }
  }
  return [...found.values()].sort((a, b) => (a.roster.epoch < b.roster.epoch ? 1 : -1));
}

/** The chain head that most of those who answer have signed. */
function usualHead(answers: readonly Answer[]): string | undefined {
  const counts = new Map<string, number>();
  for (const { head } of answers) {
    if (head !== undefined) counts.set(headKey(head), (counts.get(headKey(head)) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
}
const headKey = ({ statement: { generation, position, head } }: SignedHead): string =>
  `${generation}/${position}/${toHex(head)}`;

/** True for a member key that f + 1 of those who answer call proven to have said two things, seated or not. */
export function isCalledBlocked(answers: readonly Answer[], { faults }: Quorum, memberKey: Uint8Array): boolean {
  return answers.filter(({ blocked = [] }) => blocked.some((key) => equalBytes(key, memberKey))).length > faults;
}

/** What the answers come to; or one line why they come to nothing. Pure. */
export function judgeCommittee(
  config: LatticeConfig,
  organism: Organism,
  answers: readonly Answer[],
): CommitteeView | { readonly problem: string } {
  const rosters = counted(answers);
  const newest = rosters.find(({ roster, count }) => count >= rosterQuorum(config, organism, roster).quorum);
  if (newest === undefined) {
    const silent = answers.filter(({ problem }) => problem !== undefined);
    const why = silent.map(({ index, address, problem }) => `member ${index} at ${address}: ${problem}`);
    return { problem: [`${organism}: no roster is known to a quorum of its members`, ...why].join("; ") };
  }
  const { roster, certified } = newest;
  const quorum = rosterQuorum(config, organism, roster);
  const usual = usualHead(answers);
  const seats = roster.members.map((member): Seat => {
    const answer = answers[member.index];
    const blocked = isCalledBlocked(answers, quorum, member.memberKey);
    const problem = seatProblem(roster, answer, usual);
    return {
      index: member.index,
      memberKey: member.memberKey,
      address: answer?.address ?? "",
      live: problem === undefined,
      blocked,
      problem: blocked ? "its key was proven to say two things" : problem,
    };
  });
  const told = answers.map(({ address, rosters = [] }) => [address, rosters.map((each) => each.certified)] as const);
  const book = erasTold(config, organism, new Map(told));
  const decided = answers.flatMap(({ decidedSlot }) => decidedSlot ?? []).sort((a, b) => (a < b ? 1 : -1));
  return {
    config,
    organism,
    roster,
    certified,
    eras: book.of(organism),
    links: book.links(organism),
    quorum,
    knownBy: new Map(rosters.map(({ roster: each, count }) => [each.epoch, count])),
    seats,
    margin: seats.filter(({ live, blocked }) => live && !blocked).length - quorum.quorum,
    decidedSlot: decided[quorum.quorum - 1] ?? 0n,
    answers,
  };
}

function seatProblem(roster: Roster, answer: Answer | undefined, usual: string | undefined): string | undefined {
  if (answer === undefined) return "no address of it is known";
  const { head, problem, index } = answer;
  if (problem !== undefined || head === undefined) return problem ?? "it does not say its chain head";
  if (head.statement.member !== index || !verifyHead(roster, head)) return "whoever answers there has another key";
  if (answer.caughtUp !== true) return "it has not caught up with its log";
  return headKey(head) === usual ? undefined : "it has another chain head than the others";
}
