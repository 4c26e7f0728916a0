/** log.md §3: of members that are shown different logs, or one that has lost what they read, those that can know it stop. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { genesisHead, nextHead } from "@lattice/organism/committee/entry.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { FOUND_AFTER_SLOTS } from "../liar.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

export function liedTo(): Checker {
  const name = "whoever is shown another log stops";
  return {
    name,
    finished(world) {
      for (const [organism, { kind, atSlot }] of world.lies) {
        if (Number(world.slot) < atSlot + FOUND_AFTER_SLOTS) continue;
        if (kind === "fork") oneSideGoesOn(name, world, organism);
        else chainsAreHeld(name, world, organism);
      }
    },
  };
}

function oneSideGoesOn(name: string, world: World, organism: Organism): void {
  const going = world.of(organism).filter(({ honest, alive, member }) => honest && alive && member !== undefined);
  const sides = new Set(going.map(({ index }) => world.brokers[organism].branchOf(index).id));
  if (sides.size > 1) throw new Broken(name, `${going.map(({ address }) => address).join(", ")} go on along two logs`);
}

function chainsAreHeld(name: string, world: World, organism: Organism): void {
  const { messages } = world.brokers[organism].trunk;
  const heads: Uint8Array[] = [];
  for (const { address, honest, alive, member } of world.of(organism)) {
    if (!honest || !alive || member === undefined) continue;
    const { committee } = member;
    if (heads.length === 0) heads.push(genesisHead(committee.id, 0n));
    for (let at = heads.length; at <= messages.length; at++) {
      heads.push(nextHead(heads[at - 1] ?? new Uint8Array(), BigInt(at), messages[at - 1] ?? new Uint8Array()));
    }
    const held = heads[Number(committee.position)];
    if (held === undefined || !equalBytes(held, committee.head)) {
      throw new Broken(name, `${address} goes on from position ${committee.position}, which its log has lost`);
    }
  }
}
