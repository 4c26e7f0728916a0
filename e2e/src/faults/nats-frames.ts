/**
 * NATS on the wire, cut into whole messages, so that a fault may hit a message of the log rather than bytes in the
 * middle of one. Source: the NATS client protocol (`PUB`, `HPUB`, `MSG`, `HMSG` carry a payload, all else is a line).
 */

export interface Frame {
  /** The whole frame, line ends included. */
  readonly bytes: Buffer;
  /** Of a message; absent for every other line. */
  readonly subject?: string;
}

const LINE_END = Buffer.from("\r\n");
/** Longer than any line of the protocol but INFO and CONNECT, which stay far below it. */
const LINE_BYTES_MAX = 1024 * 1024;

/** How many bytes follow a message's line, its line end included; undefined for a line without a payload. */
function payloadBytes(line: string): { readonly subject: string; readonly bytes: number } | undefined {
  const words = line.split(/[ \t]+/);
  const verb = words[0]?.toUpperCase();
  const carries = verb === "PUB" || verb === "HPUB" || verb === "MSG" || verb === "HMSG";
  if (!carries) return undefined;
  const size = Number(words.at(-1));
  if (!Number.isSafeInteger(size) || size < 0) throw new RangeError(`not a NATS message: ${line.slice(0, 80)}`);
  return { subject: words[1] ?? "", bytes: size + LINE_END.length };
}

export class NatsFrames {
  #rest: Buffer = Buffer.alloc(0);

  /** Takes bytes as they come. @returns the frames that are whole now @throws RangeError for what is no NATS */
  push(chunk: Buffer): Frame[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    let at = 0;
    for (;;) {
      const end = this.#rest.indexOf(LINE_END, at);
      if (end < 0) {
        if (this.#rest.length - at > LINE_BYTES_MAX) throw new RangeError("not NATS: an endless line");
        break;
      }
      const line = this.#rest.subarray(at, end).toString("latin1");
      const payload = payloadBytes(line);
      const next = end + LINE_END.length + (payload?.bytes ?? 0);
      if (next > this.#rest.length) break;
      const bytes = Buffer.from(this.#rest.subarray(at, next));
      frames.push(payload === undefined ? { bytes } : { bytes, subject: payload.subject });
      at = next;
    }
    this.#rest = this.#rest.subarray(at);
    return frames;
  }
}

/** Whether a frame carries a message of a committee's log. */
export function isLogMessage({ subject }: Frame): boolean {
  return subject !== undefined && /\.\d+\.(ctl|bulk)$/.test(subject);
}

/** The same message under another id of the same length, so that the broker's window of known ids does not drop it. */
export function underAnotherId({ bytes }: Frame): Buffer {
  const copy = Buffer.from(bytes);
  const name = Buffer.from("Nats-Msg-Id: ");
  const at = copy.indexOf(name);
  if (at >= 0) {
    const first = at + name.length;
    copy[first] = copy[first] === 0x7a ? 0x79 : 0x7a;
  }
  return copy;
}
