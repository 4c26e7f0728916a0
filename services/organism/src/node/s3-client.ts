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

const TIMEOUT_MS = 20_000;
/** An error's own text, and a page of a list, at most. */
const TEXT_BYTES_MAX = 4 * 1024 * 1024;
const PAGES_MAX = 100;

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

  async #send(request: S3Request, accepted: readonly number[]): Promise<Response> {
    const { credentials, region, nowMs, timeoutMs = TIMEOUT_MS } = this.#options;
    const { method, url, body } = request;
    const { host: _, ...headers } = signS3(request, credentials, region, nowMs());
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        redirect: "error",
        signal: AbortSignal.timeout(timeoutMs),
        ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
      });
    } catch (error) {
      const why = error instanceof Error && error.name === "TimeoutError" ? "no answer in time" : "no connection";
      throw new S3Problem(`${method} ${url.pathname}: ${why}`, undefined, true);
    }
    if (accepted.includes(response.status)) return response;
    const text = method === "HEAD" ? "" : await response.text().catch(() => "");
    const code = /<Code>([A-Za-z0-9]{1,64})<\/Code>/.exec(text.slice(0, 4096))?.[1] ?? response.statusText;
    const passing = response.status >= 500 || response.status === 429;
    throw new S3Problem(`${method} ${url.pathname}: ${response.status} ${code}`, response.status, passing);
  }

  /** @param only `new`: what is there already stays, where the store knows conditional writes. @throws S3Problem */
  async put(key: string, body: Uint8Array, only?: "new"): Promise<void> {
    const headers: Record<string, string> = { "content-type": "application/octet-stream" };
    if (only === "new") headers["if-none-match"] = "*";
    const response = await this.#send({ method: "PUT", url: this.#url(key), headers, body }, [200, 412]);
    await response.body?.cancel();
  }

  /** The length of an object; undefined when there is none. @throws S3Problem */
  async length(key: string): Promise<number | undefined> {
    const response = await this.#send({ method: "HEAD", url: this.#url(key), headers: {} }, [200, 404]);
    return response.status === 404 ? undefined : Number(response.headers.get("content-length") ?? 0);
  }

  /**
   * At most `most` bytes of an object from `offset`; undefined when there is none, or it is larger and no range was asked
   * for. @throws S3Problem
   */
  async get(key: string, most: number, range?: { readonly offset: number }): Promise<Uint8Array | undefined> {
    const headers: Record<string, string> =
      range === undefined ? {} : { range: `bytes=${range.offset}-${range.offset + most - 1}` };
    const response = await this.#send({ method: "GET", url: this.#url(key), headers }, [200, 206, 404, 416]);
    if (response.status === 404 || response.status === 416) {
      await response.body?.cancel();
      return response.status === 404 ? undefined : new Uint8Array();
    }
    // A store that does not know ranges sends everything.
    const partial = response.status === 206 || response.headers.has("content-range");
    const skip = range !== undefined && !partial ? range.offset : 0;
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of response.body ?? []) {
      pieces.push(piece as Uint8Array);
      bytes += (piece as Uint8Array).length;
      if (bytes <= skip + most) continue;
      if (range === undefined) return undefined;
      break;
    }
    return new Uint8Array(Buffer.concat(pieces).subarray(skip, skip + most));
  }

  /** @throws S3Problem */
  async remove(key: string): Promise<void> {
    const response = await this.#send({ method: "DELETE", url: this.#url(key), headers: {} }, [200, 204, 404]);
    await response.body?.cancel();
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
      const response = await this.#send({ method: "GET", url: this.#url(undefined, query), headers: {} }, [200]);
      const text = (await response.text()).slice(0, TEXT_BYTES_MAX);
      for (const [, content = ""] of text.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const key = unescapeXml(/<Key>(.*?)<\/Key>/s.exec(content)?.[1] ?? "");
        const bytes = Number(/<Size>(\d{1,15})<\/Size>/.exec(content)?.[1] ?? Number.NaN);
        if (key.startsWith(this.#prefix) && Number.isSafeInteger(bytes)) {
          found.push({ key: key.slice(this.#prefix.length), bytes });
        }
      }
      token = unescapeXml(/<NextContinuationToken>(.*?)<\/NextContinuationToken>/s.exec(text)?.[1] ?? "");
      if (token === "" || !/<IsTruncated>true<\/IsTruncated>/.test(text)) break;
    }
    return found;
  }
}

function unescapeXml(text: string): string {
  return text
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/&quot;|&#34;/g, '"')
    .replace(/&apos;|&#39;/g, "'")
    .replace(/&amp;/g, "&");
}
