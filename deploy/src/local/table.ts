/**
 * The slots of a lattice by stage, live: redrawn in place on a terminal, one line per finished slot elsewhere.
 * NO_COLOR and the terminal's own abilities are obeyed (`util.styleText`).
 */
import { styleText } from "node:util";
import type { OutcomeKind } from "@lattice/organism/committee/outcome.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { type Collector, STAGES } from "./collector.ts";
import { outcomeDetails } from "./outcome-details.ts";

/** Decisions in the order in which they fall, which is not the order of the organisms. */
const COLUMNS: readonly { readonly organism: Organism; readonly stage: string }[] = [
  { organism: "zipnet", stage: "header" },
  { organism: "zipnet", stage: "broadcast" },
  { organism: "offer", stage: "blind" },
  { organism: "unseal", stage: "unsealed" },
  { organism: "offer", stage: "auction" },
  { organism: "atelier", stage: "candidate" },
  { organism: "relay", stage: "accepted" },
  { organism: "tally", stage: "attribution" },
];

const ROWS = 14;
const REDRAW_MS = 250;
const WIDTH = 13;

export interface Cell {
  readonly kind: OutcomeKind | undefined;
  /** From the slot's start; negative before it. */
  readonly ms: number | undefined;
}

/** `✓ −2.18 s`, `∅ …` for Empty, `× …` for Skipped, `·` while undecided. */
export function cellText({ kind, ms }: Cell): string {
  if (kind === undefined || ms === undefined) return "·";
  const mark = kind === "result" ? "✓" : kind === "empty" ? "∅" : "×";
  return `${mark} ${ms < 0 ? "−" : "+"}${(Math.abs(ms) / 1000).toFixed(2)} s`;
}

export function headerText(): string {
  return ["slot".padEnd(7), ...COLUMNS.map(({ stage }) => stage.padEnd(WIDTH))].join("").trimEnd();
}

export interface TableOptions {
  readonly collector: Collector;
  readonly stream: NodeJS.WriteStream;
  /** A line under the table, e.g. where the gateway is. */
  readonly footer?: () => string;
  readonly nowMs?: () => number;
}

export class SlotTable {
  readonly #options: TableOptions;
  readonly #live: boolean;
  readonly #printed = new Set<bigint>();
  #drawn = 0;
  #timer: NodeJS.Timeout | undefined;
  #unlisten: () => void = () => undefined;

  constructor(options: TableOptions) {
    this.#options = options;
    this.#live = options.stream.isTTY === true;
  }

  start(): void {
    const { collector } = this.#options;
    if (this.#live) {
      this.#timer = setInterval(() => this.draw(), REDRAW_MS);
      this.draw();
    } else {
      this.#unlisten = collector.onOutcome(({ certified }) => this.#printIfFinished(certified.outcome.slot));
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#unlisten();
    if (this.#live) this.draw();
  }

  /** A line above the table. */
  say(line: string): void {
    const { stream } = this.#options;
    if (!this.#live) {
      stream.write(`${line}\n`);
      return;
    }
    this.#erase();
    stream.write(`${line}\n`);
    this.draw();
  }

  /** Draws over what was drawn before. */
  draw(): void {
    const { stream, footer } = this.#options;
    const lines = [this.#style("bold", headerText()), ...this.#rows()];
    if (footer !== undefined) lines.push(this.#style("dim", footer()));
    this.#erase();
    const columns = stream.columns ?? 120;
    stream.write(lines.map((line) => `${clipped(line, columns)}\n`).join(""));
    this.#drawn = lines.length;
  }

  #erase(): void {
    if (this.#drawn > 0) this.#options.stream.write(`\u001b[${this.#drawn}A\u001b[0J`);
    this.#drawn = 0;
  }

  #rows(): string[] {
    const { collector, stream, nowMs = Date.now } = this.#options;
    const rows = Math.max(3, Math.min(ROWS, (stream.rows ?? 24) - 6));
    const current = slotAt(collector.config, nowMs());
    // The next slot is being worked on before it starts.
    const top = collector.newest > current ? collector.newest : current;
    const lines: string[] = [];
    for (let slot = top; slot > 0n && lines.length < rows; slot--) lines.unshift(this.#row(slot));
    return lines;
  }

  #row(slot: bigint): string {
    const cells = COLUMNS.map(({ organism, stage }) => {
      const cell = this.#cell(organism, stage, slot);
      const text = cellText(cell).padEnd(WIDTH);
      if (cell.kind === undefined) return this.#style("dim", text);
      return this.#style(cell.kind === "result" ? "green" : cell.kind === "empty" ? "yellow" : "red", text);
    });
    return [slot.toString().padEnd(7), ...cells].join("").trimEnd();
  }

  #cell(organism: Organism, stage: string, slot: bigint): Cell {
    const { collector } = this.#options;
    const arrival = collector.get(organism, stage, slot);
    if (arrival === undefined) return { kind: undefined, ms: undefined };
    return { kind: arrival.certified.outcome.kind, ms: collector.msIntoSlot(arrival) };
  }

  #style(format: "bold" | "dim" | "green" | "yellow" | "red", text: string): string {
    return styleText(format, text, { stream: this.#options.stream });
  }

  #printIfFinished(slot: bigint): void {
    const { collector, stream } = this.#options;
    if (this.#printed.has(slot) || !collector.decided(slot)) return;
    this.#printed.add(slot);
    stream.write(`${slotLine(collector, slot)}\n`);
  }
}

/** One finished slot in one line: each organism's last word, what it held, and when. */
export function slotLine(collector: Collector, slot: bigint): string {
  const parts = ORGANISMS.map((organism) => {
    const stage = STAGES[organism].at(-1) ?? "";
    const arrival = collector.get(organism, stage, slot);
    if (arrival === undefined) return `${organism} undecided`;
    const { outcome } = arrival.certified;
    const held = Object.entries(outcomeDetails(organism, outcome))
      .filter(([, value]) => typeof value === "number" || typeof value === "boolean")
      .map(([name, value]) => `${name} ${value}`)
      .slice(0, 2);
    return `${organism} ${outcome.kind} ${collector.msIntoSlot(arrival)} ms${held.length === 0 ? "" : ` (${held.join(", ")})`}`;
  });
  return `slot ${slot}: ${parts.join(" · ")}`;
}

/** Cuts a line to the terminal's width without cutting an escape sequence. */
function clipped(line: string, columns: number): string {
  let width = 0;
  let out = "";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal escape sequences begin with one
  for (const piece of line.split(/(\u001b\[[0-9;]*m)/)) {
    if (piece.startsWith("\u001b")) out += piece;
    else {
      const room = Math.max(0, columns - 1 - width);
      out += piece.slice(0, room);
      width += Math.min(piece.length, room);
    }
  }
  return out;
}
