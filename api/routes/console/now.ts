/** The first view of the console: how the service is now, and what needs a person. */
import type { Route } from "../../http/route.ts";
import { nowBody } from "../../pages/console/now.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { byWeight } from "./causes.ts";
import { keepFresh } from "./fresh.ts";
import { type ConsoleDeps, page } from "./page.ts";
import { countHeld, pauseCauses } from "./paused.ts";
import { takeSurvey } from "./survey.ts";

export function nowRoutes(deps: ConsoleDeps): Route[] {
  const surveyForAdmins = keepFresh((scoped) => take(scoped, true));
  const surveyForOthers = keepFresh((scoped) => take(scoped, false));
  return [
    page(deps, "/", async (call) => {
      const { value, at } = await (call.may("admin") ? surveyForAdmins : surveyForOthers)(call.deps);
      const { base, query, actor } = call;
      // A pause is seen at once by the person who made or ended it.
      const paused = pauseCauses(await call.deps.listPauses(), value.held, actor.mailboxPrefix);
      const causes = [...value.survey.causes, ...paused].toSorted(byWeight);
      const place = { base, query, origin: new URL(call.request.url).origin, mayManage: call.may("manage") };
      return call.render({ title: "Now", isLive: true, at, body: nowBody({ ...value.survey, causes }, place) });
    }),
  ];
}

async function take(scoped: ScopedDeps, seesNodes: boolean) {
  const [survey, held] = await Promise.all([takeSurvey(scoped, seesNodes), countHeld(scoped)]);
  return { survey, held };
}
