/**
 * The few requests of the S3 API that an archive needs, path-style, for whatever speaks it. Nothing that comes back is
 * believed; credentials are in no message, log or error.
 */
import { type S3Credentials, type S3Request, s3Escape, signS3 } from "./s3-signature.ts";

/** The store refused, or did not answer. Says what was asked for and the store's own code, never who asked. */
export class S3Problem extends Error {
  override readonly name = "S3Problem";
  readonly status: number | undefined;
  /** May the identical request be repeated? */
  readonly passing: boolean;
  constructor(message: string, status: number | undefined, passing: boolean) {
    super(message);
    this.status = status;
    this.passing = passing;
  }
}

export interface S3Options {
  /** `http(s)://host[:port]/bucket[/prefix]` */
  readonly url: string;
  readonly region: string;
  readonly credentials: S3Credentials;
  readonly nowMs: () => number;
  /** Of one request. */
  readonly timeoutMs?: number;
}

export interface S3Listed {
  readonly key: string;
  readonly bytes: number;
}

/** An answer of a kind that was asked for. */
interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The body, at most so many bytes of it. Once. @throws S3Problem */
  readonly read: (most: number) => Promise<Uint8Array>;
}

/** Of one request, and what is added for what it carries: a store that is slower than this is none. */
const TIMEOUT_MS = 20_000;
const SLOWEST_BYTES_PER_MS = 1024;
/** An error's own text, as far as it is read. */
const ERROR_BYTES_MAX = 4096;
/** A page of a list, at most: a thousand keys, as long as keys may be, and what surrounds them. */
const PAGE_BYTES_MAX = 4 * 1024 * 1024;
const PAGES_MAX = 10;

export class S3Client {
  readonly #options: S3Options;
  readonly #origin: string;
  readonly #bucket: string;
  readonly #prefix: string;

  /** @throws S3Problem for a URL without a bucket */
  constructor(options: S3Options) {
    this.#options = options;
    const url = new URL(options.url);
    const [bucket, ...rest] = url.pathname.split("/").filter((each) => each !== "");
    if (bucket === undefined) throw new S3Problem("the archive's URL names no bucket", undefined, false);
    this.#origin = url.origin;
    this.#bucket = bucket;
    this.#prefix = rest.map((each) => `${each}/`).join("");
  }

  #url(key: string | undefined, query: Readonly<Record<string, string>> = {}): URL {
    const path = key === undefined ? "" : (this.#prefix + key).split("/").map(s3Escape).join("/");
    const url = new URL(`${this.#origin}/${s3Escape(this.#bucket)}/${path}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url;
  }

  /** @param carried bytes that may come back. @returns the answer, and its body as far as it is asked for */
  async #send(request: S3Request, accepted: readonly number[], carried = 0): Promise<Answer> {
    const { credentials, region, nowMs, timeoutMs = TIMEOUT_MS } = this.#options;
    const { method, url, body } = request;
    const { host: _, ...headers } = signS3(request, credentials, region, nowMs());
    const asked = `${method} ${url.pathname}`;
    const allowedMs = timeoutMs + Math.ceil((carried + (body?.length ?? 0)) / SLOWEST_BYTES_PER_MS);
    /** The store may fall silent, or hang up, at any byte. */
    const reached = <T>(work: Promise<T>): Promise<T> =>
      work.catch((error: unknown) => {
        const late = error instanceof Error && error.name === "TimeoutError";
        throw new S3Problem(`${asked}: ${late ? "no answer in time" : "no connection"}`, undefined, true);
      });
    const response = await reached(
      fetch(url, {
        method,
        headers,
        redirect: "error",
        signal: AbortSignal.timeout(allowedMs),
        ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
      }),
    );
    const { status } = response;
    const read = (most: number): Promise<Uint8Array> => reached(bodyOf(response, most));
    if (accepted.includes(status)) return { status, headers: response.headers, read };
    const text = Buffer.from(await read(ERROR_BYTES_MAX).catch(() => new Uint8Array())).toString();
    const code = /<Code>([A-Za-z0-9]{1,64})<\/Code>/.exec(text)?.[1] ?? response.statusText;
    throw new S3Problem(`${asked}: ${status} ${code}`, status, status >= 500 || status === 429);
  }

  /** @throws S3Problem */
  async put(key: string, body: Uint8Array): Promise<void> {
    const headers = { "content-type": "application/octet-stream" };
    const answer = await this.#send({ method: "PUT", url: this.#url(key), headers, body }, [200]);
    await answer.read(0);
  }

  /**
   * At most `most` bytes of an object from `offset`; undefined when there is none, or it is larger and no range was asked
   * for. @throws S3Problem
   */
  async get(key: string, most: number, range?: { readonly offset: number }): Promise<Uint8Array | undefined> {
    const headers: Record<string, string> =
      range === undefined ? {} : { range: `bytes=${range.offset}-${range.offset + most - 1}` };
    const request: S3Request = { method: "GET", url: this.#url(key), headers };
    const answer = await this.#send(request, [200, 206, 404, 416], most);
    if (answer.status === 404 || answer.status === 416) {
      await answer.read(0);
      return answer.status === 404 ? undefined : new Uint8Array();
    }
    // A store that does not know ranges sends everything.
    const partial = answer.status === 206 || answer.headers.has("content-range");
    const skip = range !== undefined && !partial ? range.offset : 0;
    const found = await answer.read(skip + most + 1);
    if (range === undefined && found.length > most) return undefined;
    return found.slice(skip, skip + most);
  }

  /** @throws S3Problem */
  async remove(key: string): Promise<void> {
    const answer = await this.#send({ method: "DELETE", url: this.#url(key), headers: {} }, [200, 204, 404]);
    await answer.read(0);
  }

  /** Objects whose key begins with `prefix`. @throws S3Problem */
  async list(prefix: string): Promise<S3Listed[]> {
    const found: S3Listed[] = [];
    let token: string | undefined;
    for (let page = 0; page < PAGES_MAX; page++) {
      const query = {
        "list-type": "2",
        prefix: this.#prefix + prefix,
        ...(token === undefined ? {} : { "continuation-token": token }),
      };
      const request: S3Request = { method: "GET", url: this.#url(undefined, query), headers: {} };
      const text = Buffer.from(await (await this.#send(request, [200])).read(PAGE_BYTES_MAX)).toString();
      for (const content of text.split("<Contents>").slice(1)) {
        const key = unescapeXml(between(content, "<Key>", "</Key>"));
        const size = between(content, "<Size>", "</Size>");
        if (key.startsWith(this.#prefix) && /^\d{1,15}$/.test(size)) {
          found.push({ key: key.slice(this.#prefix.length), bytes: Number(size) });
        }
      }
      token = unescapeXml(between(text, "<NextContinuationToken>", "</NextContinuationToken>"));
      if (token === "" || !text.includes("<IsTruncated>true</IsTruncated>")) break;
    }
    return found;
  }
}

/** At most so many bytes; nothing is read beyond them. */
async function bodyOf({ body }: Response, most: number): Promise<Uint8Array> {
  if (most === 0) {
    await body?.cancel();
    return new Uint8Array();
  }
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of body ?? []) {
    pieces.push(piece as Uint8Array);
    bytes += (piece as Uint8Array).length;
    if (bytes >= most) break;
  }
  return new Uint8Array(Buffer.concat(pieces).subarray(0, most));
}

/** What stands between the first `begin` and the next `end`; nothing where either is missing. In one pass, whatever the text is. */
function between(text: string, begin: string, end: string): string {
  const from = text.indexOf(begin);
  if (from < 0) return "";
  const to = text.indexOf(end, from + begin.length);
  return to < 0 ? "" : text.slice(from + begin.length, to);
}

function unescapeXml(text: string): string {
  return text
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/&quot;|&#34;/g, '"')
    .replace(/&apos;|&#39;/g, "'")
    .replace(/&amp;/g, "&");
}
