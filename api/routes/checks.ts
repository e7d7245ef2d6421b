/** /api/v1/diagnostics/checks: what is well and what is not, looked at now. And how the service recognises itself. */
import * as v from "valibot";
import { HttpUrl } from "../../shared/contract/endpoint.ts";
import { CheckName, type CheckOptions, CheckReport, type CheckResult } from "../checks/check.ts";
import { Challenge, Identity, IDENTITY_PATH, proveIdentity } from "../checks/identity.ts";
import { type CheckRunner, GENERAL_CHECKS } from "../checks/runner.ts";
import type { ApiDeps } from "../deps.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import { getMailbox } from "./mailboxes.ts";
import { invalidField } from "../applications.ts";

type CheckRoutesDeps = Pick<ApiDeps, "store" | "version" | "probes">;

const tag = "Operation";
const PATH = "/api/v1/diagnostics/checks";

const RunBody = v.strictObject({
  checks: v.optional(
    v.pipe(v.array(CheckName), v.minLength(1), v.maxLength(50), v.description("Only these. By default all.")),
  ),
  mailbox: v.optional(
    v.pipe(v.string(), v.description("The id of a registered mailbox. It is tried step by step too.")),
  ),
  testMail: v.optional(
    v.pipe(
      v.boolean(),
      v.description("Also send a mail from the mailbox to its own address. The endpoint gets it as every other mail."),
    ),
  ),
  address: v.optional(
    v.pipe(HttpUrl, v.description("An address of this service to try, in place of PUBLIC_URL: as a CRM has it.")),
  ),
});
type RunBody = v.InferOutput<typeof RunBody>;

/** `runner` is one for all callers of the node. */
export function checkRoutes(deps: CheckRoutesDeps, runner: CheckRunner): Route[] {
  return [list(deps, runner), run(deps, runner), identity(deps)];
}

function list(deps: CheckRoutesDeps, runner: CheckRunner): Route {
  return route({
    method: "get",
    path: PATH,
    tag,
    scope: "admin",
    summary: "List the checks with their last results",
    description:
      "The results are those of this node since its start. A check that has not run is `not_run`, not `ok`. Nothing of it is a secret.",
    responses: { 200: { description: "The checks", schema: CheckReport } },
    problems: [],
    handle: () => jsonResponse(toReport(deps, runner.list())),
  });
}

function run(deps: CheckRoutesDeps, runner: CheckRunner): Route {
  return route({
    method: "post",
    path: PATH,
    tag,
    scope: "admin",
    audited: false,
    summary: "Check what is well and what is not",
    description:
      "Runs all checks at the same time, or those that `checks` names, each with a deadline of at most 70 seconds (150 with `testMail`). A failed check has a `cause` and a `fix`. The body may be left out.",
    body: RunBody,
    bodyOptional: true,
    responses: { 200: { description: "The results, whether or not all is well", schema: CheckReport } },
    problems: ["not_found"],
    async handle({ body, caller }) {
      const names = namesOf(body);
      const options: CheckOptions = {
        actor: caller.actor,
        ...(body.address !== undefined && { address: body.address }),
      };
      if (body.mailbox !== undefined) options.mailbox = await getMailbox(deps.store, body.mailbox);
      return jsonResponse(toReport(deps, await runner.run(names, options)));
    },
  });
}

function namesOf({ checks, mailbox, testMail = false }: RunBody): CheckName[] {
  const ofMailbox: CheckName[] = mailbox === undefined ? [] : ["mailbox"];
  const names = [...(checks ?? [...GENERAL_CHECKS, ...ofMailbox]), ...(testMail ? (["testMail"] as const) : [])];
  if (mailbox === undefined && names.some((name) => name === "mailbox" || name === "testMail"))
    throw invalidField("mailbox", "is missing: the check needs the id of a registered mailbox");
  return names;
}

function toReport({ probes, version }: CheckRoutesDeps, checks: CheckResult[]): CheckReport {
  const failed = checks.some(({ status }) => status === "failed");
  const ok = failed ? false : checks.some(({ status }) => status === "ok") || null;
  return { ok, node: probes.name, version, checks };
}

function identity({ probes }: CheckRoutesDeps): Route {
  return route({
    method: "get",
    path: IDENTITY_PATH,
    tag,
    scope: "public",
    summary: "Prove which installation this is",
    description:
      "The service calls this by its own address, to see whether it is itself that answers there. Only a node with the same ENCRYPTION_KEYS can give the same `proof` for a challenge.",
    query: v.strictObject({ challenge: Challenge }),
    responses: { 200: { description: "The proof", schema: Identity } },
    problems: [],
    handle: ({ query }) => jsonResponse(proveIdentity(probes, query.challenge)),
  });
}
