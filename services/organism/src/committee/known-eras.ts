/** The eras of a committee and of those upstream, as far as its log tells of them, and how members tell each other. */
import { CodecError, equalBytes } from "../codec/codec.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { type Refusal, refuse, type Upstream } from "../machine.ts";
import type { Effects } from "./effects.ts";
import type { Epochs } from "./epochs.ts";
import { type EraLinks, erasOf } from "./era-links.ts";
import { type Era, type Eras, eraNumberOf, eraOfEpoch } from "./eras.ts";
import { type CertifiedOutcome, outcomeDigest } from "./outcome.ts";
import { checkRoster } from "./roster.ts";
import { ERAS } from "./rules.ts";
import type { SharedState } from "./state.ts";

export class KnownEras {
  readonly #config: LatticeConfig;
  readonly #organism: Organism;
  readonly #upstream: readonly Upstream[];
  readonly #shared: SharedState;
  readonly #epochs: Epochs;
  /** By organism, made from the state's links as they are asked for. */
  readonly #chains = new Map<Organism, Eras>();

  constructor(
    config: LatticeConfig,
    { organism, upstream }: { readonly organism: Organism; readonly upstream: readonly Upstream[] },
    shared: SharedState,
    epochs: Epochs,
  ) {
    this.#config = config;
    this.#organism = organism;
    this.#upstream = upstream;
    this.#shared = shared;
    this.#epochs = epochs;
  }

  /** The state has become another: chains are made from its links. */
  reread(): void {
    this.#chains.clear();
  }

  of(organism: Organism): Eras {
    const known = this.#chains.get(organism) ?? erasOf(this.#config, organism, this.links(organism));
    this.#chains.set(organism, known);
    return known;
  }

  /** The certified rosters that began them, oldest first. */
  links(organism: Organism): EraLinks {
    return this.#shared.eras.get(organism) ?? [];
  }

  /** @throws CodecError when these are not links that a state of this committee may hold */
  check(eras: SharedState["eras"]): void {
    for (const [name, links] of eras) {
      const organism = [this.#organism, ...this.#upstream.map((each) => each.organism)].find((each) => each === name);
      if (organism === undefined || links.length === 0) throw new CodecError("eras", "of another committee");
      erasOf(this.#config, organism, links);
    }
  }

  /**
   * True for an epoch whose certificate key is over where this log has come to: what it certifies of later positions, or
   * of a later generation, is the word of whoever got hold of its shares.
   */
  keyIsOver(epoch: bigint): boolean {
    return eraOfEpoch(this.of(this.#organism), epoch).number < eraNumberOf(this.#epochs.current);
  }

  /** Takes an era whose link has been judged. */
  begin(organism: Organism, link: CertifiedOutcome, era: Era, effects: Effects): void {
    this.#shared.eras.set(organism, [...this.links(organism), link]);
    this.#chains.delete(organism);
    effects.era = { organism, era, link };
  }

  /** True when a member has told of this era upstream, and others still have to. */
  hasTold(member: number, organism: Organism, link: CertifiedOutcome): boolean {
    const told = this.#shared.eraWords.get(member)?.get(organism);
    return told !== undefined && equalBytes(outcomeDigest(told.outcome), outcomeDigest(link.outcome));
  }

  /**
   * A member tells of an era upstream. The certificate alone is not enough: a ceremony that came too late leaves one for
   * a key that nobody will use. So f + 1 must say the same, of whom one has asked enough members there.
   */
  tell(author: number, organism: Organism, certified: CertifiedOutcome, effects: Effects): Refusal | undefined {
    if (this.#shared.rules.active < ERAS) return refuse("MALFORMED", `no eras before rules ${ERAS}`);
    const followed = organism !== this.#organism && this.#upstream.some((each) => each.organism === organism);
    if (!followed) return refuse("MALFORMED", `${organism} is not upstream of ${this.#organism}`);
    const { members, faults } = this.#epochs.quorum;
    if (author >= members) return refuse("NOT_AUTHOR", `member ${author} is none of this epoch`);
    const checked = checkRoster(this.#config, organism, certified, this.of(organism));
    if ("problem" in checked) return refuse(checked.reason, checked.problem);
    const { begins } = checked;
    if (begins === undefined) return refuse("DUPLICATE", `epoch ${checked.roster.epoch} begins no era not known here`);
    if (this.hasTold(author, organism, certified)) return refuse("DUPLICATE", "said already");
    const { eraWords } = this.#shared;
    const own = eraWords.get(author) ?? new Map<string, CertifiedOutcome>();
    eraWords.set(author, own.set(organism, certified));
    const alike = [...eraWords.keys()].filter(
      (member) => member < members && this.hasTold(member, organism, certified),
    );
    if (alike.length <= faults) return undefined;
    this.begin(organism, certified, begins, effects);
    for (const [member, words] of eraWords) {
      words.delete(organism);
      if (words.size === 0) eraWords.delete(member);
    }
    return undefined;
  }
}
