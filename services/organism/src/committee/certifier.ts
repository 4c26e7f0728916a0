/** How members' shares of the certificate key become one signature, and who is named when they do not. */
import { blsVerify } from "../crypto/bls.ts";
import { combineSignatures, ThresholdError } from "../crypto/threshold.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Effects } from "./effects.ts";
import type { Epochs } from "./epochs.ts";
import { certificateKeyOf } from "./eras.ts";
import { SHARES_TOGETHER } from "./rules.ts";
import type { SharedState } from "./state.ts";

/** What is signed, under which epoch's key. */
export interface Signed {
  readonly digest: Uint8Array;
  readonly epoch: bigint;
  /** For people. */
  readonly what: string;
}

export class Certifier {
  readonly #config: LatticeConfig;
  readonly #organism: Organism;
  readonly #shared: SharedState;
  readonly #epochs: Epochs;

  constructor(config: LatticeConfig, organism: Organism, shared: SharedState, epochs: Epochs) {
    this.#config = config;
    this.#organism = organism;
    this.#shared = shared;
    this.#epochs = epochs;
  }

  /** True when shares are taken without a look until there are enough of them to `settle`. */
  get together(): boolean {
    return this.#shared.rules.active >= SHARES_TOGETHER;
  }

  /**
   * Enough shares are there, some of them never looked at. Their combination under the group's key says in one check that
   * all are good. When it does not, each is looked at, and whoever gave a bad one is named and its share struck out.
   * Whether the combination stands does not depend on the order of the shares, since all of them go into it.
   */
  settle(
    votes: Map<number, Uint8Array>,
    { digest, epoch, what }: Signed,
    effects: Effects,
  ): { readonly signature: Uint8Array | undefined } | { readonly bad: readonly number[] } {
    const signature = combined(votes);
    const roster = this.#epochs.of(epoch) ?? this.#epochs.current;
    const certificateKey = certificateKeyOf(this.#config, this.#organism, roster);
    if (signature !== undefined && blsVerify(certificateKey, digest, signature)) return { signature };
    const members = this.#epochs.of(epoch)?.members ?? [];
    const bad = [...votes.keys()]
      .filter((author) => {
        const [key, share] = [members[author]?.certificateShare, votes.get(author)];
        return key === undefined || share === undefined || !blsVerify(key, digest, share);
      })
      .sort((a, b) => a - b);
    // Each share is its member's: the certificate is as good as the group's key, and nobody here can say more.
    if (bad.length === 0) return { signature: undefined };
    for (const author of bad) votes.delete(author);
    effects.badShares = [...(effects.badShares ?? []), ...bad.map((author) => ({ author, what }))];
    return { bad };
  }
}

/** All shares together; undefined when one of them is no point of the group. */
function combined(votes: ReadonlyMap<number, Uint8Array>): Uint8Array | undefined {
  const shares = [...votes].map(([index, signature]) => ({ index, signature }));
  try {
    return combineSignatures(shares, shares.length);
  } catch (error) {
    if (error instanceof ThresholdError) return undefined;
    throw error;
  }
}
