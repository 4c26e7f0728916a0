/** The founding file: what no lattice could come of is refused before anybody has dealt a share. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { draftOf, type Founding, type FoundingMember } from "@lattice/organism/ceremony/founding.ts";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { G1_BYTES, LATTICE_CONFIG, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { localConfig } from "../local/profile.ts";
import { foundingToJson, readFounding } from "./founding-file.ts";
import { CeremonyProblem } from "./member-folder.ts";

const scratch = mkdtempSync(join(tmpdir(), "lattice-founding-file-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
before(initCrypto);

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const perOrganism = <T>(make: (organism: Organism) => T): Record<Organism, T> =>
  Object.fromEntries(ORGANISMS.map((organism) => [organism, make(organism)])) as Record<Organism, T>;
const member = (organism: Organism): FoundingMember => ({
  memberKey: generateSigningKey(random(32)).publicKey,
  boxKey: random(32),
  ...(organism === "tally" ? { signer: random(20) } : {}),
  ...(organism === "zipnet" ? { operator: generateSigningKey(random(32)).publicKey } : {}),
});
const three = (organism: Organism): FoundingMember[] => [0, 1, 2].map(() => member(organism));

function founding(): Founding {
  const members = perOrganism(three);
  const profile = { name: "founded", chainId: 1n, genesisMs: 1_790_000_000_000, slotMs: 4000, members: 3 };
  const config = localConfig(
    { ...profile, keys: "ceremony", settlement: random(20) },
    {
      certificateKeys: perOrganism(() => new Uint8Array(G1_BYTES)),
      builderKey: new Uint8Array(G1_BYTES),
      operators: members.zipnet.map(({ operator }) => operator ?? new Uint8Array()),
      issuer: random(32),
      sequencer: random(20),
    },
  );
  return { draft: draftOf(config), members };
}

/** Why a file that says this is refused; undefined when it is not. */
function refusal(changed: Founding): string | undefined {
  const path = join(scratch, "founding.json");
  const json = JSON.parse(foundingToJson({ ...changed, draft: founding().draft })) as Record<string, unknown>;
  // As it is: what encodes a config refuses one that is no lattice's.
  writeFileSync(path, JSON.stringify({ ...json, draft: toHex(encode(LATTICE_CONFIG, changed.draft)) }));
  try {
    readFounding(path);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof CeremonyProblem, String(error));
    return error.message;
  }
}

test("a file of which a lattice may come is read; one of which none could is refused, with the reason", () => {
  const good = founding();
  assert.equal(refusal(good), undefined);
  const draft = (changes: Partial<LatticeConfig>): Founding => ({ ...good, draft: { ...good.draft, ...changes } });
  const withMembers = (organism: Organism, members: readonly FoundingMember[]): Founding => ({
    ...good,
    members: { ...good.members, [organism]: members },
  });
  const { relay, zipnet, tally } = good.members;
  const [first] = relay;
  assert.ok(first !== undefined);
  const { content, policy, acl } = good.draft.unseal;
  for (const [changed, why] of [
    [draft({ slotMs: 100 }), /draft: slotMs: 200 to 60000 expected/],
    [draft({ keys: "dealer" }), /draft: keys: ceremony expected/],
    [draft({ unseal: { acl, policy, content: { ...content, threshold: 4 } } }), /unseal: sealing: 1 <= threshold/],
    [draft({ unseal: { acl, content, policy: { ...policy, membersMin: 4 } } }), /unseal: 3 members; .* has 4 to 7/],
    [withMembers("relay", [first, ...relay.slice(0, 2)]), /relay: participants: a member key stands twice/],
    [
      withMembers("relay", [first, ...relay.slice(1).map((each) => ({ ...each, boxKey: first.boxKey }))]),
      /relay: a box key stands twice/,
    ],
    [withMembers("zipnet", zipnet.toReversed()), /zipnet: the members' operator keys, in their order/],
    [
      withMembers(
        "tally",
        tally.map(({ signer: _, ...each }) => each),
      ),
      /tally: each member needs a signer/,
    ],
  ] as const) {
    assert.match(refusal(changed) ?? "read", why);
  }
});
