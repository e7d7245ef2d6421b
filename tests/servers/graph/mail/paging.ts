/** Lists in pages, each with a link to the next one that skips what was given, as Graph does for lists. */
import { badRequest } from "../answers.ts";
import type { Ask } from "../world.ts";

export type Page<Item> = { items: Item[]; nextLink: string | undefined; total: number };

function numberIn(query: URLSearchParams, name: string, least: number, most: number, otherwise: number): number {
  const text = query.get(name);
  if (text === null) return otherwise;
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < least)
    throw badRequest(`Invalid value '${text}' for ${name} query option found.`, "ErrorInvalidUrlQuery");
  if (number > most)
    throw badRequest(`The limit of '${most}' for ${name} query has been exceeded.`, "ErrorInvalidUrlQuery");
  return number;
}

/** The page that $top (or the preferred size) and $skip ask for. */
export function pageOf<Item>(ask: Ask, all: Item[], usual = 10): Page<Item> {
  const size = numberIn(ask.query, "$top", 1, 1000, Math.min(ask.prefer.pageSize ?? usual, 1000));
  const skip = numberIn(ask.query, "$skip", 0, Number.MAX_SAFE_INTEGER, 0);
  const items = all.slice(skip, skip + size);
  const more = skip + size < all.length;
  return { items, nextLink: more ? linkTo(ask, { $skip: String(skip + size) }) : undefined, total: all.length };
}

/** This request's address with these options in place of its own of the same name. */
function linkTo(ask: Ask, options: Record<string, string>): string {
  const query = new URLSearchParams(ask.query);
  for (const [name, value] of Object.entries(options)) query.set(name, value);
  return `${ask.world.root}/v1.0/${ask.path}?${query.toString().replaceAll("+", "%20")}`;
}

/** The answer of a list. */
export function listAnswer(
  ask: Ask,
  context: string,
  page: Page<unknown>,
  value: object[],
): { status: 200; json: object } {
  const json = {
    "@odata.context": `${ask.world.root}/v1.0/$metadata#${context}`,
    ...(ask.query.get("$count") === "true" && { "@odata.count": page.total }),
    value,
    ...(page.nextLink !== undefined && { "@odata.nextLink": page.nextLink }),
  };
  return { status: 200, json };
}
