/** Lists of Graph, page by page. */
import * as v from "valibot";
import { Problem } from "../../../contract/problem.ts";
import type { CallOptions, GraphSession } from "./session.ts";

/** A page of rows. It has a link to the next one, or a link for the next round of a delta, or none. */
export function pageOf<S extends v.GenericSchema>(row: S) {
  return v.object({
    value: v.array(row),
    "@odata.nextLink": v.optional(v.string()),
    "@odata.deltaLink": v.optional(v.string()),
  });
}

/** More pages than any mailbox has. */
const MAX_PAGES = 10_000;

/** All rows of a list. */
export async function* listRows<S extends v.GenericSchema>(
  session: GraphSession,
  { what, path, row }: { what: string; path: string; row: S },
  signal: AbortSignal,
  options?: CallOptions,
): AsyncGenerator<v.InferOutput<S>, void, undefined> {
  let place: string | { link: string } = path;
  for (let pages = 0; pages < MAX_PAGES; pages += 1) {
    const page: { value: v.InferOutput<S>[]; "@odata.nextLink"?: string | undefined } = await session.get(
      what,
      place,
      pageOf(row),
      signal,
      options,
    );
    yield* page.value;
    const link = page["@odata.nextLink"];
    if (link === undefined) return;
    place = { link };
  }
  throw new Problem("protocol", `${what}: Microsoft Graph lists pages without end`);
}

/** A value in a filter. Quotes are doubled. */
export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A path with the options of a query; undefined ones are left out. */
export function withQuery(path: string, options: Record<string, string | undefined>): string {
  const given = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`],
  );
  return given.length > 0 ? `${path}?${given.join("&")}` : path;
}
