/** Looks for planted bytes in files and texts, in every form in which a program might let them slip. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export interface Needle {
  /** What it is called in reports; the bytes themselves are never printed. */
  readonly name: string;
  readonly forms: readonly Buffer[];
}

/** Raw, hex in both cases, base64 at each of the three alignments (without its ragged ends), base64url. */
export function needle(name: string, bytes: Uint8Array): Needle {
  if (bytes.length < 12) throw new RangeError("a needle of less than 12 bytes finds itself by chance");
  const raw = Buffer.from(bytes);
  const hex = raw.toString("hex");
  const base64 = [0, 1, 2].flatMap((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), raw]).toString("base64");
    // The first and last characters depend on what stands beside the bytes.
    const inner = text.slice(shift === 0 ? 0 : 4, text.length - 4);
    return [inner, inner.replaceAll("+", "-").replaceAll("/", "_")];
  });
  const json = `[${[...raw].join(",")}]`.slice(1, -1);
  const texts = [hex, hex.toUpperCase(), ...base64, json].map((text) => Buffer.from(text, "latin1"));
  return { name, forms: [raw, ...texts] };
}

export interface Hit {
  readonly needle: string;
  readonly where: string;
}

export function scanBytes(where: string, haystack: Buffer, needles: readonly Needle[]): Hit[] {
  return needles
    .filter(({ forms }) => forms.some((form) => haystack.includes(form)))
    .map(({ name }) => ({ needle: name, where }));
}

/** All regular files below a folder; what vanishes meanwhile is left out. */
export function filesBelow(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder, { recursive: true }) as string[];
  } catch {
    return [];
  }
  return names
    .map((name) => join(folder, name))
    .filter((path) => {
      try {
        return statSync(path).isFile();
      } catch {
        return false;
      }
    });
}

export function scanFiles(paths: readonly string[], needles: readonly Needle[]): Hit[] {
  return paths.flatMap((path) => {
    try {
      return scanBytes(path, readFileSync(path), needles);
    } catch {
      return [];
    }
  });
}
