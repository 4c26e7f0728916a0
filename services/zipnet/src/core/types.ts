/** The vocabulary of zipnet: what its committee remembers, says, and has to do. */
import type { Duty } from "@lattice/organism/machine.ts";
import type { BroadcastMessage, RoundHeader, ServerKey } from "@lattice/organism/outcomes/zipnet.ts";
import type { Aggregate } from "./aggregate.ts";
import type { ClientKeys, Registration } from "./registration.ts";

/** The two decisions of a slot. */
export const HEADER = "header";
export const BROADCAST_STAGE = "broadcast";
/** The one quorum close of a slot: no aggregate counts after it. */
export const FOLD = "fold";

/** A registered client. */
export interface Client extends ClientKeys {
  readonly id: Uint8Array;
  /** Serials of the server keys it agreed with. */
  readonly serials: bigint[];
  /** The ρ that its ratchet(0) belongs to, and the slot of the last header opened before. */
  readonly fromRho: bigint;
  readonly afterSlot: bigint;
  /** The last slot in whose roster it may be. */
  readonly expSlot: bigint;
}

/** A round between its header and its broadcast. */
export interface Round {
  readonly rho: bigint;
  readonly headerDigest: Uint8Array;
  readonly header: RoundHeader;
  /** Ids of its clients, ascending: what the bitmaps count over. */
  readonly roster: Uint8Array[];
  /** Before the fold: what members forwarded, by author. After it: only the one that stands. */
  aggregates: { readonly author: number; readonly digest: Uint8Array; readonly aggregate: Aggregate }[];
  /** True once a quorum closed the fold. */
  folded: boolean;
  /** Per member: the sum of its pads for the participants. */
  readonly partials: Map<number, Uint8Array>;
}

export interface State {
  readonly version: 1;
  /** ρ of the newest opened header, 0 before the first, and its slot. */
  rho: bigint;
  lastSlot: bigint;
  /** By hex of the envelope key. */
  readonly clients: Map<string, Client>;
  /** Envelope keys (hex) that wrote bad key commitments, and the slot until which that is remembered. */
  readonly struck: Map<string, bigint>;
  /** By member. */
  readonly servers: Map<number, ServerKey>;
  /** By slot. */
  readonly rounds: Map<bigint, Round>;
  /** Bodies of the last broadcasts, by slot. */
  readonly broadcasts: Map<bigint, BroadcastMessage[]>;
}

export type Command =
  | ({ readonly type: "register" } & { readonly registration: Registration })
  | { readonly type: "serverKey"; readonly key: ServerKey }
  | { readonly type: "openRound"; readonly slot: bigint }
  | { readonly type: "aggregate"; readonly aggregate: Aggregate }
  /** A server's one partial of a round. */
  | {
      readonly type: "partial";
      readonly slot: bigint;
      readonly rho: bigint;
      readonly aggregate: Uint8Array;
      readonly vector: Uint8Array;
    }
  /** In place of the partial: the round cannot be finished, and which participants' key commitments were bad. */
  | {
      readonly type: "withhold";
      readonly slot: bigint;
      readonly rho: bigint;
      readonly aggregate: Uint8Array;
      /** Client ids. */
      readonly clients: Uint8Array[];
    };

export interface ServerKeyDuty extends Duty {
  readonly type: "serverKey";
}
export interface OpenRoundDuty extends Duty {
  readonly type: "openRound";
}
export interface CloseFoldDuty extends Duty {
  readonly type: "closeFold";
}
export interface PartialDuty extends Duty {
  readonly type: "partial";
  readonly rho: bigint;
}
export type ZipnetDuty = ServerKeyDuty | OpenRoundDuty | CloseFoldDuty | PartialDuty;
