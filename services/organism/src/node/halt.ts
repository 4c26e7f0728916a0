/**
 * Whether a member goes on. It falls silent for good with the first thing that must not happen, and whoever runs it ends it;
 * or it is told to end, and lets what is in flight land first.
 */
export interface HaltOptions {
  /** At once, before anybody is told: not another word. */
  readonly onSilent: () => void;
  /** Tells whoever runs this member why it must end. */
  readonly onFatal: (reason: string, detail: string) => void;
}

export class Halt {
  readonly #options: HaltOptions;
  readonly #stop = new AbortController();
  #silent = false;
  #draining = false;

  constructor(options: HaltOptions) {
    this.#options = options;
  }

  /** Something fatal has happened: not another word. */
  get silent(): boolean {
    return this.#silent;
  }

  /** It ends because it was told to: nothing new is begun, and what fails then is not worth a line. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Aborts once nothing is waited for any more. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Falls silent for good. Only the first reason is told. */
  fail(reason: string, detail: string): void {
    if (this.#silent) return;
    this.#silent = true;
    this.#options.onSilent();
    this.#options.onFatal(reason, detail);
  }

  /** @returns false when it was told before */
  drain(): boolean {
    if (this.#draining) return false;
    this.#draining = true;
    return true;
  }

  /** Ends all waiting. */
  stop(): void {
    this.#stop.abort();
  }
}
