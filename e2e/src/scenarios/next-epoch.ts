/** A committee's next epoch through the operators' commands, a process a member, as docs/operators.md prints them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BUILDER, runBuilder } from "@lattice/deploy/ceremony/local-ceremony.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import type { ScenarioContext } from "./scenario.ts";

const PATIENCE_S = "60";

export interface Change {
  readonly organism: Organism;
  /** Which seat changes hands, and the folder of whoever takes it; undefined: fresh shares for everybody. */
  readonly newcomer?: { readonly seat: number; readonly folder: string };
  readonly inSlots: number;
  /** With another certificate key. */
  readonly newEra?: boolean;
}

export class NextEpoch {
  readonly #context: Pick<ScenarioContext, "check" | "directory">;
  readonly #lattice: Pick<LocalLattice, "layout" | "rosters">;
  readonly #change: Change;
  readonly #work: string;

  constructor(
    context: Pick<ScenarioContext, "check" | "directory">,
    lattice: Pick<LocalLattice, "layout" | "rosters">,
    change: Change,
  ) {
    this.#context = context;
    this.#lattice = lattice;
    this.#change = change;
    this.#work = join(context.directory, `epoch-${change.organism}`);
    mkdirSync(this.#work, { recursive: true, mode: 0o700 });
  }

  get succession(): string {
    return join(this.#work, "succession.json");
  }
  get #asked(): string[] {
    const { config, endpoints } = this.#lattice.layout;
    return ["--config", config, "--endpoints", endpoints, "--organism", this.#change.organism];
  }

  /** One command; what it wrote to stdout, and its exit code. */
  async #run(name: string, args: readonly string[]): Promise<{ readonly code: number; readonly out: string }> {
    const file = join(this.#work, `${name}.out`);
    const code = await runBuilder(args, join(this.#work, `${name}.log`), file);
    return { code, out: readFileSync(file, "utf8") };
  }
  #said(name: string): string {
    return readFileSync(join(this.#work, `${name}.log`), "utf8")
      .trim()
      .split("\n")
      .slice(-3)
      .join(" | ");
  }

  /** `roster show`: true while the committee is healthy. */
  async healthy(): Promise<boolean> {
    const { code } = await this.#run("show", ["roster", "show", ...this.#asked, "--json"]);
    const what = `roster show: ${this.#change.organism} is healthy`;
    return this.#context.check(what, code === EXIT.ok, code === EXIT.ok ? undefined : this.#said("show"));
  }

  /** Makes the newcomer's keys, and writes the succession file. @returns the activation slot */
  async propose(): Promise<bigint | undefined> {
    const { organism, newcomer, inSlots } = this.#change;
    const change = ["--refresh"];
    if (newcomer !== undefined) {
      const old = this.#lattice.layout.member(organism, newcomer.seat);
      const keep = ["--keep", join(old, "key.json")];
      const made = ["ceremony", "member", "--organism", organism, "--directory", newcomer.folder, ...keep];
      const { code } = await this.#run("newcomer", made);
      if (!this.#context.check("ceremony member: the newcomer has its keys", code === EXIT.ok)) return undefined;
      copyFileSync(join(old, "nats.json"), join(newcomer.folder, "nats.json"));
      change.splice(0, 1, "--replace", String(newcomer.seat), "--with", join(this.#work, "newcomer.out"));
    }
    if (this.#change.newEra === true) change.push("--new-era");
    const proposal = ["roster", "propose", ...this.#asked, ...change, "--out", this.succession];
    const near = await this.#run("too-near", [...proposal, "--in-slots", "3"]);
    this.#context.check("a slot that is too near is refused", near.code === EXIT.precondition, this.#said("too-near"));
    const { code, out } = await this.#run("propose", [...proposal, "--in-slots", String(inSlots)]);
    const ok = code === EXIT.ok;
    if (!this.#context.check(`roster propose: ${organism}`, ok, ok ? undefined : this.#said("propose")))
      return undefined;
    return BigInt((JSON.parse(out) as { activation_slot: string }).activation_slot);
  }

  /** The ceremony: a broker of its own, and everybody's part in it. */
  async reshare(): Promise<boolean> {
    const { organism, newcomer } = this.#change;
    const { layout, rosters } = this.#lattice;
    const folders = rosters[organism].members.map(({ index }) => layout.member(organism, index));
    if (newcomer !== undefined) folders.push(newcomer.folder);
    const directory = join(this.#work, "broker");
    const args = ["ceremony", "broker", "--directory", directory, "--participants", String(folders.length)];
    const broker = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", BUILDER, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      const { url } = JSON.parse(await firstLine(broker)) as { url: string };
      const codes = await Promise.all(
        folders.map((folder, participant) => {
          const member = ["--directory", folder, "--succession", this.succession, "--nats", url];
          const credentials = ["--credentials", join(directory, `participant-${participant}.json`)];
          const part = ["ceremony", "reshare", ...member, ...credentials, "--patience-s", PATIENCE_S];
          return runBuilder(
            part,
            join(this.#work, `part-${participant}.log`),
            join(this.#work, `part-${participant}.out`),
          );
        }),
      );
      const failed = codes.findIndex((code) => code !== EXIT.ok);
      const why = failed < 0 ? undefined : this.#said(`part-${failed}`);
      return this.#context.check(`ceremony reshare: ${organism}, ${folders.length} take part`, failed < 0, why);
    } finally {
      if (broker.exitCode === null && broker.signalCode === null) {
        broker.kill("SIGTERM");
        await once(broker, "exit");
      }
    }
  }

  /** `roster status` until `step` is done; all of them when left out. */
  async reached(step: string | undefined, waitS: number): Promise<boolean> {
    const { organism } = this.#change;
    const until = Date.now() + waitS * 1000;
    const place = ["--succession", this.succession, "--endpoints", this.#lattice.layout.endpoints];
    for (;;) {
      const { code, out } = await this.#run("status", ["roster", "status", ...place, "--json"]);
      const steps = out === "" ? [] : (JSON.parse(out) as { steps: { step: string; done: boolean }[] }).steps;
      const done = step === undefined ? code === EXIT.ok : steps.some((each) => each.step === step && each.done);
      if (done || code === EXIT.failed || Date.now() > until) {
        const what = `roster status: ${organism}, ${step ?? "every step"}`;
        return this.#context.check(what, done, done ? undefined : `${out} ${this.#said("status")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

/** What a program says first: that it is ready. */
export async function firstLine(child: ChildProcess): Promise<string> {
  let text = "";
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk);
    if (text.includes("\n")) return text.slice(0, text.indexOf("\n"));
  }
  throw new Error("the ceremony's broker ended before it was ready");
}
