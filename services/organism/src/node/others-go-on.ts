/**
 * Tells a member that has lost its view of the log, alone, from one whose log is lost for all (docs/decisions/0030): a quorum of
 * others goes on reading, past everything that this member has read.
 *
 * Then nothing was certified on what it alone had read: whatever q members signed, one honest member of any q others has read
 * too, on the chain that it goes on with.
 */

/** Looks in a row at which enough others had read on: members that stop for the end of a generation still take in what they kept. */
const ADVANCES = 2;

export class OthersGoOn {
  readonly #quorum: number;
  /** How far this member is known to have read. */
  readonly #furthest: bigint;
  #before: ReadonlyMap<number, bigint> = new Map();
  #advances = 0;

  constructor(quorum: number, furthest: bigint) {
    this.#quorum = quorum;
    this.#furthest = furthest;
  }

  /** @param newest what each other member has signed just now that it had read, in this generation */
  look(newest: ReadonlyMap<number, bigint>): boolean {
    let advanced = 0;
    for (const [member, position] of newest) {
      const before = this.#before.get(member);
      if (before !== undefined && position > before && position > this.#furthest) advanced += 1;
    }
    this.#before = newest;
    this.#advances = advanced >= this.#quorum ? this.#advances + 1 : 0;
    return this.#advances >= ADVANCES;
  }
}
