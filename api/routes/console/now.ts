/** The first view of the console: how the service is now, and what needs a person. */
import type { Route } from "../../http/route.ts";
import { clock } from "../../../shared/time.ts";
import { nowBody, type Survey } from "../../pages/console/now.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { type ConsoleDeps, page } from "./page.ts";
import { takeSurvey } from "./survey.ts";

/** Many open pages cost the store as much as one. */
const FRESH_MS = 2_000;

export function nowRoutes(deps: ConsoleDeps): Route[] {
  const surveys = new WeakMap<ScopedDeps, Map<boolean, { at: number; survey: Promise<Survey> }>>();
  const surveyOf = (scoped: ScopedDeps, seesNodes: boolean): Promise<Survey> => {
    const known = surveys.get(scoped) ?? new Map();
    surveys.set(scoped, known);
    const last = known.get(seesNodes);
    if (last && clock.monotonic() - last.at < FRESH_MS) return last.survey;
    const survey = takeSurvey(scoped, seesNodes);
    survey.catch(() => known.delete(seesNodes));
    known.set(seesNodes, { at: clock.monotonic(), survey });
    return survey;
  };
  return [
    page(deps, "/", async (call) => {
      const survey = await surveyOf(call.deps, call.may("admin"));
      const { origin } = new URL(call.request.url);
      return call.render({ title: "Now", isLive: true, body: nowBody(survey, { base: call.base, origin }) });
    }),
  ];
}
