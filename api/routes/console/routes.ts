/** Every page and action of the console. Specific paths come before general ones. */
import type { ApiDeps } from "../../deps.ts";
import type { Authenticate } from "../../http/auth.ts";
import type { Route } from "../../http/route.ts";
import { consoleAssets } from "../../pages/console/assets.ts";
import type { WrittenPage } from "../../pages/console/layout.ts";
import { editRoutes } from "./actions/edit.ts";
import { bodyRoutes } from "./actions/body.ts";
import { recordPageRoutes } from "./actions/record.ts";
import { bulkPageRoutes } from "./actions/bulk.ts";
import { alarmPageRoutes } from "./alarms.ts";
import { addRoutes } from "./add/add.ts";
import { assetRoutes } from "./assets.ts";
import { deliveryRoutes } from "./deliveries.ts";
import { endpointActionRoutes } from "./actions/endpoint.ts";
import { endpointRoutes, freshEndpoints } from "./endpoints.ts";
import { diagnosticPageRoutes } from "./diagnostics.ts";
import { sharedPages } from "./fresh.ts";
import { loginRoutes } from "./login.ts";
import { mailboxListRoutes } from "./mailbox-list.ts";
import { mailboxRoutes } from "./mailbox.ts";
import { nowRoutes } from "./now.ts";
import { outgoingRoutes } from "./outgoing.ts";
import type { ConsoleDeps } from "./page.ts";
import { searchRoutes } from "./search.ts";
import { consoleSessions } from "./sessions.ts";

type ConsoleRoutesDeps = Pick<ConsoleDeps, "scopedFor" | "callApi"> & { authenticate: Authenticate };

export function consoleRoutes(node: ApiDeps, { authenticate, ...more }: ConsoleRoutesDeps): Route[] {
  const { config, version, facts } = node;
  const sessions = consoleSessions({ ...node, authenticate });
  const assets = consoleAssets(config.BASE_PATH);
  const renewed = sharedPages<WrittenPage>();
  const deps = { ...more, config, version, emit: facts.emit, sessions, assets, renewed };
  const endpointsOf = freshEndpoints();
  return [
    ...assetRoutes(deps),
    ...loginRoutes(deps),
    ...nowRoutes(deps),
    ...mailboxListRoutes(deps),
    ...bulkPageRoutes(deps),
    ...editRoutes(deps),
    ...recordPageRoutes(deps),
    ...addRoutes(deps),
    ...mailboxRoutes(deps),
    ...bodyRoutes(deps),
    ...deliveryRoutes(deps),
    ...endpointRoutes(deps, endpointsOf),
    ...endpointActionRoutes(deps, endpointsOf),
    ...outgoingRoutes(deps),
    ...searchRoutes(deps),
    ...diagnosticPageRoutes(deps),
    ...alarmPageRoutes(deps),
  ];
}
