/**
 * The network of a local lattice with a fault link on every hop: from each member to each nats-server, and from each
 * member to each other member. Gateway, aggregator, users and whoever watches go round it.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { at, Layout, type Ports } from "@lattice/deploy/local/layout.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { type Conditions, FaultLink, type LinkCounts, noCounts } from "./fault-link.ts";
import type { PacketFilter } from "./packet-filter.ts";
import { Seeded } from "./seeded.ts";

export interface MemberId {
  readonly organism: Organism;
  readonly index: number;
}

export const memberName = ({ organism, index }: MemberId): string => `${organism}-${index}`;

export interface NetworkOptions {
  readonly directory: string;
  readonly members: number;
  readonly natsServers: number;
  readonly seed: number;
  /** Where cuts and loss are the kernel's; otherwise the links do what they can. */
  readonly filter?: PacketFilter;
}

export class FaultNetwork {
  readonly members: readonly MemberId[];
  readonly #counts: LinkCounts = noCounts();
  readonly #options: NetworkOptions;
  readonly #nats = new Map<string, FaultLink[]>();
  readonly #grpc = new Map<string, FaultLink>();
  #ports: Ports | undefined;

  private constructor(options: NetworkOptions) {
    this.#options = options;
    this.members = ORGANISMS.flatMap((organism) =>
      Array.from({ length: options.members }, (_, index): MemberId => ({ organism, index })),
    );
  }

  static async open(options: NetworkOptions): Promise<FaultNetwork> {
    const network = new FaultNetwork(options);
    const random = new Seeded(options.seed);
    const open = (target: () => number, nats: boolean): Promise<FaultLink> =>
      FaultLink.open(target, { seed: random.below(2 ** 32), nats, counts: network.#counts });
    for (const from of network.members) {
      const own: FaultLink[] = [];
      for (let server = 0; server < options.natsServers; server++)
        own.push(await open(() => network.ports.nats[server]?.client ?? 0, true));
      network.#nats.set(memberName(from), own);
      for (const to of network.members) {
        if (memberName(from) === memberName(to)) continue;
        const target = (): number => network.ports.members[to.organism][to.index]?.grpc ?? 0;
        network.#grpc.set(`${memberName(from)}>${memberName(to)}`, await open(target, false));
      }
    }
    return network;
  }

  /** Known once the lattice has been dealt. */
  get ports(): Ports {
    this.#ports ??= new Layout(this.#options.directory).loadPorts();
    return this.#ports;
  }

  /** The links of a member to the nats-servers, in their order. */
  natsOf(member: MemberId): readonly FaultLink[] {
    return this.#nats.get(memberName(member)) ?? [];
  }

  grpc(from: MemberId, to: MemberId): FaultLink | undefined {
    return this.#grpc.get(`${memberName(from)}>${memberName(to)}`);
  }

  /** Every gRPC link that begins or ends at the member. */
  grpcOf(member: MemberId): FaultLink[] {
    return this.members.flatMap((other) => {
      const links = [this.grpc(member, other), this.grpc(other, member)];
      return links.flatMap((link) => link ?? []);
    });
  }

  /** Every link by which members of one organism call members of another. */
  edge(from: Organism, to: Organism): FaultLink[] {
    return [...this.#grpc].flatMap(([name, link]) => {
      const [a = "", b = ""] = name.split(">");
      return a.startsWith(`${from}-`) && b.startsWith(`${to}-`) ? [link] : [];
    });
  }

  /** Everything that a member says or hears. */
  linksOf(member: MemberId): FaultLink[] {
    return [...this.natsOf(member), ...this.grpcOf(member)];
  }

  /** From now on. `{}` mends. @throws when the kernel refuses a rule */
  set(links: readonly FaultLink[], conditions: Conditions): void {
    const { filter } = this.#options;
    const { cut, loss, ...rest } = conditions;
    for (const link of links) link.set(filter === undefined ? conditions : rest);
    filter?.set(
      links.map(({ port }) => port),
      { ...(cut === undefined ? {} : { cut }), ...(loss === undefined ? {} : { loss }) },
    );
  }

  mend(): void {
    this.set([...[...this.#nats.values()].flat(), ...this.#grpc.values()], {});
  }

  /** How often something has been done to what passes, over all links; packets that the kernel dropped are held and delayed. */
  count(effect: keyof LinkCounts): number {
    const dropped = effect === "held" || effect === "delayed" ? (this.#options.filter?.dropped ?? 0) : 0;
    return this.#counts[effect] + dropped;
  }

  /** What a member process is told instead of the real addresses. */
  settings({ organism, index }: MemberId): Record<string, string> {
    const self: MemberId = { organism, index };
    const folder = new Layout(this.#options.directory).path("faults");
    mkdirSync(folder, { recursive: true });
    const file = `${folder}/${memberName(self)}.endpoints.json`;
    const addresses = ORGANISMS.map((other) => [
      other,
      this.members
        .filter((each) => each.organism === other)
        .map((to) => at(this.grpc(self, to)?.port ?? this.ports.members[other][to.index]?.grpc ?? 0)),
    ]);
    const endpoints = { ...Object.fromEntries(addresses), aggregator: [at(this.ports.aggregator)] };
    writeFileSync(file, JSON.stringify(endpoints));
    return {
      LATTICE_ENDPOINTS_FILE: file,
      LATTICE_NATS_SERVERS: this.natsOf(self)
        .map(({ port }) => `nats://${at(port)}`)
        .join(","),
      LATTICE_TEST_CLOCK_FILE: this.clockFile(self),
    };
  }

  /** Where the error of a member's clock stands. */
  clockFile(member: MemberId): string {
    return `${new Layout(this.#options.directory).path("faults")}/${memberName(member)}.clock`;
  }

  async close(): Promise<void> {
    this.mend();
    const links = [...[...this.#nats.values()].flat(), ...this.#grpc.values()];
    await Promise.all(links.map((link) => link.close()));
  }
}
