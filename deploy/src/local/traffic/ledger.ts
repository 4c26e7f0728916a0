/** What the sample users did and what they were told, one line each. */
import type { GatewayClient } from "./gateway-client.ts";

export type LedgerLine =
  | {
      readonly type: "transaction";
      readonly hash: string;
      readonly sender: string;
      readonly nonce: number;
      readonly slot: number;
      readonly bootstrap: boolean;
    }
  | { readonly type: "told"; readonly hash: string; readonly status: string; readonly reason: string }
  | { readonly type: "bid"; readonly bidId: string; readonly class: string; readonly slot: number }
  | { readonly type: "claim"; readonly recipient: string; readonly amountWei: string; readonly txHash: string };

export class Ledger {
  readonly #write: (line: LedgerLine) => void;
  readonly #open = new Set<string>();

  constructor(write: (line: LedgerLine) => void) {
    this.#write = write;
  }

  note(line: LedgerLine): void {
    if (line.type === "transaction") this.#open.add(line.hash);
    this.#write(line);
  }

  /** Asks what became of open transactions and writes down what their senders are told. */
  async settle(gateway: GatewayClient): Promise<void> {
    for (const hash of [...this.#open]) {
      const { status, reason } = await gateway.submission(hash);
      if (status !== "landed" && status !== "failed") continue;
      this.#open.delete(hash);
      this.#write({ type: "told", hash, status, reason });
    }
  }
}
