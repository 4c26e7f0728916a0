/**
 * The broker's configuration: one account per organism, so that no organism sees another's subjects; one user per
 * author, so that nobody publishes in another's name; one administrator per account, who makes the
 * stream, and one trimmer, who may purge it from below.
 */
import { randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** What a client needs to use one log: the file that members read (mode 0400). */
export interface LogCredentials {
  readonly user: string;
  readonly password: string;
  readonly stream: string;
  /** Author i writes to `<subject>.<i>.ctl` and `<subject>.<i>.bulk`. */
  readonly subject: string;
  readonly inboxPrefix: string;
}

export interface CommitteeAccount {
  readonly organism: string;
  /** Makes and inspects the stream; for the launcher only. */
  readonly admin: LogCredentials;
  /** May purge from below, and do nothing else. */
  readonly trimmer: LogCredentials;
  /** In member order. */
  readonly members: readonly LogCredentials[];
}

export interface NatsDeal {
  readonly system: { readonly user: string; readonly password: string };
  /** What the servers of a cluster show one another. */
  readonly routes: { readonly user: string; readonly password: string };
  readonly accounts: readonly CommitteeAccount[];
}

/** One server's place among the servers of its cluster. */
export interface ClusterOptions {
  /** Where this one listens for the others. */
  readonly port: number;
  /** `host:port` of every server's routes, itself included: all servers are told the same. */
  readonly routes: readonly string[];
  /** Between machines: each server shows a certificate of this authority to each other. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly caFile: string };
}

export interface ServerOptions {
  readonly name: string;
  /** Where it listens; default 127.0.0.1. In a container 0.0.0.0, behind the container's own network. */
  readonly host?: string;
  readonly port: number;
  /** HTTP monitoring: `/varz`, `/healthz`. */
  readonly monitorPort: number;
  readonly storeDir: string;
  /** What one committee's log may take on disk. */
  readonly accountBytes?: number;
  /** `false` only in the test of who notices. */
  readonly syncAlways?: boolean;
  /** Absent for a server that stands alone. */
  readonly cluster?: ClusterOptions;
}

/** A member refuses a server below 2 MiB; twice that leaves room. */
export const PAYLOAD_BYTES_MAX = 4 * 1024 * 1024;
export const ACCOUNT_BYTES = 512 * 1024 * 1024;
/** A consumer that a broken connection left behind is kept by the server for some seconds. */
const CONSUMERS_PER_MEMBER = 16;
const PASSWORD_BYTES = 24;

/** Fresh users and passwords for committees of `members` each. */
export function dealNats(committees: readonly { readonly organism: string; readonly members: number }[]): NatsDeal {
  const password = (): string => randomBytes(PASSWORD_BYTES).toString("hex");
  return {
    system: { user: "system", password: password() },
    routes: { user: "route", password: password() },
    accounts: committees.map(({ organism, members }) => {
      if (!/^[a-z][a-z0-9-]{0,31}$/.test(organism)) throw new RangeError(`not an organism name: ${organism}`);
      const log = { stream: `${organism.toUpperCase()}-LOG`, subject: `${organism}.log` };
      const credentials = (role: string): LogCredentials => ({
        user: `${organism}-${role}`,
        password: password(),
        ...log,
        inboxPrefix: `_INBOX.${organism}.${role}`,
      });
      return {
        organism,
        admin: credentials("admin"),
        trimmer: credentials("trimmer"),
        members: Array.from({ length: members }, (_, index) => credentials(index.toString())),
      };
    }),
  };
}

/** A deal of an earlier version with what has come since: its committees' own users stay as they are. */
export function completeDeal(deal: NatsDeal): { readonly deal: NatsDeal; readonly changed: boolean } {
  const found: { readonly routes?: NatsDeal["routes"]; readonly accounts: readonly Partial<CommitteeAccount>[] } = deal;
  if (found.routes !== undefined && found.accounts.every(({ trimmer }) => trimmer !== undefined)) {
    return { deal, changed: false };
  }
  const fresh = dealNats(deal.accounts.map(({ organism, members }) => ({ organism, members: members.length })));
  const accounts = fresh.accounts.map((account, position) => ({ ...account, ...deal.accounts[position] }));
  return { deal: { ...fresh, ...deal, accounts }, changed: true };
}

/** The configuration file's text. It holds passwords: mode 0600. */
export function natsServerConfig(deal: NatsDeal, options: ServerOptions): string {
  const accountBytes = options.accountBytes ?? ACCOUNT_BYTES;
  const host = options.host ?? "127.0.0.1";
  // An account is charged for every replica, on whichever server it lies.
  const replicas = options.cluster?.routes.length ?? 1;
  return `# Generated; local use only.
server_name: ${quoted(options.name)}
listen: ${quoted(`${host}:${options.port}`)}
http: ${quoted(`${host}:${options.monitorPort}`)}
max_payload: ${PAYLOAD_BYTES_MAX}
max_pending: ${PAYLOAD_BYTES_MAX * 16}
write_deadline: "10s"
jetstream {
  store_dir: ${quoted(options.storeDir)}
  ${options.syncAlways === false ? "# sync_interval: the default, which acknowledges first and syncs later" : "sync_interval: always"}
  max_memory_store: ${64 * 1024 * 1024}
  max_file_store: ${2 * accountBytes * (deal.accounts.length + 1)}
}
${options.cluster === undefined ? "" : clusterBlock(deal, host, options.cluster)}accounts {
${deal.accounts.map((account) => accountBlock(account, accountBytes * replicas)).join("\n")}
  SYS { users: [ { user: ${quoted(deal.system.user)}, password: ${quoted(deal.system.password)} } ] }
}
system_account: SYS
`;
}

/**
 * Routes are authenticated, also on loopback: whoever may make one reads and writes every account. Addresses are not
 * advertised, so that a member goes only where its operator has told it to.
 */
function clusterBlock({ routes }: NatsDeal, host: string, { port, routes: addresses, tls }: ClusterOptions): string {
  const { user, password } = routes;
  const others = addresses.map((address) => quoted(`nats-route://${user}:${password}@${address}`));
  const files =
    tls === undefined
      ? ""
      : `  tls { cert_file: ${quoted(tls.certFile)}, key_file: ${quoted(tls.keyFile)}, ca_file: ${quoted(tls.caFile)}, verify: true }\n`;
  return `cluster {
  name: "lattice"
  listen: ${quoted(`${host}:${port}`)}
  authorization { user: ${quoted(user)}, password: ${quoted(password)}, timeout: 5 }
${files}  no_advertise: true
  routes: [${others.join(", ")}]
}
`;
}

function accountBlock({ organism, admin, trimmer, members }: CommitteeAccount, accountBytes: number): string {
  const consumers = (members.length + 1) * CONSUMERS_PER_MEMBER;
  return `  ${organism.toUpperCase()} {
    jetstream { max_memory: ${8 * 1024 * 1024}, max_file: ${2 * accountBytes}, max_streams: 2, max_consumers: ${consumers} }
    users: [
      { user: ${quoted(admin.user)}, password: ${quoted(admin.password)}, permissions: {
          publish: { allow: ["$JS.API.>"] }, subscribe: { allow: [${quoted(`${admin.inboxPrefix}.>`)}] } } },
      { user: ${quoted(trimmer.user)}, password: ${quoted(trimmer.password)}, permissions: {
          publish: { allow: ["$JS.API.STREAM.PURGE.*"] },
          subscribe: { allow: [${quoted(`${trimmer.inboxPrefix}.>`)}] } } },
${members.map(memberBlock).join(",\n")}
    ]
  }`;
}

/** An author writes its own two subjects, and asks for nothing but reading its account's streams: its committee's generations. */
function memberBlock({ user, password, subject, inboxPrefix }: LogCredentials, index: number): string {
  const publish = [
    `${subject}.${index}.ctl`,
    `${subject}.${index}.bulk`,
    // Its subjects in later generations.
    `${subject}.*.${index}.ctl`,
    `${subject}.*.${index}.bulk`,
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.DELETE.*.*",
    "$JS.API.CONSUMER.MSG.NEXT.*.*",
  ];
  return `      { user: ${quoted(user)}, password: ${quoted(password)}, permissions: {
          publish: { allow: [${publish.map(quoted).join(", ")}] },
          subscribe: { allow: [${quoted(`${inboxPrefix}.>`)}] } } }`;
}

/** Everything that goes in is made above from names and hex; a path may hold a quote. */
function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

type Credentials = LogCredentials | NatsDeal | Readonly<Record<string, LogCredentials>>;

/** Writes one JSON file that only its owner reads (0400), whole or not at all. @throws Error EEXIST: secrets are never overwritten */
export function writeCredentials(file: string, credentials: Credentials): void {
  const unfinished = writeUnfinished(file, credentials);
  try {
    linkSync(unfinished, file);
  } finally {
    rmSync(unfinished);
  }
}

/** The same for a file that is there: replaced whole or not at all. */
export function replaceCredentials(file: string, credentials: Credentials): void {
  renameSync(writeUnfinished(file, credentials), file);
}

/** Under a fixed name, so that whoever was killed leaves one such file at most. */
function writeUnfinished(file: string, credentials: Credentials): string {
  const unfinished = `${file}.new`;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  rmSync(unfinished, { force: true });
  writeFileSync(unfinished, `${JSON.stringify(credentials)}\n`, { mode: 0o400, flag: "wx", flush: true });
  return unfinished;
}

/** What `writeCredentials` wrote of a whole deal. */
export function readDeal(file: string): NatsDeal {
  return JSON.parse(readFileSync(file, "utf8")) as NatsDeal;
}
