/** Parses iCalendar (RFC 5545) into components and properties, in one pass. It accepts what mail programs write. */

/** Names are in upper case. `value` still has its escapes. */
export type Property = { name: string; params: ReadonlyMap<string, string>; value: string };
export type Component = { name: string; properties: Property[]; components: Component[] };

const MAX_CHARACTERS = 1024 * 1024;
const MAX_LINES = 50_000;
const MAX_DEPTH = 10;
const MAX_PARAMS = 50;

/**
 * The calendar in a text. Undefined if there is none. A component that is not closed, or nested too deep, ends with the
 * text.
 */
export function parseCalendar(text: string): Component | undefined {
  const lines = text
    .slice(0, MAX_CHARACTERS)
    .replace(/\r\n?/g, "\n")
    .replace(/\n[ \t]/g, "")
    .split("\n", MAX_LINES);
  const root: Component = { name: "", properties: [], components: [] };
  const open = [root];
  for (const line of lines) {
    const property = parseLine(line.trimStart());
    const parent = open.at(-1) ?? root;
    if (property?.name === "BEGIN" && open.length <= MAX_DEPTH) {
      const component: Component = { name: property.value.trim().toUpperCase(), properties: [], components: [] };
      parent.components.push(component);
      open.push(component);
    } else if (property?.name === "END") {
      if (open.length > 1) open.pop();
    } else if (property) parent.properties.push(property);
  }
  return root.components.find(({ name }) => name === "VCALENDAR");
}

/** The first property of this name. */
export function propertyOf(component: Component, name: string): Property | undefined {
  return component.properties.find((one) => one.name === name);
}

/** A text value without its escapes (section 3.3.11). */
export function unescapeText(value: string): string {
  return value.replace(/\\([\\;,nN])/g, (_, escaped: string) => (/n/i.test(escaped) ? "\n" : escaped));
}

const NAME = /^[A-Za-z0-9-]{1,60}(?=[;:])/;
const PARAM = /;([A-Za-z0-9-]{1,60})=("[^"]*"|[^";:]*(?:,"[^"]*")*)/y;

function parseLine(line: string): Property | undefined {
  const name = NAME.exec(line)?.[0];
  if (name === undefined) return undefined;
  const params = new Map<string, string>();
  let at = name.length;
  PARAM.lastIndex = at;
  for (let match = PARAM.exec(line); match && params.size < MAX_PARAMS; match = PARAM.exec(line)) {
    at = PARAM.lastIndex;
    const key = (match[1] ?? "").toUpperCase();
    if (!params.has(key)) params.set(key, (match[2] ?? "").replaceAll('"', ""));
  }
  const colon = line.indexOf(":", at);
  return colon < 0 ? undefined : { name: name.toUpperCase(), params, value: line.slice(colon + 1) };
}
