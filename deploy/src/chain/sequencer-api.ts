/** What the sequencer process answers: `lattice_*` for members, a second port for the operator. */
import { integerParam, type RpcMethod, RpcRefusal, type RpcServer, serveJsonRpc } from "./json-rpc-server.ts";
import type { Sequencer } from "./sequencer.ts";

const LOOPBACK = "127.0.0.1";

export interface SequencerServers {
  readonly members: RpcServer;
  readonly admin: RpcServer;
  close(): Promise<void>;
}

/**
 * Members: `lattice_attributes(slot)`, `lattice_acknowledgement(slot)`, `lattice_status()`. Admin, besides these:
 * `lattice_reorg(depth)`, `lattice_setFallback("import" | "hold")`. Both: `GET /healthz`.
 */
export async function serveSequencer(
  sequencer: Sequencer,
  ports: { readonly port: number; readonly adminPort: number; readonly host?: string },
): Promise<SequencerServers> {
  const { sequencer: address } = sequencer.status();
  const forMembers: Record<string, RpcMethod> = {
    lattice_attributes([slot]) {
      const { canonical, signature } = sequencer.attributes(integerParam(slot, "slot"));
      return { attributes: canonical, signature, sequencer: address };
    },
    lattice_acknowledgement([slot]) {
      const { canonical, signature } = sequencer.acknowledgement(integerParam(slot, "slot"));
      return { acknowledgement: canonical, signature, sequencer: address };
    },
    lattice_status: () => sequencer.status(),
  };
  const forOperator: Record<string, RpcMethod> = {
    ...forMembers,
    lattice_reorg: ([depth]) => sequencer.reorg(integerParam(depth, "depth")),
    lattice_setFallback([policy]) {
      if (policy !== "import" && policy !== "hold") {
        throw new RpcRefusal(-32_602, "MALFORMED", "policy: import or hold is expected");
      }
      sequencer.setFallback(policy);
      return sequencer.status();
    },
  };
  const health = (): string | undefined => sequencer.problem();
  const members = await serveJsonRpc({ host: ports.host ?? LOOPBACK, port: ports.port, methods: forMembers, health });
  try {
    // Reorganising the chain is never offered beyond this machine.
    const admin = await serveJsonRpc({ host: LOOPBACK, port: ports.adminPort, methods: forOperator, health });
    return {
      members,
      admin,
      async close() {
        await Promise.all([members.close(), admin.close()]);
      },
    };
  } catch (error) {
    await members.close();
    throw error;
  }
}
