/** Lists: how a client asks for a page and what a page looks like, the same for every resource. */
import * as v from "valibot";

/** The query members of every list. */
export const pageQuery = {
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)), 100),
  cursor: v.exactOptional(v.pipe(v.string(), v.description("`next` of the previous page."))),
};

/** A page of items; `next` is null on the last one. */
export function pageOf<S extends v.GenericSchema>(item: S) {
  return v.object({ items: v.array(item), next: v.nullable(v.string()), total: v.number() });
}
