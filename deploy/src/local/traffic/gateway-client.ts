/** The gateway's JSON-RPC, as a wallet uses it. */
export class GatewayClient {
  readonly url: string;
  #id = 0;

  constructor(url: string) {
    this.url = url;
  }

  /** @throws Error with the message of the JSON-RPC error */
  async call<T>(method: string, params: readonly unknown[]): Promise<T> {
    this.#id += 1;
    const response = await fetch(this.url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: this.#id, method, params }),
      signal: AbortSignal.timeout(10_000),
    });
    const answer = (await response.json()) as { result?: T; error?: { message: string; data?: { reason?: string } } };
    if (answer.error !== undefined)
      throw new Error(`${method}: ${answer.error.data?.reason ?? ""} ${answer.error.message}`.trim());
    return answer.result as T;
  }

  async nonce(address: string): Promise<number> {
    return Number(await this.call<string>("eth_getTransactionCount", [address, "latest"]));
  }
  async baseFee(): Promise<bigint> {
    const block = await this.call<{ baseFeePerGas: string }>("eth_getBlockByNumber", ["latest", false]);
    return BigInt(block.baseFeePerGas);
  }
  sendRaw(raw: string, disclosure?: string): Promise<string> {
    return this.call("eth_sendRawTransaction", disclosure === undefined ? [raw] : [raw, { disclosure }]);
  }
  submission(hash: string): Promise<{ status: string; slot: string; reason: string }> {
    return this.call("lattice_getSubmission", [hash]);
  }

  /** Returns once the chain answers through the gateway. */
  async waitUntilReady(stopped: () => boolean): Promise<void> {
    while (!stopped()) {
      try {
        await this.call("eth_blockNumber", []);
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    }
  }
}
