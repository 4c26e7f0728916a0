/** Certificates: under the pinned key, with a quorum of members, and never two for one stage and slot. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

/** The arithmetic of log.md §1, written down a second time. */
function quorumOfSize(members: number): number {
  const faults = members > 3 ? Math.floor((members - 1) / 3) : 0;
  return Math.floor((members + faults) / 2) + 1;
}

export function certificates(world: () => World): readonly Checker[] {
  const single = "one certificate per stage and slot";
  const quorum = "a certificate has a quorum";
  const valid = "a certificate verifies";
  const digests = new Map<string, string>();
  return [
    {
      name: single,
      certified({ organism }, { outcome }) {
        const key = `${organism}/${outcome.stage}/${outcome.slot}`;
        const digest = toHex(outcomeDigest(outcome));
        const known = digests.get(key);
        if (known === undefined) digests.set(key, digest);
        else if (known !== digest) throw new Broken(single, key);
      },
      finished({ certificates: held }) {
        if (ORGANISMS.every((organism) => ![...held.keys()].some((key) => key.startsWith(organism)))) {
          throw new Broken(single, "nothing was certified: the run is void");
        }
      },
    },
    {
      name: valid,
      certified({ organism, index }, { outcome, signature }) {
        const key = world().dealt.config[organism].policy.certificateKey;
        if (!verifyCertificate(key, outcome, signature)) {
          throw new Broken(valid, `${organism}/${index}: ${outcome.stage} of slot ${outcome.slot}`);
        }
      },
    },
    {
      name: quorum,
      certified({ organism, index }, { outcome, signers }) {
        const needed = quorumOfSize(world().of(organism).length);
        if (new Set(signers).size < needed) {
          throw new Broken(
            quorum,
            `${organism}/${index}: ${outcome.stage} of slot ${outcome.slot} has ${signers.length} of ${needed}`,
          );
        }
      },
    },
  ];
}
