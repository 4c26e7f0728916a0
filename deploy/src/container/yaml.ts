/** Writes the small part of YAML that a compose file needs: mappings, lists, scalars, anchors, merge keys. */

export type Yaml = string | number | boolean | readonly Yaml[] | YamlMap;
export interface YamlMap {
  readonly [key: string]: Yaml;
}

/** A top-level mapping that others merge: `x-<name>: &<name>`. */
export interface Template {
  readonly name: string;
  readonly content: YamlMap;
}

/** The merge key: its value names a template, written `<<: *name`. */
export const MERGE = "<<";

const LINE_MAX = 110;

/** Strings are quoted unless nobody could take them for anything else. */
function scalar(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  const plain = /^[A-Za-z/][\w./-]*$/.test(value) && !/^(?:y|n|yes|no|on|off|true|false|null)$/i.test(value);
  return plain ? value : JSON.stringify(value);
}

function isMap(value: Yaml): value is YamlMap {
  return typeof value === "object" && !Array.isArray(value);
}

/** On one line, as JSON writes it: `[a, b]`, `{ k: v }`. */
function flow(value: Yaml): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (!isMap(value)) return scalar(value as string | number | boolean);
  const entries = Object.entries(value);
  return entries.length === 0
    ? "{}"
    : `{ ${entries.map(([key, each]) => `${scalar(key)}: ${flow(each)}`).join(", ")} }`;
}

/** Lists and the innermost mappings of one entry stand on one line when they fit. */
function lines(key: string, value: Yaml, indent: string): string[] {
  const inline = `${indent}${scalar(key)}: ${flow(value)}`;
  const short = !isMap(value) || (Object.keys(value).length <= 1 && value[MERGE] === undefined);
  if (short && inline.length <= LINE_MAX) return [inline];
  const deeper = `${indent}  `;
  if (isMap(value)) return [`${indent}${scalar(key)}:`, ...entries(value, deeper)];
  if (Array.isArray(value)) return [`${indent}${scalar(key)}:`, ...value.map((each) => `${deeper}- ${flow(each)}`)];
  return [inline];
}

function entries(map: YamlMap, indent: string): string[] {
  return Object.entries(map).flatMap(([key, value]) =>
    key === MERGE ? [`${indent}${MERGE}: *${String(value)}`] : lines(key, value, indent),
  );
}

/** `x-name: &name` and what it holds. */
export function templateLines({ name, content }: Template): string[] {
  return [`x-${name}: &${name}`, ...entries(content, "  ")];
}

/** `key: value`, over as many lines as it takes. */
export function entryLines(key: string, value: Yaml, indent = ""): string[] {
  return lines(key, value, indent);
}

/** What a reader of the YAML ends up with: every merge carried out. Own keys win, as YAML has it. */
export function resolve(value: Yaml, templates: readonly Template[]): Yaml {
  if (!isMap(value)) return value;
  const { [MERGE]: name, ...own } = value;
  const base = templates.find((template) => template.name === name);
  if (name !== undefined && base === undefined) throw new RangeError(`no template ${String(name)}`);
  const inherited = base === undefined ? {} : (resolve(base.content, templates) as YamlMap);
  const entries = Object.entries(own).map(([key, each]): [string, Yaml] => [key, resolve(each, templates)]);
  return { ...inherited, ...Object.fromEntries(entries) };
}
