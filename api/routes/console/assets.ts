/** GET /assets/{name}: the style sheet, the script and the icon of the console. */
import { Problem } from "../../../shared/contract/problem.ts";
import type { Route } from "../../http/route.ts";
import { ASSETS_PATH } from "../../pages/console/assets.ts";
import { type ConsoleDeps, consoleRoute } from "./page.ts";

const YEAR_SECONDS = 31_536_000;

export function assetRoutes(deps: ConsoleDeps): Route[] {
  return [
    consoleRoute(deps, { method: "get", path: `${ASSETS_PATH}/{name}` }, (_request, { id }) => {
      const asset = deps.assets.find(id);
      if (!asset) throw new Problem("not_found", "There is no such file.", { retry: "never" });
      return new Response(new Uint8Array(asset.body), {
        headers: { "content-type": asset.type, "cache-control": `public, max-age=${YEAR_SECONDS}, immutable` },
      });
    }),
  ];
}
