/** /login and /logout: the token goes in by a form, and only an encrypted cookie comes out. */
import { html } from "hono/html";
import { asProblem, Problem, PROBLEMS } from "../../../shared/contract/problem.ts";
import type { Route } from "../../http/route.ts";
import type { Html } from "../../pages/html.ts";
import { consolePage } from "../../pages/console/layout.ts";
import { type ConsoleDeps, consoleRoute, frameOf, readForm, seeOther } from "./page.ts";

export function loginRoutes(deps: ConsoleDeps): Route[] {
  return [showLogin(deps), logIn(deps), logOut(deps)];
}

function showLogin(deps: ConsoleDeps): Route {
  return consoleRoute(deps, { method: "get", path: "/login" }, async (request, { caller }) => {
    const next = new URL(request.url).searchParams.get("next");
    const isLoggedIn = await deps.sessions.actorOf(request, caller.address).then(
      () => true,
      () => false,
    );
    return isLoggedIn ? seeOther(localPath(deps, next)) : loginPage(deps, request, { next });
  });
}

function logIn(deps: ConsoleDeps): Route {
  return consoleRoute(deps, { method: "post", path: "/login" }, async (request, { caller }) => {
    const form = await readForm(request);
    const [token, next] = [form.get("token")?.trim() ?? "", form.get("next")];
    try {
      const cookie = await deps.sessions.begin(token, request, caller.address);
      return seeOther(localPath(deps, next), { "set-cookie": cookie });
    } catch (error) {
      const problem = asProblem(error);
      if (!EXPLAINED.has(problem.code)) throw problem;
      return loginPage(deps, request, { next, problem });
    }
  });
}

/** Problems of the token itself. The form shows them. */
const EXPLAINED: ReadonlySet<string> = new Set(["unauthorized", "guesses", "scope"]);

function logOut(deps: ConsoleDeps): Route {
  return consoleRoute(deps, { method: "post", path: "/logout" }, (request) =>
    seeOther(`${deps.config.BASE_PATH}/login`, { "set-cookie": deps.sessions.endCookie(request) }),
  );
}

/** A path of this service. Anything else would lead people elsewhere after their login. */
function localPath({ config }: ConsoleDeps, wanted: string | null): string {
  const start = `${config.BASE_PATH}/`;
  const here = "http://here";
  const url = wanted?.startsWith(start) ? URL.parse(wanted, here) : null;
  return url?.origin === here && url.pathname.startsWith(start) ? url.pathname + url.search : start;
}

type LoginState = { next: string | null; problem?: Problem };

function loginPage(deps: ConsoleDeps, request: Request, { next, problem }: LoginState): Promise<Response> {
  const retryAt = problem?.retry instanceof Date ? problem.view().retryAt : null;
  return consolePage(frameOf(deps, request), {
    title: "Log in",
    status: problem ? PROBLEMS[problem.code].status : 200,
    body: loginForm(deps.config.BASE_PATH, next, problem && { text: explain(problem), retryAt }),
  });
}

function explain({ code, message }: Problem): string {
  return code === "unauthorized" ? "This is no token of this service, or it has expired." : message;
}

function loginForm(base: string, next: string | null, failure?: { text: string; retryAt: string | null }): Html {
  const wait = failure?.retryAt ? ` Try again after ${failure.retryAt.slice(11, 19)} UTC.` : "";
  return html`${failure ? html`<p class="note bad" role="alert" id="failure">${failure.text}${wait}</p>` : ""}
    <form class="row" method="post" action="${base}/login">
      <label>
        Token
        <input name="token" type="password" autocomplete="current-password" required autofocus size="44" />
      </label>
      <input type="hidden" name="next" value="${next ?? ""}" />
      <input type="text" name="user" value="token" autocomplete="username" hidden />
      <button class="main">Log in</button>
    </form>
    <p class="soft">
      A token of the setting API_TOKENS, or one that was made with the scope read (and manage, to change things). The
      login lasts 12 hours. <a href="${base}/docs">The API reference</a> needs no login.
    </p>`;
}
