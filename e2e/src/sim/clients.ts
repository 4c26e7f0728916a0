/**
 * Wallets, an aggregator and searchers: whoever uses a lattice. Each keeps a ledger of what it was told, which the
 * checkers hold against what became of it.
 */

import { sealBid } from "@lattice/offer/client/bid.ts";
import { registrationDigest } from "@lattice/offer/core/requests.ts";
import { concat, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { addressOfSecret, keccak256, signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Bundle } from "@lattice/organism/outcomes/offer.ts";
import { type MessageContent, UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { sealMessage } from "@lattice/unseal/client/seal.ts";
import { ZipnetClient } from "@lattice/zipnet/client/zipnet-client.ts";
import { signAggregate } from "@lattice/zipnet/core/aggregate.ts";
import { Fold } from "@lattice/zipnet/core/fold.ts";
import { roundTimes } from "@lattice/zipnet/core/header.ts";
import { toRlp } from "viem";
import type { SeededRandom } from "./random.ts";
import type { World } from "./world.ts";

const LOOK_EVERY_MS = 60;

export interface AcknowledgedBid {
  readonly slot: bigint;
  readonly id: string;
  readonly class: "blind" | "seen";
}

export interface SealedBidRecord {
  readonly slot: bigint;
  readonly class: "blind" | "seen";
  readonly amountWei: bigint;
  readonly references: readonly Uint8Array[];
}

export interface Ledger {
  /** Client ids (hex of the envelope key) that were told they are registered. */
  readonly registrations: Map<string, bigint>;
  readonly bids: AcknowledgedBid[];
  /** Everything that was ever sealed as a bid, by id. */
  readonly sealedBids: Map<string, SealedBidRecord>;
  /** Aggregates that a server took, by slot. */
  readonly aggregates: Map<bigint, bigint>;
  /** Message ids, by slot of the round they went out in. */
  readonly messages: Map<string, bigint>;
  submitted: number;
}

class Wallet {
  readonly random: SeededRandom;
  readonly name: string;
  client: ZipnetClient | undefined;
  registered = false;
  busy = false;
  answered = 0n;

  constructor(name: string, random: SeededRandom) {
    this.name = name;
    this.random = random;
  }
}

class Searcher {
  readonly random: SeededRandom;
  readonly key: Uint8Array;
  readonly account: Uint8Array;
  readonly address: Uint8Array;
  registered = false;
  busy = false;
  nonce = 1n;
  readonly bidFor = { blind: 0n, seen: 0n };

  constructor(random: SeededRandom) {
    this.random = random;
    this.key = random.bytes(32);
    this.account = random.bytes(32);
    this.address = addressOfSecret(this.key);
  }
}

export class Clients {
  readonly ledger: Ledger = {
    registrations: new Map(),
    bids: [],
    sealedBids: new Map(),
    aggregates: new Map(),
    messages: new Map(),
    submitted: 0,
  };
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #wallets: readonly Wallet[];
  readonly #searchers: readonly Searcher[];
  readonly #aggregatorKey;
  readonly #folds = new Map<bigint, { readonly fold: Fold; sent: boolean }>();
  #lastHeader = 0n;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random.fork("clients");
    this.#aggregatorKey = generateSigningKey(this.#random.bytes(32));
    const { participantsMin } = world.dealt.config.zipnet.content;
    this.#wallets = Array.from(
      { length: Math.max(3, participantsMin) },
      (_, index) => new Wallet(`wallet ${index}`, this.#random.fork(`wallet/${index}`)),
    );
    this.#searchers = [0, 1].map((index) => new Searcher(this.#random.fork(`searcher/${index}`)));
    const look = (): void => {
      this.#look();
      world.time.after(LOOK_EVERY_MS, look);
    };
    world.time.after(LOOK_EVERY_MS, look);
  }

  #look(): void {
    for (const wallet of this.#wallets) if (!wallet.registered && !wallet.busy) this.#register(wallet);
    this.#round();
    for (const searcher of this.#searchers) {
      if (searcher.busy) continue;
      if (!searcher.registered) this.#registerSearcher(searcher);
      else this.#bid(searcher);
    }
  }

  /** Does something over the network: later, and not at all when nobody is there. */
  #reach<T>(work: () => Promise<T>, done: (value: T) => void, failed: () => void): void {
    const { time, network } = this.#world;
    time.after(network.hop(), () => {
      let settled = false;
      // A member that dies answers nothing: the caller gives up.
      const giveUp = time.after(4000, () => {
        settled = true;
        failed();
      });
      const settle = (then: () => void): void => {
        if (settled) return;
        settled = true;
        giveUp();
        time.after(network.hop(), then);
      };
      work().then(
        (value) => settle(() => done(value)),
        () => settle(failed),
      );
    });
  }

  #register(wallet: Wallet): void {
    const world = this.#world;
    const { config } = world.dealt;
    const servers = world.ready("zipnet");
    if (servers.length === 0) return;
    const server = this.#random.pick(servers);
    const door = world.doors.zipnet.get(server.index);
    const state = door?.host.state();
    if (door === undefined || state === undefined) return;
    const keys = [...state.servers.values()].sort((a, b) => a.member - b.member);
    if (keys.length < config.zipnet.content.operators.length) return;
    wallet.client ??= ZipnetClient.create(
      { config, random: (count) => wallet.random.bytes(count), store: async () => undefined },
      keys,
    );
    const { client } = wallet;
    wallet.busy = true;
    const registration = client.registration([]);
    this.#reach(
      async () => {
        const refusal = await door.host.submit({ type: "machine", command: { type: "register", registration } });
        const known = door.host.state().clients.get(toHex(registration.envelopeKey));
        return { refusal, known };
      },
      ({ refusal, known }) => {
        wallet.busy = false;
        if ((refusal !== undefined && refusal.reason !== "DUPLICATE") || known === undefined) return;
        wallet.registered = true;
        this.ledger.registrations.set(toHex(registration.envelopeKey), known.expSlot);
        void client.registered({ fromRho: known.fromRho, afterSlot: known.afterSlot, expiresSlot: known.expSlot });
      },
      () => {
        wallet.busy = false;
      },
    );
  }

  #round(): void {
    const world = this.#world;
    const { certificates } = world;
    const next = this.#lastHeader > world.slot - 3n ? this.#lastHeader + 1n : world.slot - 1n;
    for (let slot = next > 0n ? next : 1n; slot <= world.slot + 2n; slot++) {
      const header = certificates.get(`zipnet/header/${slot}`);
      if (header === undefined) continue;
      this.#lastHeader = slot;
      if (header.outcome.kind === "result") this.#answer(header);
    }
    for (const [slot, held] of this.#folds) {
      const { closeMs } = roundTimes(world.dealt.config, slot);
      if (!held.sent && (held.fold.complete || world.nowMs >= closeMs - 120)) this.#forward(slot, held);
      if (slot + 4n < world.slot) this.#folds.delete(slot);
    }
  }

  #answer(header: CertifiedOutcome): void {
    const world = this.#world;
    const { slot } = header.outcome;
    const server = world
      .ready("zipnet")
      .find(({ index }) => world.doors.zipnet.get(index)?.host.state().rounds.has(slot));
    const state = server === undefined ? undefined : world.doors.zipnet.get(server.index)?.host.state();
    const round = state?.rounds.get(slot);
    if (state === undefined || round === undefined) return;
    const byId = new Map([...state.clients.values()].map((client) => [toHex(client.id), client]));
    const fold = new Fold({
      committee: world.dealt.rosters.zipnet.committee,
      header: round.header,
      headerDigest: round.headerDigest,
      roster: round.roster.flatMap((id) => byId.get(toHex(id)) ?? []),
    });
    const held = { fold, sent: false };
    this.#folds.set(slot, held);
    for (const wallet of this.#wallets) {
      if (!wallet.registered || wallet.client === undefined) continue;
      const { client } = wallet;
      const messageId = wallet.random.bytes(16);
      const talks = wallet.random.chance(0.7);
      const sealed = talks ? this.#message(wallet, slot, messageId) : undefined;
      const outgoing =
        sealed === undefined
          ? undefined
          : { sealed, messageId, receiptKey: wallet.random.bytes(32), token: new Uint8Array() };
      client.answer(header, outgoing, world.nowMs).then(
        (answer) => {
          world.time.after(world.network.hop() * 3, () => {
            fold.accept(answer.envelope);
            if (answer.messageId !== undefined) this.ledger.messages.set(toHex(answer.messageId), slot);
          });
        },
        // A header that this client does not answer: it stays silent.
        () => undefined,
      );
    }
  }

  #message(wallet: Wallet, slot: bigint, messageId: Uint8Array): Uint8Array {
    const { config, rosters } = this.#world.dealt;
    const { random } = wallet;
    this.ledger.submitted += 1;
    const everything = random.chance(0.3);
    const content: MessageContent = {
      version: 1,
      rawTransaction: transaction(random),
      refund: undefined,
      disclosure: { hash: everything || random.chance(0.5), target: everything || random.chance(0.3), everything },
    };
    const sealed = sealMessage({
      config,
      sealingKey: rosters.unseal.sealingKey ?? new Uint8Array(),
      epoch: 0n,
      slot,
      messageId,
      content,
      random: (count) => random.bytes(count),
    });
    // Some send rubbish.
    if (random.chance(0.05)) sealed[random.below(sealed.length)] = 0;
    return sealed;
  }

  #forward(slot: bigint, held: { readonly fold: Fold; sent: boolean }): void {
    const world = this.#world;
    const { config, rosters } = world.dealt;
    held.sent = true;
    if (held.fold.participants < config.zipnet.content.participantsMin) return;
    const aggregate = signAggregate(
      this.#aggregatorKey,
      rosters.zipnet.committee,
      held.fold.aggregate(this.#aggregatorKey.publicKey),
    );
    const servers = world.ready("zipnet");
    if (servers.length === 0) return;
    // One at least, or a slot would be lost by nobody's fault; now and then others as well.
    const first = this.#random.pick(servers);
    for (const server of servers.filter((each) => each === first || this.#random.chance(1 / servers.length))) {
      const door = world.doors.zipnet.get(server.index);
      if (door === undefined) continue;
      this.#reach(
        () => door.effects.forward(aggregate),
        (refusal) => {
          if (refusal === undefined) this.ledger.aggregates.set(slot, BigInt(aggregate.proofs.length));
        },
        () => undefined,
      );
    }
  }

  #registerSearcher(searcher: Searcher): void {
    const world = this.#world;
    const members = world.ready("offer");
    if (members.length === 0) return;
    const door = world.doors.offer.get(this.#random.pick(members).index);
    if (door === undefined) return;
    const terms = {
      version: 1 as const,
      committee: world.dealt.rosters.offer.committee,
      account: addressOfSecret(searcher.account),
      searcher: searcher.address,
      untilSlot: 1_000_000n,
    };
    const signature = signDigest(searcher.account, registrationDigest(terms));
    searcher.busy = true;
    this.#reach(
      () => door.host.submit({ type: "machine", command: { type: "register", registration: { terms, signature } } }),
      (refusal) => {
        searcher.busy = false;
        searcher.registered = refusal === undefined;
      },
      () => {
        searcher.busy = false;
      },
    );
  }

  #bid(searcher: Searcher): void {
    const world = this.#world;
    const { config } = world.dealt;
    const { blindCloseMs } = config.offer.content;
    // The slot whose blind bids are taken now.
    const blindSlot = world.slot + 1n;
    const untilBlindMs = slotStartMs(config, blindSlot) - blindCloseMs - world.nowMs;
    if (searcher.bidFor.blind < blindSlot && untilBlindMs > 60 && untilBlindMs < 400) {
      searcher.bidFor.blind = blindSlot;
      if (searcher.random.chance(0.8)) this.#submit(searcher, "blind", blindSlot, []);
    }
    const unsealed = world.certificates.get(`unseal/unsealed/${blindSlot}`);
    if (searcher.bidFor.seen < blindSlot && unsealed !== undefined) {
      searcher.bidFor.seen = blindSlot;
      const { messages } = tryDecode(UNSEALED, unsealed.outcome.commitment) ?? { messages: [] };
      const references = messages.filter(() => searcher.random.chance(0.5)).map(({ messageId }) => messageId);
      if (unsealed.outcome.kind === "result") this.#submit(searcher, "seen", blindSlot, references.slice(0, 3));
    }
  }

  #submit(searcher: Searcher, bidClass: "blind" | "seen", slot: bigint, references: readonly Uint8Array[]): void {
    const world = this.#world;
    const { config, rosters } = world.dealt;
    const members = world.ready("offer");
    if (members.length === 0) return;
    const door = world.doors.offer.get(this.#random.pick(members).index);
    if (door === undefined) return;
    const { random } = searcher;
    // Few values, so that there are ties.
    const amountWei = BigInt(1 + random.below(6)) * 1000n;
    const bundle: Bundle = {
      version: 1,
      items: [
        ...references.map((messageId) => ({ type: "reference" as const, messageId })),
        { type: "transaction", raw: transaction(random) },
      ],
      mayRevert: [],
      refundRecipient: undefined,
    };
    const { bid, bidId } = sealBid({
      config,
      sealingKey: rosters.offer.sealingKey ?? new Uint8Array(),
      epoch: 0n,
      slot,
      class: bidClass,
      searcherKey: searcher.key,
      nonce: searcher.nonce++,
      escrowAccount: addressOfSecret(searcher.account),
      capWei: amountWei + 500n,
      amountWei,
      references,
      bundle,
      random: (count) => random.bytes(count),
    });
    this.ledger.submitted += 1;
    this.ledger.sealedBids.set(toHex(bidId), { slot, class: bidClass, amountWei, references });
    this.#reach(
      async () => {
        const refusal = await door.submitBid(bid);
        return { refusal };
      },
      ({ refusal }) => {
        if (refusal !== undefined) {
          world.count(`bid ${refusal.reason}`);
          return;
        }
        world.count(`bid ${bidClass}`);
        this.ledger.bids.push({ slot, id: toHex(bidId), class: bidClass });
      },
      () => world.count("bid unanswered"),
    );
  }
}

/** A signed legacy transaction of nobody in particular. */
export function transaction(random: SeededRandom): Uint8Array {
  const secret = random.bytes(32);
  const to = random.bytes(20);
  const nonce = Uint8Array.of(1 + random.below(100));
  const fields = [nonce, Uint8Array.of(9), Uint8Array.of(0x52, 0x08), to, Uint8Array.of(1), new Uint8Array()];
  const digest = keccak256(toRlp([...fields], "bytes"));
  const signature = signDigest(secret, digest);
  const minimal = (bytes: Uint8Array): Uint8Array => {
    let at = 0;
    while (at < bytes.length && bytes[at] === 0) at++;
    return bytes.subarray(at);
  };
  const v = Uint8Array.of(signature[64] ?? 27);
  const raw = toRlp([...fields, v, minimal(signature.subarray(0, 32)), minimal(signature.subarray(32, 64))], "bytes");
  return concat(raw);
}
