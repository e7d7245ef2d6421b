/** The reference, for people who read it and for programs that generate clients from it: /docs and /openapi.json. */
import type { ApiDeps } from "../deps.ts";
import { renderDocs } from "../pages/docs.ts";
import { htmlPage } from "../pages/html.ts";
import { type JsonObject, openApiDocument } from "../pages/openapi.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

type PageRoutesDeps = Pick<ApiDeps, "config" | "version">;

const tag = "Pages";
const htmlResponses = { 200: { description: "The page", type: "text/html" } };

/** The pages about these routes and themselves. */
export function pageRoutes(deps: PageRoutesDeps, api: readonly Route[]): Route[] {
  const { version } = deps;
  const base = deps.config.BASE_PATH;
  let document: JsonObject | undefined;
  // A quarter of what the start would cost, for a page that most processes never show.
  const getDocument = () => (document ??= openApiDocument([...api, ...pages], version, base));
  const pages: Route[] = [
    route({
      method: "get",
      path: "/docs",
      tag,
      scope: "public",
      summary: "This reference, for people",
      responses: htmlResponses,
      problems: [],
      handle: () => htmlPage("Email Listener: reference", renderDocs(getDocument(), base)),
    }),
    route({
      method: "get",
      path: "/openapi.json",
      tag,
      scope: "public",
      summary: "This reference, for machines",
      responses: { 200: { description: "OpenAPI 3.1" } },
      problems: [],
      handle: () => jsonResponse(getDocument()),
    }),
  ];
  return pages;
}
