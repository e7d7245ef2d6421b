/** The first view of the console: how the service is now. */
import { html } from "hono/html";
import type { Route } from "../../http/route.ts";
import { collectCounts } from "../../counts.ts";
import { type ConsoleDeps, page } from "./page.ts";

export function nowRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/", async (call) => {
      const counts = call.actor.mailboxPrefix === "" ? await collectCounts(call.deps) : undefined;
      return call.render({
        title: "Now",
        body: html`<ul class="numbers" id="numbers" data-live>
          <li><b>${counts?.mailboxes.total ?? 0}</b>mailboxes</li>
          <li><b>${counts?.deliveries.parked ?? 0}</b>parked</li>
        </ul>`,
      });
    }),
  ];
}
