/** A searcher that reads everything public, the moment it is public, and tries to stand in front of a disclosed message. */
import type { Session } from "@lattice/deploy/local/session.ts";
import { fromHex, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { BidClass, Bundle } from "@lattice/organism/outcomes/offer.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { type Hex, keccak256 } from "viem";
import { eventually, firstComplete, slotNow } from "./lattice-tools.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";
import { bidderOf, escrowOf, type Landed, landed, PRIORITY_WEI, User } from "./users.ts";

const LANDING_SLOTS = 15;
/** Times each attack is tried. */
const ROUNDS = 3;

/** What the attacker has learnt. */
interface Disclosed {
  readonly slot: bigint;
  readonly messageId: Uint8Array;
  readonly raw: Uint8Array;
}

interface Attack {
  readonly name: string;
  readonly class: BidClass;
  /** `own` pays the bid; the attacker would love to see it executed first. */
  readonly items: (own: Uint8Array, victim: Disclosed) => Bundle["items"];
  /** A bid for the slot that is being opened, although its class has closed. */
  readonly tooLate?: true;
}

const ATTACKS: readonly Attack[] = [
  {
    name: "a blind bid after the fact",
    class: "blind",
    items: (raw) => [{ type: "transaction", raw }],
    tooLate: true,
  },
  {
    name: "a seen bundle with its own transaction before the reference",
    class: "seen",
    items: (raw, { messageId }) => [
      { type: "transaction", raw },
      { type: "reference", messageId },
    ],
  },
  {
    name: "a seen bundle that holds the victim's raw bytes",
    class: "seen",
    items: (raw, victim) => [
      { type: "transaction", raw: victim.raw },
      { type: "transaction", raw },
    ],
  },
  {
    name: "a seen bundle with its own transaction first and the raw bytes after it",
    class: "seen",
    items: (raw, victim) => [
      { type: "transaction", raw },
      { type: "transaction", raw: victim.raw },
    ],
  },
  {
    name: "a seen bundle that names nobody and bids far more",
    class: "seen",
    items: (raw) => [{ type: "transaction", raw }],
  },
  { name: "a tail bundle", class: "tail", items: (raw) => [{ type: "transaction", raw }] },
];

interface Try {
  readonly attack: string;
  readonly hash: Hex;
  readonly refused: string | undefined;
}

interface Round {
  readonly victim: Hex;
  readonly tries: readonly Try[];
}

function attackAll(attackers: readonly Attacker[], victim: Disclosed): Promise<Try[]> {
  return Promise.all(
    ATTACKS.map(async (attack, index): Promise<Try> => {
      const attacker = attackers[index];
      if (attacker === undefined) throw new Error("an attacker for each attack");
      const { user, bidder } = attacker;
      const { nonce, paymentId } = bidder.reserve(attack.class, victim.slot);
      const amountWei = 10n ** 16n;
      const payment = await user.pay(victim.slot, paymentId, amountWei);
      const hash = keccak256(payment);
      try {
        await bidder.bid({
          slot: victim.slot,
          class: attack.class,
          nonce,
          amountWei,
          capWei: undefined,
          items: attack.items(fromHex(payment.slice(2)), victim),
        });
        return { attack: attack.name, hash, refused: undefined };
      } catch (error) {
        const reason = error instanceof Error && "reason" in error ? String(error.reason) : String(error);
        return { attack: attack.name, hash, refused: reason };
      }
    }),
  );
}

interface Attacker {
  readonly user: User;
  readonly bidder: ReturnType<typeof bidderOf>;
}

/** A transaction with an outrageous fee, sent like any other the moment the victim's is known. */
async function outbid(user: User, victim: Disclosed): Promise<Try> {
  const raw = await user.sign({ to: user.account.address, priorityWei: PRIORITY_WEI * 50n, valueWei: victim.slot });
  const hash = await user.send(raw, "nothing").catch((error: unknown) => String(error));
  return {
    attack: "a transaction of its own with fifty times the fee",
    hash: keccak256(raw),
    refused: hash.startsWith("0x") ? undefined : hash,
  };
}

/** Resolves with what was disclosed of this transaction, as soon as a certified outcome shows it. */
function whenDisclosed(session: Session, raw: Hex, deadlineMs: number): Promise<Disclosed | undefined> {
  const { collector } = session;
  let found: Disclosed | undefined;
  const wanted = raw.slice(2).toLowerCase();
  const look = (): boolean => {
    for (const slot of collector.slots()) {
      const outcome = collector.get("unseal", "unsealed", slot)?.certified.outcome;
      const unsealed = outcome?.kind === "result" ? tryDecode(UNSEALED, outcome.commitment) : undefined;
      for (const { messageId, disclosed } of unsealed?.messages ?? []) {
        const bytes = disclosed.rawTransaction;
        if (bytes !== undefined && toHex(bytes) === wanted) found = { slot, messageId, raw: bytes };
      }
    }
    return found !== undefined;
  };
  return collector.until(look, deadlineMs).then(() => found);
}

/** True when `attack` stands on chain before `victim`. */
function inFront(attack: Landed, victim: Landed): boolean {
  if (attack.blockNumber !== victim.blockNumber) return attack.blockNumber < victim.blockNumber;
  return attack.index < victim.index;
}

async function oneRound(
  context: ScenarioContext,
  session: Session,
  victim: User,
  attackers: readonly Attacker[],
  sender: User,
): Promise<Round | undefined> {
  const raw = await victim.sign({ to: sender.account.address, valueWei: 10n ** 15n });
  await victim.send(raw, "everything");
  const disclosed = await whenDisclosed(session, raw, LANDING_SLOTS * context.slotMs);
  if (disclosed === undefined) return undefined;
  const [tries, sent] = await Promise.all([attackAll(attackers, disclosed), outbid(sender, disclosed)]);
  return { victim: keccak256(raw), tries: [...tries, sent] };
}

export const scenario: Scenario = {
  name: "front-run",
  description: "a searcher that reads everything public tries to get in front of a disclosed message, and cannot",
  async run(context) {
    const session = await context.start({ mode: await context.mode(), traffic: false });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const [first, ...rest] = [...lattice.accounts.wallets, ...lattice.accounts.searchers];
    const [last, ...samples] = rest.toReversed();
    if (first === undefined || last === undefined || samples.length < ATTACKS.length)
      throw new Error("too few accounts");
    const victim = new User(lattice, first);
    const sender = new User(lattice, last);
    const attackers = samples
      .slice(0, ATTACKS.length)
      .map((sample): Attacker => ({ user: new User(lattice, sample), bidder: bidderOf(lattice, sample) }));
    context.onEnd(() => {
      for (const { bidder } of attackers) bidder.close();
    });
    for (const { user } of attackers) await user.deposit();
    const funded = await eventually(LANDING_SLOTS * context.slotMs, async () => {
      const held = await Promise.all(attackers.map(({ user }) => escrowOf(lattice, user.account.address)));
      return held.every((wei) => wei > 0n);
    });
    if (!context.check("the attackers have escrow", funded)) return;
    for (const { bidder } of attackers) await bidder.register();

    const rounds: Round[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      context.say(`round ${round + 1} of ${ROUNDS}, slot ${slotNow(lattice)}`);
      const done = await oneRound(context, session, victim, attackers, sender);
      context.check(`round ${round + 1}: the attackers saw the victim's transaction`, done !== undefined);
      if (done === undefined) continue;
      rounds.push(done);
      const late = done.tries.filter(({ attack }) => ATTACKS.some((each) => each.name === attack && each.tooLate));
      for (const { attack, refused } of late) {
        context.check(`round ${round + 1}: ${attack} is refused`, refused !== undefined, refused ?? "it was taken");
      }
      // The next nonces are known once this round's transactions have landed, or never will.
      await eventually(LANDING_SLOTS * context.slotMs, async () => (await landed(lattice, done.victim)) !== undefined);
      const settled = slotNow(lattice) + 2n;
      await session.collector.until(
        () => session.collector.decided(settled, ["offer", "atelier", "relay"]),
        6 * context.slotMs,
      );
    }

    let attacksLanded = 0;
    for (const [index, { victim: hash, tries }] of rounds.entries()) {
      const target = await landed(lattice, hash);
      context.check(`round ${index + 1}: the victim's transaction landed`, target !== undefined);
      for (const { attack, hash: own, refused } of tries) {
        const place = await landed(lattice, own);
        if (place !== undefined) attacksLanded += 1;
        const ahead = place !== undefined && target !== undefined && inFront(place, target);
        const where = place === undefined ? (refused ?? "not in a block") : "in a block, behind";
        context.check(
          `round ${index + 1}: ${attack} is not in front`,
          !ahead && (place === undefined || target !== undefined),
          where,
        );
      }
    }
    context.check("what the rules allow did land, behind the victim", attacksLanded > 0, `${attacksLanded} attacks`);
  },
};
