/** Every page and action of the console. Specific paths come before general ones. */
import type { Route } from "../../http/route.ts";
import { assetRoutes } from "./assets.ts";
import { loginRoutes } from "./login.ts";
import { nowRoutes } from "./now.ts";
import type { ConsoleDeps } from "./page.ts";

export function consoleRoutes(deps: ConsoleDeps): Route[] {
  return [...assetRoutes(deps), ...loginRoutes(deps), ...nowRoutes(deps)];
}
