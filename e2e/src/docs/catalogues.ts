/** Every catalogue of reasons that a caller can meet, with the domain that goes before the reason on the wire. */
import { FAULTS as ATELIER_FAULTS } from "@lattice/atelier/core/faults.ts";
import { FAULTS as GATEWAY_FAULTS } from "@lattice/gateway/faults.ts";
import { FAULTS as OFFER_FAULTS } from "@lattice/offer/core/faults.ts";
import { TICKET_FAULTS } from "@lattice/organism/committee/ticket.ts";
import { COMMON_FAULTS, type FaultCatalogue } from "@lattice/organism/fault.ts";
import { RPC_FAULTS } from "@lattice/organism/rpc/errors.ts";
import { HEALTH_FAULTS } from "@lattice/organism/rpc/health.ts";
import { FAULTS as RELAY_FAULTS } from "@lattice/relay/core/faults.ts";
import { FAULTS as TALLY_FAULTS } from "@lattice/tally/core/faults.ts";
import { FAULTS as UNSEAL_FAULTS } from "@lattice/unseal/core/faults.ts";
import { FAULTS as ZIPNET_FAULTS } from "@lattice/zipnet/core/faults.ts";

export interface NamedCatalogue {
  readonly title: string;
  /** `ErrorInfo.domain`, or how it is made. */
  readonly domain: string;
  /** Where it is in the repository. */
  readonly file: string;
  /** One or two sentences for the page. */
  readonly about: string;
  readonly catalogue: FaultCatalogue;
}

/** An organism's own reasons: those of tickets are told once, for everybody. */
function own(catalogue: FaultCatalogue): FaultCatalogue {
  return Object.fromEntries(Object.entries(catalogue).filter(([reason]) => !(reason in TICKET_FAULTS)));
}

function organism(name: string, catalogue: FaultCatalogue): NamedCatalogue {
  return {
    title: name,
    domain: `${name}.lattice`,
    file: `services/${name}/src/core/faults.ts`,
    about: `What ${name} refuses, besides what every member does.`,
    catalogue: own(catalogue),
  };
}

/** In the order of the page. */
export const CATALOGUES: readonly NamedCatalogue[] = [
  {
    title: "Every member",
    domain: "<organism>.lattice",
    file: "services/organism/src/fault.ts",
    about: "Given by members of any committee, under their own organism's domain.",
    catalogue: COMMON_FAULTS,
  },
  {
    title: "Tickets",
    domain: "<organism>.lattice",
    file: "services/organism/src/committee/ticket.ts",
    about: "Given by organisms that admit clients by ticket: zipnet and offer.",
    catalogue: TICKET_FAULTS,
  },
  {
    title: "Calls",
    domain: "rpc.lattice",
    file: "services/organism/src/rpc/errors.ts",
    about: "What a call runs into by itself, whatever it was about; most are made by the caller's own side.",
    catalogue: { ...RPC_FAULTS, ...HEALTH_FAULTS },
  },
  organism("zipnet", ZIPNET_FAULTS),
  organism("unseal", UNSEAL_FAULTS),
  organism("offer", OFFER_FAULTS),
  organism("atelier", ATELIER_FAULTS),
  organism("relay", RELAY_FAULTS),
  organism("tally", TALLY_FAULTS),
  {
    title: "gateway",
    domain: "gateway.lattice",
    file: "gateway/src/faults.ts",
    about: "What the gateway itself says; reasons of the organisms behind it are passed on unchanged.",
    catalogue: GATEWAY_FAULTS,
  },
];

/** Reasons that code of a package may name: its own and those that every package may. */
export function reasonsOf(packageFolder: string): ReadonlySet<string> {
  const shared = [COMMON_FAULTS, TICKET_FAULTS, RPC_FAULTS, HEALTH_FAULTS];
  const mine = CATALOGUES.filter(({ file }) => file.startsWith(`${packageFolder}/`)).map(({ catalogue }) => catalogue);
  return new Set([...shared, ...mine].flatMap((catalogue) => Object.keys(catalogue)));
}
