/** The founding file: the drafted config and every member's public keys, which all operators hold alike; and what comes of it. */
import { readFileSync } from "node:fs";
import {
  type Founding,
  type FoundingMember,
  foundedConfig,
  foundingPlan,
} from "@lattice/organism/ceremony/founding.ts";
import { planProblems } from "@lattice/organism/ceremony/plan.ts";
import { CodecError, decode, encode, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { checkRoster } from "@lattice/organism/committee/roster.ts";
import {
  configProblems,
  encodeConfig,
  LATTICE_CONFIG,
  type LatticeConfig,
} from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { shapeProblems } from "@lattice/organism/node/kit.ts";
import { z } from "zod";
import { CeremonyProblem } from "./member-folder.ts";

const HEX = z.string().regex(/^(?:[0-9a-f]{2})*$/, "lower-case hex expected");
/** What `builder ceremony member` prints; the organism's name may stand with it. */
export const PUBLIC_MEMBER = z.strictObject({
  organism: z.enum(ORGANISMS).optional(),
  memberKey: HEX.length(64),
  boxKey: HEX.length(64),
  signer: HEX.length(40).optional(),
  operator: HEX.length(64).optional(),
});

const FOUNDING_FILE = z.strictObject({
  version: z.literal(1),
  draft: HEX,
  members: z.strictObject(
    Object.fromEntries(ORGANISMS.map((organism) => [organism, z.array(PUBLIC_MEMBER).min(3).max(7)])) as Record<
      Organism,
      z.ZodArray<typeof PUBLIC_MEMBER>
    >,
  ),
});
/** What each member's ceremony leaves for everybody. */
const RESULT_FILE = z.strictObject({
  organism: z.enum(ORGANISMS),
  attempt: z.number().int().min(1),
  transcript: HEX.length(64),
  certificateKey: HEX.length(96),
  secondKey: HEX.length(96).optional(),
  roster: HEX,
  holders: z.array(z.number().int()),
});
export type ResultFile = z.infer<typeof RESULT_FILE>;

/** @throws CeremonyProblem */
export function parseFile<T>(schema: z.ZodType<T>, path: string, what: string): T {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new CeremonyProblem(`${what}: ${path} ${code === undefined ? "is not JSON" : `cannot be read: ${code}`}`);
  }
  const result = schema.safeParse(parsed);
  if (result.success) return result.data;
  throw new CeremonyProblem(`${what}: ${path}: ${shapeProblems(result.error)}`);
}

export function memberToJson({ memberKey, boxKey, signer, operator }: FoundingMember): z.infer<typeof PUBLIC_MEMBER> {
  return {
    memberKey: toHex(memberKey),
    boxKey: toHex(boxKey),
    ...(signer === undefined ? {} : { signer: toHex(signer) }),
    ...(operator === undefined ? {} : { operator: toHex(operator) }),
  };
}

export function memberFromJson(json: z.infer<typeof PUBLIC_MEMBER>): FoundingMember {
  return {
    memberKey: fromHex(json.memberKey),
    boxKey: fromHex(json.boxKey),
    ...(json.signer === undefined ? {} : { signer: fromHex(json.signer) }),
    ...(json.operator === undefined ? {} : { operator: fromHex(json.operator) }),
  };
}

export function foundingToJson({ draft, members }: Founding): string {
  const json = {
    version: 1,
    draft: toHex(encodeConfig(draft)),
    members: Object.fromEntries(ORGANISMS.map((organism) => [organism, members[organism].map(memberToJson)])),
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

/** What would be found wrong only once all six ceremonies are over, or by the lattice that comes of them. */
function foundingProblems(founding: Founding): string[] {
  const { draft, members } = founding;
  const problems = configProblems(draft).map((problem) => `draft: ${problem}`);
  if (draft.keys !== "ceremony") problems.push("draft: keys: ceremony expected");
  for (const organism of ORGANISMS) {
    const { membersMin, membersMax } = draft[organism].policy;
    const own = members[organism];
    if (own.length < membersMin || own.length > membersMax)
      problems.push(`${organism}: ${own.length} members; the draft's policy has ${membersMin} to ${membersMax}`);
    problems.push(...planProblems(foundingPlan(founding, organism)).map((problem) => `${organism}: ${problem}`));
    if (new Set(own.map(({ boxKey }) => toHex(boxKey))).size < own.length)
      problems.push(`${organism}: a box key stands twice`);
  }
  const operators = draft.zipnet.content.operators.map(toHex).join();
  if (members.zipnet.map(({ operator }) => toHex(operator ?? new Uint8Array())).join() !== operators)
    problems.push("zipnet: the members' operator keys, in their order, are not those of the draft");
  const signers = members.tally.flatMap(({ signer }) => (signer === undefined ? [] : [toHex(signer)]));
  if (new Set(signers).size < members.tally.length) problems.push("tally: each member needs a signer of its own");
  return problems;
}

/** @throws CeremonyProblem */
export function readFounding(path: string): Founding {
  const founding = parseFounding(path);
  const problems = foundingProblems(founding);
  if (problems.length > 0) throw new CeremonyProblem(`founding file: ${path}: ${problems.join("; ")}`);
  return founding;
}

function parseFounding(path: string): Founding {
  const file = parseFile(FOUNDING_FILE, path, "founding file");
  const members = Object.fromEntries(
    ORGANISMS.map((organism) => [organism, file.members[organism].map(memberFromJson)]),
  ) as Record<Organism, FoundingMember[]>;
  try {
    return { draft: decode(LATTICE_CONFIG, fromHex(file.draft)), members };
  } catch (error) {
    if (error instanceof CodecError) throw new CeremonyProblem(`founding file: draft: ${error.message}`);
    throw error;
  }
}

export interface Founded {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: CertifiedOutcome };
}

/**
 * The lattice that six ceremonies have founded: every result checked against the founding file, the rosters under the
 * keys of the config that comes out. Several results of one organism must be equal. @throws CeremonyProblem
 */
export function assemble(founding: Founding, results: readonly ResultFile[]): Founded {
  const of = (organism: Organism): ResultFile => {
    const found = results.filter((result) => result.organism === organism);
    const [first] = found;
    if (first === undefined) throw new CeremonyProblem(`${organism}: no result of its ceremony`);
    if (found.some(({ transcript, roster }) => transcript !== first.transcript || roster !== first.roster))
      throw new CeremonyProblem(`${organism}: its members' results differ: they did not see the same ceremony`);
    return first;
  };
  const config = foundedConfig(
    founding.draft,
    Object.fromEntries(
      ORGANISMS.map((organism) => {
        const { certificateKey, secondKey } = of(organism);
        const second = secondKey === undefined ? undefined : fromHex(secondKey);
        return [organism, { certificateKey: fromHex(certificateKey), secondKey: second }];
      }),
    ),
  );
  const problems = configProblems(config);
  if (problems.length > 0) throw new CeremonyProblem(`the config is not a lattice's: ${problems.join("; ")}`);
  const rosters = Object.fromEntries(
    ORGANISMS.map((organism) => {
      let certified: CertifiedOutcome;
      try {
        certified = decode(CERTIFIED, fromHex(of(organism).roster));
      } catch (error) {
        if (error instanceof CodecError) throw new CeremonyProblem(`${organism}: roster: ${error.message}`);
        throw error;
      }
      const checked = checkRoster(config, organism, certified);
      if ("problem" in checked) throw new CeremonyProblem(`${organism}: roster: ${checked.problem}`);
      const expected = founding.members[organism];
      const same =
        checked.roster.members.length === expected.length &&
        checked.roster.members.every(
          ({ memberKey }, i) => toHex(memberKey) === toHex(expected[i]?.memberKey ?? new Uint8Array()),
        );
      if (!same) throw new CeremonyProblem(`${organism}: roster: other members than in the founding file`);
      return [organism, certified];
    }),
  ) as { [O in Organism]: CertifiedOutcome };
  return { config, rosters };
}

/** @throws CeremonyProblem */
export function readResult(path: string): ResultFile {
  return parseFile(RESULT_FILE, path, "ceremony result");
}

export function rosterHex(certified: CertifiedOutcome): string {
  return toHex(encode(CERTIFIED, certified));
}
