/** The first view of the console: how the service is now, and what needs a person. */
import type { Route } from "../../http/route.ts";
import { nowBody } from "../../pages/console/now.ts";
import { keepFresh } from "./fresh.ts";
import { type ConsoleDeps, page } from "./page.ts";
import { takeSurvey } from "./survey.ts";

export function nowRoutes(deps: ConsoleDeps): Route[] {
  const surveyForAdmins = keepFresh((scoped) => takeSurvey(scoped, true));
  const surveyForOthers = keepFresh((scoped) => takeSurvey(scoped, false));
  return [
    page(deps, "/", async (call) => {
      const { value, at } = await (call.may("admin") ? surveyForAdmins : surveyForOthers)(call.deps);
      const { origin } = new URL(call.request.url);
      return call.render({ title: "Now", isLive: true, at, body: nowBody(value, { base: call.base, origin }) });
    }),
  ];
}
