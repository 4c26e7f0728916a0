/** What unseal asks of other organisms: the body of a Broadcast, once a slot. */
import { decode, equalBytes } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { BROADCAST_BODY, type BroadcastMessage } from "@lattice/organism/outcomes/zipnet.ts";
import type { MemberHost } from "@lattice/organism/service.ts";

const fault = faultsOf("unseal", COMMON_FAULTS);

type BodyHost = Pick<MemberHost<unknown, unknown, unknown>, "observed" | "fetchBody">;

/** Broadcast bodies, fetched once: early if asked, so that opening need not wait for the network. */
export class Broadcasts {
  readonly #host: BodyHost;
  readonly #pending = new Map<bigint, Promise<readonly BroadcastMessage[]>>();

  constructor(host: BodyHost) {
    this.#host = host;
  }

  /**
   * The messages of the slot's Broadcast with this digest, by ascending cell.
   * @throws Fault UPSTREAM_UNREACHABLE, OUTCOME_UNKNOWN; CodecError when a quorum of zipnet certified what is no body
   */
  messages(slot: bigint, digest: Uint8Array): Promise<readonly BroadcastMessage[]> {
    const known = this.#pending.get(slot);
    if (known !== undefined) return known;
    const fetched = this.#fetch(slot, digest);
    this.#pending.set(slot, fetched);
    // A failed fetch is tried again by the next caller.
    fetched.catch(() => this.#pending.delete(slot));
    return fetched;
  }

  /** Starts fetching; a failure shows when the messages are asked for. */
  prefetch(slot: bigint, digest: Uint8Array): void {
    this.messages(slot, digest).catch(() => undefined);
  }

  /** Lets go of slots below `slot`. */
  forget(slot: bigint): void {
    for (const old of [...this.#pending.keys()]) if (old < slot) this.#pending.delete(old);
  }

  async #fetch(slot: bigint, digest: Uint8Array): Promise<readonly BroadcastMessage[]> {
    const outcome = this.#host.observed("zipnet", "broadcast", slot);
    if (outcome === undefined || !equalBytes(outcomeDigest(outcome), digest)) {
      throw fault("OUTCOME_UNKNOWN", `the frozen Broadcast of slot ${slot} is not here`);
    }
    return decode(BROADCAST_BODY, await this.#host.fetchBody("zipnet", outcome));
  }
}
