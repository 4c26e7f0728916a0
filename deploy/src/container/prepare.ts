/**
 * Deals a throw-away lattice into volumes: the dealer of the containers. It runs once, before anybody else starts, and
 * puts each secret into the one volume of the service that uses it; what is public goes into the kit.
 */
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { KitProblem, readConfig } from "@lattice/organism/node/kit.ts";
import { MemberFolder } from "../ceremony/member-folder.ts";
import { deal } from "../dealer/deal.ts";
import { memberFolder } from "../dealer/kit-folder.ts";
import { createAccounts, type SampleAccounts } from "../local/accounts.ts";
import { ACCOUNT_BYTES } from "../local/broker.ts";
import { LOCAL_CHAIN_ID, makeGenesis, SEARCHERS, SETTLEMENT_HEX, WALLETS } from "../local/lattice.ts";
import { dealNats, type NatsDeal, natsServerConfig } from "../nats/nats-config.ts";
import { standbyIn } from "../roster/standby-command.ts";
import {
  KIT_VOLUME,
  MEMBERS,
  MOUNTS,
  memberName,
  memberNames,
  PORTS,
  preparedVolumes,
  SEAT,
  STANDBYS,
  seatVolume,
  secretsVolume,
  TRAFFIC_VOLUME,
} from "./plan.ts";

export interface PrepareOptions {
  /** Holds one folder per volume, named like the volume. */
  readonly volumes: string;
  readonly name: string;
  readonly slotMs: number;
  /** Unix ms of slot 0: late enough for everybody to have started. */
  readonly genesisMs: number;
}

export interface Prepared {
  /** Whether the volumes held a lattice already, which is then left as it is. */
  readonly found: boolean;
  readonly config: LatticeConfig;
}

/** Written last: without it a deal was cut short, and nobody has used it. */
const COMPLETE = "complete";
const PUBLIC = 0o444;
const SECRET = 0o400;

/** Deals unless that has been done; what an interrupted run left is thrown away first. @throws KitProblem */
export async function prepare(options: PrepareOptions): Promise<Prepared> {
  const kit = join(options.volumes, KIT_VOLUME);
  if (existsSync(join(kit, COMPLETE))) {
    if (!existsSync(join(options.volumes, seatVolume(memberName("zipnet", 0)), SEAT.steward))) {
      throw new KitProblem(
        "the volumes are an earlier version's, without stewards: forget them with `docker compose --profile '*' down -v` and start again",
      );
    }
    return { found: true, config: readConfig(join(kit, "lattice.hex")) };
  }
  for (const volume of preparedVolumes()) empty(join(options.volumes, volume));
  const scratch = mkdtempSync(join(tmpdir(), "lattice-deal-"));
  try {
    const { config, signers } = deal(scratch, {
      name: options.name,
      chainId: LOCAL_CHAIN_ID,
      genesisMs: options.genesisMs,
      slotMs: options.slotMs,
      members: MEMBERS,
      settlement: fromHex(SETTLEMENT_HEX),
    });
    const accounts = createAccounts({ wallets: WALLETS, searchers: SEARCHERS, posters: MEMBERS });
    const genesis = JSON.stringify(await makeGenesis(config, accounts, signers));
    for (const file of [...files(scratch, accounts, genesis), ...(await seatFiles(scratch, config))]) {
      const path = join(options.volumes, file.volume, file.name);
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      writeFileSync(path, file.content, { mode: file.mode, flag: "wx" });
    }
    for (const member of memberNames())
      symlinkSync(SEAT.member, join(options.volumes, seatVolume(member), SEAT.holder));
    writeFileSync(join(kit, COMPLETE), `${toHex(latticeId(config))}\n`, { mode: PUBLIC });
    return { found: false, config };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** A volume's own folder is a mount point: it stays. */
function empty(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
}

interface PreparedFile {
  readonly volume: string;
  /** Path below the volume. */
  readonly name: string;
  readonly content: string;
  readonly mode: number;
}

function serverConfig(deal: NatsDeal): string {
  return natsServerConfig(deal, {
    name: "lattice",
    host: "0.0.0.0",
    port: PORTS.natsClient,
    monitorPort: PORTS.natsMonitor,
    storeDir: join(MOUNTS.data, "store"),
    accountBytes: ACCOUNT_BYTES,
  });
}
const adminsOf = ({ accounts }: NatsDeal): string =>
  JSON.stringify(Object.fromEntries(accounts.map(({ organism, admin }) => [organism, admin] as const)));

/** What stewards need: keys in reserve whose statement stands in the kit, and the broker of their ceremonies. */
async function seatFiles(scratch: string, config: LatticeConfig): Promise<PreparedFile[]> {
  const deal = dealNats(ORGANISMS.map((organism) => ({ organism: `ceremony-${organism}`, members: MEMBERS })));
  const secrets: readonly (readonly [service: string, name: string, content: string])[] = [
    ["ceremonies", "server.conf", serverConfig(deal)],
    ["ceremony-streams", "admins.json", adminsOf(deal)],
  ];
  const made = secrets.map(([service, name, content]) => ({
    volume: secretsVolume(service),
    name,
    content,
    mode: SECRET,
  }));
  for (const [position, organism] of ORGANISMS.entries()) {
    for (let index = 0; index < MEMBERS; index++) {
      const name = memberName(organism, index);
      const directory = join(scratch, SEAT.standby, name);
      const standby = await standbyIn({ config, organism, member: memberFolder(scratch, organism, index), directory });
      made.push({
        volume: KIT_VOLUME,
        name: `${STANDBYS}/${organism}/${index}.json`,
        content: JSON.stringify(standby),
        mode: PUBLIC,
      });
      const seat = (file: string, content: string): void => {
        made.push({ volume: seatVolume(name), name: file, content, mode: SECRET });
      };
      seat(`${SEAT.standby}/own-keys.json`, readFileSync(new MemberFolder(directory).ownKeysFile, "utf8"));
      seat(`${SEAT.steward}/ceremonies.json`, JSON.stringify(deal.accounts[position]?.members[index]));
    }
  }
  return made;
}

/** Who gets what. With the seats' files the only place where secrets are handed out. */
function files(scratch: string, accounts: SampleAccounts, genesis: string): PreparedFile[] {
  const dealt = (...parts: string[]): string => readFileSync(join(scratch, ...parts), "utf8");
  const hexSecret = (): string => toHex(new Uint8Array(randomBytes(32)));
  const made: PreparedFile[] = [];
  const publish = (name: string, content: string): void => {
    made.push({ volume: KIT_VOLUME, name, content, mode: PUBLIC });
  };
  const give = (service: string, name: string, content: string): void => {
    made.push({ volume: secretsVolume(service), name, content, mode: SECRET });
  };
  const seat = (member: string, name: string, content: string): void => {
    made.push({ volume: seatVolume(member), name, content, mode: SECRET });
  };

  const at = (service: string): string => `${service}:${PORTS.grpc}`;
  const endpoints = JSON.stringify({
    ...Object.fromEntries(
      ORGANISMS.map((organism) => [
        organism,
        Array.from({ length: MEMBERS }, (_, index) => at(memberName(organism, index))),
      ]),
    ),
    aggregator: [at("aggregator")],
  });
  const kit: Readonly<Record<string, string>> = {
    "lattice.hex": dealt("lattice.hex"),
    "rosters.json": dealt("rosters.json"),
    "identity.json": dealt("identity.json"),
    "endpoints.json": endpoints,
    "genesis.json": genesis,
  };
  for (const [name, content] of Object.entries(kit)) publish(name, content);

  const nats = dealNats(ORGANISMS.map((organism) => ({ organism, members: MEMBERS })));
  give("nats", "server.conf", serverConfig(nats));
  for (const holder of ["streams", "keeper"]) give(holder, "admins.json", adminsOf(nats));
  const trimmers = nats.accounts.map(({ organism, trimmer }) => [organism, trimmer] as const);
  give("trimmer", "trimmer.json", JSON.stringify(Object.fromEntries(trimmers)));

  const builderJwt = hexSecret();
  for (const [position, organism] of ORGANISMS.entries()) {
    for (let index = 0; index < MEMBERS; index++) {
      const member = memberName(organism, index);
      const key = readFileSync(join(memberFolder(scratch, organism, index), "key.json"), "utf8");
      seat(member, `${SEAT.member}/key.json`, key);
      // Whoever takes the seat writes to its log as the seat does.
      const credential = JSON.stringify(nats.accounts[position]?.members[index]);
      for (const holder of [SEAT.member, SEAT.standby]) seat(member, `${holder}/nats.json`, credential);
      if (organism === "relay") seat(member, "builder.jwt", builderJwt);
      if (organism === "tally") seat(member, "poster.key", accounts.posters[index]?.secret ?? "");
    }
  }

  const engineJwt = hexSecret();
  give("execution", "engine.jwt", engineJwt);
  give("sequencer", "engine.jwt", engineJwt);
  give("sequencer", "builder.jwt", builderJwt);
  give("sequencer", "key.json", dealt("sequencer", "key.json"));

  const issuer = dealt("admission", "issuer.json");
  give("gateway", "issuer.json", issuer);
  give("gateway", "searcher.json", JSON.stringify({ secret: accounts.searchers[0]?.secret }));

  // The sample users' folder is laid out as they know it from a lattice of processes.
  const users: Readonly<Record<string, string>> = {
    "lattice.hex": kit["lattice.hex"] ?? "",
    "rosters.json": kit["rosters.json"] ?? "",
    "endpoints.json": endpoints,
    "ports.json": JSON.stringify({ gateway: PORTS.gateway }),
    "accounts.json": JSON.stringify({ ...accounts, posters: [] }),
    "admission/issuer.json": issuer,
  };
  for (const [name, content] of Object.entries(users)) {
    made.push({ volume: TRAFFIC_VOLUME, name, content, mode: SECRET });
  }
  return made;
}
