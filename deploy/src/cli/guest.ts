/** `builder guest …`: following a committee as somebody who is not of it. */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { guestAudience } from "@lattice/organism/committee/reader.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty } from "@lattice/organism/machine.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { Guest, GuestProblem } from "@lattice/organism/node/guest.ts";
import { KitProblem, readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { nodeTimers } from "@lattice/organism/node/node-timers.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { withDefinition } from "./definitions.ts";
import { expectedProblem } from "./expected.ts";
import type { Output } from "./fraud-verify.ts";
import { readGuestState, readSeed, readTickets, writeGuestState, writeSeed } from "./guest-files.ts";

const STANDARD: Output = {
  data: (line) => process.stdout.write(`${line}\n`),
  problem: (line) => process.stderr.write(`${line}\n`),
};

/** Says what came of it as an exit code; what may be expected to go wrong is one line. */
async function guarded(output: Output, work: () => Promise<number> | number): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof GuestProblem) {
      output.problem(`guest: ${error.message}`);
      return EXIT.failed;
    }
    const expected = expectedProblem(error);
    if (expected === undefined) throw error;
    output.problem(expected.line);
    return expected.code;
  }
}

/** A guest's own key: prints the public half, which the ticket's issuer needs. */
export function runGuestKey({ out }: { readonly out: string }, output: Output = STANDARD): Promise<number> {
  return guarded(output, () => {
    output.data(toHex(writeSeed(out).publicKey));
    return EXIT.ok;
  });
}

export interface GuestTicketCommand {
  readonly config: string;
  readonly issuer: string;
  readonly organism: Organism;
  readonly guest: string;
  readonly slots: bigint;
}

/**
 * A ticket that admits one key to read one committee's log.
 * @returns the exit code: 5 also when no member would take it
 */
export function runGuestTicket(options: GuestTicketCommand, output: Output = STANDARD): Promise<number> {
  return guarded(output, () => {
    const { organism, guest, slots } = options;
    const config = readConfig(options.config);
    const issuer = readSeed(options.issuer, "ticket issuer");
    const { acl } = config[organism];
    const named = acl.flatMap(({ kind, parameters }) => (kind === "jwt" ? [parameters] : []));
    if (named.some((key) => equalBytes(key, issuer.publicKey))) {
      const expSlot = slotAt(config, Date.now()) + slots;
      const audience = guestAudience(committeeId(config, organism));
      const subject = Uint8Array.from(Buffer.from(guest, "hex"));
      output.data(Buffer.from(signTicket(issuer, { audience, subject, expSlot })).toString("latin1"));
      return EXIT.ok;
    }
    if (named.length > 0) {
      const keys = named.map(toHex).join(", ");
      throw new KitProblem(`ticket issuer: ${organism} takes tickets of ${keys}, not of ${toHex(issuer.publicKey)}`);
    }
    if (!acl.some(({ kind }) => kind === "mock")) {
      const who = config.throwAway && acl.length === 0 ? "everybody, without a ticket" : "nobody by a ticket";
      throw new KitProblem(`lattice config: ${organism} admits ${who}`);
    }
    output.problem(`${organism} has a mock rule, which only throw-away lattices may have: its ticket is empty`);
    output.data("");
    return EXIT.ok;
  });
}

export interface GuestFollowCommand {
  readonly config: string;
  readonly organism: Organism;
  readonly endpoints: string;
  readonly key: string;
  readonly ticket: readonly string[];
  /** Where the newest certified state is kept, and taken up again. */
  readonly state?: string;
  /** Ends once a quorum has certified so many of the guest's own states. */
  readonly checkpoints?: number;
  readonly json: boolean;
}

/**
 * Follows until `signal` aborts, or as many checkpoints as were asked for.
 * @returns the exit code: 0 ended as asked, 1 nobody serves it or a quorum has another state, 5 the kit is not as it must be, the state cannot be kept, or this build lacks the log's rules
 */
export function runGuestFollow(
  options: GuestFollowCommand,
  output: Output = STANDARD,
  signal: AbortSignal = interrupted(),
): Promise<number> {
  return guarded(output, async () => {
    const config = readConfig(options.config);
    const { organism } = options;
    const key = readSeed(options.key, "guest key");
    const tickets = readTickets(options.ticket);
    const addresses = readEndpoints(options.endpoints)[organism];
    await initCrypto();
    const eras = new EraWatch({ config, addresses: () => addresses });
    await eras.ask(organism);
    const kept =
      options.state === undefined ? undefined : readGuestState(options.state, config, organism, eras.of(organism));
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort());
    let certifiedStates = 0;
    let warned: string | undefined;
    // Each source is asked more than once, and mostly they all say the same.
    const warnOnce = (line: string): void => {
      if (line !== warned) output.problem(line);
      warned = line;
    };
    const tell = (event: Record<string, unknown>, line: string): void => {
      output.data(options.json ? JSON.stringify({ schema_version: 1, ...event }) : line);
    };
    const onOutcome = ({ outcome, signature }: CertifiedOutcome): void => {
      const { stage, slot, kind } = outcome;
      const commitment = toHex(outcome.commitment);
      const event = { event: "outcome", stage, slot: slot.toString(), kind, commitment, signature: toHex(signature) };
      tell(event, `slot ${slot}: ${stage} ${kind}`);
    };
    await withDefinition(organism, async <S, C, D extends Duty, T>(definition: OrganismDefinition<S, C, D, T>) => {
      const guest = await Guest.begin<S, C, D>(
        {
          config,
          organism,
          createMachine: (roster) => definition.createMachine(config, roster),
          addresses,
          eras,
          key,
          tickets,
          clock: { nowMs: () => Date.now() },
          timers: nodeTimers,
          logger: {
            debug: () => undefined,
            info: () => undefined,
            warn: (message, fields) =>
              warnOnce(`guest: ${message}${fields?.["problem"] === undefined ? "" : `: ${fields["problem"]}`}`),
            error: (message) => output.problem(`guest: ${message}`),
          },
          onOutcome,
          onCertified: (certified, view) => {
            certifiedStates += 1;
            if (options.state !== undefined) writeGuestState(options.state, { certified, view });
            const { position, guestHash } = certified.checkpoint;
            const event = {
              event: "checkpoint",
              position: position.toString(),
              guest_hash: toHex(guestHash),
              bytes: view.length,
            };
            tell(event, `position ${position}: a quorum certified this guest's state (${view.length} bytes)`);
            if (certifiedStates === options.checkpoints) stop.abort();
          },
        },
        kept,
      );
      const { certified, view } = guest.newestCertified;
      if (options.state !== undefined && kept === undefined) writeGuestState(options.state, { certified, view });
      const { position } = guest.committee;
      const begun = { event: "begun", position: position.toString(), bytes: view.length };
      tell(begun, `begun at position ${position} with ${view.length} bytes of state`);
      await guest.follow(stop.signal);
    });
    return signal.aborted ? EXIT.interrupted : EXIT.ok;
  });
}

function interrupted(): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
  return stop.signal;
}
