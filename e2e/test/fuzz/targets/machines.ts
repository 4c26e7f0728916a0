/**
 * Six committees of two replicas each that apply whatever is thrown at them: entries changed after they were signed,
 * commands changed or made up before, certified outcomes of upstream organisms with made-up commitments. Nothing
 * throws, an entry changed after its signature changes nothing but the chain head, and replicas stay alike.
 */
import { definition as atelier } from "@lattice/atelier/definition.ts";
import { definition as offer } from "@lattice/offer/definition.ts";
import { type Codec, encode } from "@lattice/organism/codec/codec.ts";
import { COMMAND as COMMITTEE_COMMAND, encodeCommand } from "@lattice/organism/committee/commands.ts";
import { ENTRY_BODY } from "@lattice/organism/committee/entry.ts";
import type { OutcomeKind } from "@lattice/organism/committee/outcome.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { RulesUnknown } from "@lattice/organism/committee/rules.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import { CANDIDATE } from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION, BLIND_CLOSED } from "@lattice/organism/outcomes/offer.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { BROADCAST, ROUND_HEADER } from "@lattice/organism/outcomes/zipnet.ts";
import { CommitteeDriver } from "@lattice/organism/testing/committee-driver.ts";
import { definition as relay } from "@lattice/relay/definition.ts";
import { definition as tally } from "@lattice/tally/definition.ts";
import { definition as unseal } from "@lattice/unseal/definition.ts";
import { definition as zipnet } from "@lattice/zipnet/definition.ts";
import { dealCommittee } from "../../../../services/organism/test/test-lattice.ts";
import type { Dice } from "../dice.ts";
import { draw, layoutOf, type Pool } from "../layout.ts";
import { mutateOnce } from "../mutate.ts";
import { Finding, shown, type Target, type Verdict } from "../target.ts";

type AnyMachine = Machine<unknown, unknown, Duty>;
type Maker = (config: LatticeConfig, roster: Roster) => AnyMachine;

const MACHINES: { readonly [O in Organism]: Maker } = {
  zipnet: (config, roster) => zipnet.createMachine(config, roster) as unknown as AnyMachine,
  unseal: (config, roster) => unseal.createMachine(config, roster) as unknown as AnyMachine,
  offer: (config, roster) => offer.createMachine(config, roster) as unknown as AnyMachine,
  atelier: (config, roster) => atelier.createMachine(config, roster) as unknown as AnyMachine,
  relay: (config, roster) => relay.createMachine(config, roster) as unknown as AnyMachine,
  tally: (config, roster) => tally.createMachine(config, roster) as unknown as AnyMachine,
};

const COMMITMENTS: Readonly<Record<string, Codec<unknown>>> = {
  header: ROUND_HEADER as Codec<unknown>,
  broadcast: BROADCAST as Codec<unknown>,
  unsealed: UNSEALED as Codec<unknown>,
  blind: BLIND_CLOSED as Codec<unknown>,
  auction: AUCTION as Codec<unknown>,
  candidate: CANDIDATE as Codec<unknown>,
  accepted: ACCEPTED as Codec<unknown>,
  attribution: ATTRIBUTION as Codec<unknown>,
};
const TOPICS = [
  "candidate",
  "escrow",
  "acknowledgement",
  "no-blind",
  "opened",
  "chain",
  "attribution",
  "attribution/1",
];
const KINDS: readonly OutcomeKind[] = ["result", "result", "result", "empty", "skipped"];
/** A committee is replaced by a fresh one after this many cases: a full window takes nothing new. */
const CASES_PER_LIFE = 400;

class Life {
  readonly driver: CommitteeDriver<unknown, unknown, Duty>;
  readonly #config: LatticeConfig;
  readonly #known: Uint8Array[] = [];
  last = new Uint8Array();

  constructor(organism: Organism) {
    const { config, rosters, secrets } = dealCommittee(3);
    const roster = rosters[organism];
    this.#config = config;
    this.driver = new CommitteeDriver({
      config,
      roster,
      secrets,
      createMachine: () => MACHINES[organism](config, roster),
      checkpointEvery: { entries: 64n, slots: 4n },
    });
    this.driver.joinAll();
    this.#known.push(committeeId(config, organism));
  }

  get #slot(): bigint {
    return BigInt(Math.max(1, Math.floor((this.driver.nowMs - this.#config.genesisMs) / this.#config.slotMs)));
  }

  #pool(): Pool {
    const slot = this.#slot;
    return { numbers: [0n, 1n, 2n, slot, slot + 1n, slot + 2n, slot - 1n].filter((n) => n >= 0n), raws: this.#known };
  }

  #drawn(dice: Dice, codec: Codec<unknown>): Uint8Array {
    return draw(codec, dice, this.#pool()) ?? new Uint8Array();
  }

  /** A command as a member might send it, well formed or not. */
  #command(dice: Dice): Uint8Array {
    const { machine } = this.driver.committee;
    const slot = this.#slot + BigInt(dice.below(3));
    switch (dice.below(8)) {
      case 0:
      case 1:
      case 2: {
        const command = this.#drawn(dice, machine.command as Codec<unknown>);
        const other = this.#drawn(dice, machine.command as Codec<unknown>);
        const fields = layoutOf(machine.command as Codec<unknown>, command);
        const changed = dice.chance(3) && command.length > 0 ? mutateOnce(dice, command, fields, other) : command;
        return encodeCommand({ type: "machine", command: changed });
      }
      case 3: {
        const stage = dice.pick(machine.stages);
        if (dice.chance(2)) return encodeCommand({ type: "skip", stage, toSlot: slot });
        const inputs = Array.from({ length: dice.below(3) }, () => dice.pick([dice.bytes(32), new Uint8Array(32)]));
        return encodeCommand({ type: "close", stage, slot, inputs });
      }
      case 4: {
        // Facts of the kinds that are in the core folders, and others; q members saying one makes it agreed.
        const fact = dice.chance(3)
          ? dice.bytes(dice.small(40))
          : this.#drawn(dice, dice.pick(Object.values(COMMITMENTS)));
        return encodeCommand({ type: "saw", topic: dice.pick(TOPICS), slot, fact });
      }
      case 5:
      case 6: {
        const upstream = machine.upstream.length === 0 ? undefined : dice.pick(machine.upstream);
        if (upstream === undefined) return dice.bytes(20);
        const codec = COMMITMENTS[upstream.stage];
        const kind = dice.pick(KINDS);
        const commitment = kind === "skipped" || codec === undefined ? new Uint8Array() : this.#drawn(dice, codec);
        const certified = this.driver.certify({
          version: 1,
          committee: committeeId(this.#config, upstream.organism),
          generation: 0n,
          epoch: 0n,
          slot,
          stage: upstream.stage,
          kind,
          commitment,
          bodyHash: dice.chance(2) ? dice.bytes(32) : undefined,
        });
        return encodeCommand({ type: "observe", organism: upstream.organism, certified });
      }
      default: {
        const command = this.#drawn(dice, COMMITTEE_COMMAND as Codec<unknown>);
        const versioned = new Uint8Array([1, ...command]);
        return dice.chance(3) ? mutateOnce(dice, versioned, [], versioned) : versioned;
      }
    }
  }

  case(dice: Dice, n: number): Verdict {
    const { driver } = this;
    if (dice.chance(12))
      driver.nowMs = Math.max(driver.nowMs, slotStartMs(this.#config, this.#slot)) + dice.below(1500);
    const author = driver.author(dice.below(driver.authors.length));
    const command = this.#command(dice);
    this.last = command.slice();
    const lane = dice.chance(3) ? "bulk" : "ctl";
    let verdict: Verdict;
    if (dice.chance(4)) {
      const raw = author.sign(command, lane, { aside: true });
      const changed = mutateOnce(dice, raw, layoutOf(ENTRY_BODY as Codec<unknown>, raw.subarray(4)), raw);
      this.last = changed.slice();
      const before = encode(driver.committee.machine.state as Codec<unknown>, driver.committee.state);
      const applied = driver.apply(changed);
      const same = Buffer.compare(changed, raw) === 0;
      if (applied.landed === true && !same) throw new Finding("an entry that was changed after it was signed landed");
      const after = encode(driver.committee.machine.state as Codec<unknown>, driver.committee.state);
      if (!same && Buffer.compare(before, after) !== 0)
        throw new Finding("a changed entry changed the machine's state");
      verdict = applied.refusal === undefined ? "accepted" : "refused";
    } else {
      const applied = this.#say(dice, author, command, lane);
      verdict = applied === undefined ? "accepted" : "refused";
    }
    this.#follow();
    if (n % 40 === 0) {
      driver.assertAlike();
      driver.restart(1);
    }
    return verdict;
  }

  /** One member says it, and sometimes the others too: facts and skips count then. */
  #say(
    dice: Dice,
    author: CommitteeDriver<unknown, unknown, Duty>["authors"][number],
    command: Uint8Array,
    lane: "ctl" | "bulk",
  ): string | undefined {
    const voices = dice.chance(2) ? this.driver.authors : [author];
    let refusal: string | undefined;
    for (const voice of voices) refusal = voice.say(command, lane).refusal?.reason;
    return refusal;
  }

  /** Authors go on from where the log says they are. */
  #follow(): void {
    for (const { index, lanes } of this.driver.authors) {
      const known = this.driver.committee.author(index);
      if (known === undefined) continue;
      Object.assign(lanes.ctl, known.ctl);
      Object.assign(lanes.bulk, known.bulk);
    }
  }
}

export function machineTargets(): Target[] {
  return (Object.keys(MACHINES) as Organism[]).map((organism) => ({
    name: `machine/${organism}`,
    async open() {
      await initCrypto();
      let life = new Life(organism);
      let lived = 0;
      return {
        run(dice, n) {
          if (++lived % CASES_PER_LIFE === 0) life = new Life(organism);
          try {
            return life.case(dice, n);
          } catch (error) {
            if (!(error instanceof RulesUnknown)) throw error;
            // A quorum has said that it follows rules which this build does not have: it stops, as it must (rules.ts).
            life = new Life(organism);
            return "refused";
          }
        },
        lastInput: () => shown(life.last),
      };
    },
  }));
}
