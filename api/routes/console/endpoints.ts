/** /endpoints: where the messages go, and how it is there. */
import { collectEndpoints, type Endpoints, withPauses } from "../../endpoints/overview.ts";
import type { Route } from "../../http/route.ts";
import { endpointsBody } from "../../pages/console/endpoints.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { type Fresh, keepFresh } from "./fresh.ts";
import { type ConsoleDeps, page } from "./page.ts";

export type EndpointsOf = (deps: ScopedDeps) => Promise<Fresh<Endpoints>>;

/** Collects the endpoints once for all who look. */
export const freshEndpoints = (): EndpointsOf => keepFresh(collectEndpoints);

export function endpointRoutes(deps: ConsoleDeps, endpointsOf: EndpointsOf): Route[] {
  return [
    page(deps, "/endpoints", async (call) => {
      const { value, at } = await endpointsOf(call.deps);
      const rows = withPauses(value.rows, await call.deps.listPauses());
      const body = endpointsBody(call.base, rows, value.isWhole);
      return call.render({ title: "Endpoints", isLive: true, at, body });
    }),
  ];
}
