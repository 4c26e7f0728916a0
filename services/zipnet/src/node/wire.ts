/** Protobuf ↔ core. Lengths and ranges are checked by one round trip through the canonical codec. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { CodecError, decode, encode } from "@lattice/organism/codec/codec.ts";
import { SERVER_KEY, type ServerKey } from "@lattice/organism/outcomes/zipnet.ts";
import type {
  RegisterRequest,
  RegisterRequestSchema,
  RosterClient,
  RosterClientSchema,
  ServerKeySchema,
  ServerKey as WireServerKey,
} from "@lattice/proto/lattice/zipnet/v1/zipnet_service_pb.ts";
import { AGGREGATE, type Aggregate } from "../core/aggregate.ts";
import { faultOf } from "../core/faults.ts";
import { CLIENT_KEYS, type ClientKeys, REGISTRATION, type Registration } from "../core/registration.ts";

/** Runs a codec over what a caller sent. @throws Fault MALFORMED */
function checked<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof CodecError) throw faultOf({ reason: "MALFORMED", detail: `${what}: ${error.message}` });
    throw error;
  }
}

/** @throws Fault MALFORMED */
export function fromWireRegistration(wire: RegisterRequest): Registration {
  const { envelopeKey, agreementKeys, serials, tickets, signature } = wire;
  const candidate: Registration = { version: 1, envelopeKey, agreementKeys, serials, tickets, signature };
  return checked("registration", () => decode(REGISTRATION, encode(REGISTRATION, candidate)));
}

export function toWireRegistration(registration: Registration): MessageInitShape<typeof RegisterRequestSchema> {
  const { version: _, ...fields } = registration;
  return fields;
}

export function toWireServerKey(key: ServerKey): MessageInitShape<typeof ServerKeySchema> {
  return { ...key };
}

/** @throws Fault MALFORMED */
export function fromWireServerKey(wire: WireServerKey): ServerKey {
  const { member, operator, key, serial, fromSlot, toSlot, signature } = wire;
  const candidate: ServerKey = { member, operator, key, serial, fromSlot, toSlot, signature };
  return checked("server key", () => decode(SERVER_KEY, encode(SERVER_KEY, candidate)));
}

export function toWireClient({ envelopeKey, agreementKeys }: ClientKeys): MessageInitShape<typeof RosterClientSchema> {
  return { envelopeKey, agreementKeys };
}

/** @throws Fault MALFORMED */
export function fromWireClient({ envelopeKey, agreementKeys }: RosterClient): ClientKeys {
  return checked("client", () => decode(CLIENT_KEYS, encode(CLIENT_KEYS, { envelopeKey, agreementKeys })));
}

/** @throws Fault MALFORMED */
export function fromWireAggregate(raw: Uint8Array): Aggregate {
  return checked("aggregate", () => decode(AGGREGATE, raw));
}
