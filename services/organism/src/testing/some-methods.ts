/** A service of which a test plays some methods. */
import type { DescService } from "@bufbuild/protobuf";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { defineService, type GrpcService, type Handlers } from "../rpc/define.ts";

/** The methods left out fail with NOT_READY. */
export function defineSome<S extends DescService>(descriptor: S, some: Partial<Handlers<S>>): GrpcService {
  const unserved = (): never => {
    throw faultsOf("rpc", COMMON_FAULTS)("NOT_READY");
  };
  const unplayed = descriptor.methods.map(({ localName, methodKind }) => [
    localName,
    methodKind === "unary" ? async () => unserved() : unserved,
  ]);
  return defineService(descriptor, { ...Object.fromEntries(unplayed), ...some } as Handlers<S>);
}
