/**
 * I8 from the honest side: a member that follows the protocol never says two things, whatever crashed, was lost or was
 * put back. One body per place in a lane; one vote, one share, one partial per slot, over all its incarnations.
 */

import { COMMAND as OFFER } from "@lattice/offer/core/codec.ts";
import { encode, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { type CommitteeCommand, decodeCommand } from "@lattice/organism/committee/commands.ts";
import { readEntry } from "@lattice/organism/committee/entry.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { COMMAND as TALLY } from "@lattice/tally/core/codec.ts";
import { COMMAND as UNSEAL } from "@lattice/unseal/core/codec.ts";
import { COMMAND as ZIPNET } from "@lattice/zipnet/core/codec.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

interface Said {
  readonly key: string;
  readonly value: Uint8Array;
}

/** What of a machine command must never be said twice differently. */
function promiseIn(organism: Organism, raw: Uint8Array): Said | undefined {
  switch (organism) {
    case "unseal": {
      const command = tryDecode(UNSEAL, raw);
      return command?.type === "share" ? { key: `share/${command.slot}`, value: command.sealed } : undefined;
    }
    case "offer": {
      const command = tryDecode(OFFER, raw);
      if (command?.type === "slotShare") return { key: `slot-share/${command.slot}`, value: command.box };
      if (command?.type !== "bundleShare") return undefined;
      return { key: `bundle-share/${command.slot}/${toHex(command.bidId)}`, value: command.box };
    }
    case "zipnet": {
      const command = tryDecode(ZIPNET, raw);
      if (command?.type !== "partial" && command?.type !== "withhold") return undefined;
      return { key: `partial/${command.rho}`, value: encode(ZIPNET, command) };
    }
    case "tally": {
      const command = tryDecode(TALLY, raw);
      return command === undefined ? undefined : { key: `attest/${command.batch}`, value: command.signature };
    }
    case "atelier":
    case "relay":
      return undefined;
  }
}

function promisesOf(organism: Organism, command: CommitteeCommand): readonly Said[] {
  if (command.type === "vote") {
    return command.votes.map(({ stage, slot, share }) => ({ key: `vote/${stage}/${slot}`, value: share }));
  }
  const said = command.type === "machine" ? promiseIn(organism, command.command) : undefined;
  return said === undefined ? [] : [said];
}

export function oneWord(world: () => World): readonly Checker[] {
  const lanes = "one body per place in a lane";
  const words = "one word per promise";
  const bodies = new Map<string, string>();
  const promises = new Map<string, string>();
  return [
    {
      name: lanes,
      stored(organism, _position, raw) {
        const { body, hash: entry } = readEntry(raw);
        if (!world().host(organism, body.author).honest) return;
        // Of two processes that take the same number one loses it: its Join is refused and says nothing (fraud.ts).
        if (decodeCommand(body.command).type === "join") return;
        const key = `${organism}/${body.author}/${body.incarnation}/${body.lane}/${body.sequence}`;
        const hash = toHex(entry);
        const known = bodies.get(key);
        if (known === undefined) bodies.set(key, hash);
        else if (known !== hash) throw new Broken(lanes, key);
      },
    },
    {
      name: words,
      stored(organism, position, raw) {
        const { body } = readEntry(raw);
        if (!world().host(organism, body.author).honest) return;
        for (const { key, value } of promisesOf(organism, decodeCommand(body.command))) {
          const name = `${organism}/${body.author} ${key}`;
          const hash = toHex(hashBytes("sim/promise", value));
          const known = promises.get(name);
          if (known === undefined) promises.set(name, hash);
          else if (known !== hash) throw new Broken(words, `${name}, again at position ${position}`);
        }
      },
    },
  ];
}
