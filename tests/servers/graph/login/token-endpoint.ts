/** The token endpoint of the fake login server: client credentials, refresh tokens and authorization codes. */
import { createHash } from "node:crypto";
import type { Answer } from "../answers.ts";
import {
  type Application,
  type Grant,
  issueAccessToken,
  issueIdToken,
  issueRefreshToken,
  type Login,
} from "./applications.ts";
import { type AssertionFault, faultOf } from "./assertion.ts";
import { tokenError } from "./token-errors.ts";

type Form = URLSearchParams;

const ANY_TENANT = ["common", "organizations", "consumers"];

/** Answers one POST; `origin` is the login server's own. */
export function answerTokenRequest(login: Login, origin: string, tenant: string, body: string): Answer {
  const form = new URLSearchParams(body);
  const wrongTenant = tenantFault(login, tenant, form);
  if (wrongTenant !== undefined) return tokenError(wrongTenant);
  const clientId = form.get("client_id");
  if (!clientId) return tokenError(900144, "'client_id'");
  const application = login.applications.get(clientId);
  if (!application) return tokenError(700016, `Application with identifier '${clientId}'.`);
  const grantType = form.get("grant_type");
  const flow = { client_credentials: byCredentials, refresh_token: byRefreshToken, authorization_code: byCode }[
    grantType ?? ""
  ];
  if (!flow) return grantType ? tokenError(70003, grantType) : tokenError(900144, "'grant_type'");
  const isPublic = grantType !== "client_credentials" && !form.has("client_secret") && !form.has("client_assertion");
  const fault =
    isPublic && application.secrets.length === 0 ? undefined : clientFault(application, origin, tenant, form);
  return fault === undefined ? flow(login, application, form, origin) : tokenError(fault);
}

function tenantFault(login: Login, tenant: string, form: Form): number | undefined {
  const wanted = tenant.toLowerCase();
  if (wanted === login.tenant || wanted === login.domain.toLowerCase()) return undefined;
  if (ANY_TENANT.includes(wanted)) return form.get("grant_type") === "client_credentials" ? 50059 : undefined;
  return /^[\da-f]{8}-([\da-f]{4}-){3}[\da-f]{12}$|^[\w-]+(\.[\w-]+)+$/.test(wanted) ? 90002 : 900023;
}

const ASSERTION_FAULTS: Record<AssertionFault, number> = {
  malformed: 50027,
  "unknown certificate": 700027,
  signature: 700027,
  audience: 700023,
  client: 700021,
  time: 700024,
};

function clientFault(application: Application, origin: string, tenant: string, form: Form): number | undefined {
  const assertion = form.get("client_assertion");
  if (assertion !== null) {
    if (form.get("client_assertion_type") !== "urn:ietf:params:oauth:client-assertion-type:jwt-bearer") return 900144;
    const base = `${origin}/${tenant}`;
    const audiences = [`${base}/oauth2/v2.0/token`, `${base}/v2.0`];
    const { clientId, certificates } = application;
    const fault = faultOf(assertion, { clientId, audiences, certificates });
    return fault && ASSERTION_FAULTS[fault];
  }
  const secret = form.get("client_secret");
  if (secret === null) return 7000216;
  return application.secrets.includes(secret) ? undefined : 7000215;
}

function byCredentials(login: Login, { clientId, permissions }: Application, form: Form): Answer {
  const scope = form.get("scope");
  if (!scope) return tokenError(900144, "'scope'");
  if (!scope.endsWith("/.default") || scope.includes(" ")) return tokenError(1002012, scope);
  const audience = scope.slice(0, -"/.default".length);
  if (!login.resources.includes(audience)) return tokenError(500011, audience);
  const token = issueAccessToken(login, { clientId, user: undefined, permissions, audience });
  return given({ expires_in: login.tokenSeconds, ext_expires_in: login.tokenSeconds, access_token: token });
}

function byRefreshToken(login: Login, application: Application, form: Form): Answer {
  const grant = login.refreshTokens.get(form.get("refresh_token") ?? "");
  if (!grant || grant.clientId !== application.clientId) return tokenError(9002313);
  if (grant.revoked !== undefined) return tokenError(grant.revoked);
  return delegated(login, grant, form.get("scope") ?? grant.scopes.join(" "));
}

function byCode(login: Login, application: Application, form: Form, origin: string): Answer {
  const text = form.get("code") ?? "";
  const code = login.codes.get(text);
  login.codes.delete(text);
  if (!code || code.grant.clientId !== application.clientId) return tokenError(54005);
  if (code.redirectUri !== form.get("redirect_uri")) return tokenError(50011);
  const verifier = form.get("code_verifier") ?? "";
  if (code.challenge !== undefined && createHash("sha256").update(verifier).digest("base64url") !== code.challenge)
    return tokenError(501481);
  const answer = delegated(login, code.grant, form.get("scope") ?? code.scopes.join(" "));
  if (answer.status !== 200 || !code.scopes.includes("openid")) return answer;
  return { ...answer, json: { ...answer.json, id_token: issueIdToken(login, origin, code) } };
}

const SIGN_IN = ["offline_access", "openid", "profile", "email"];

/** A token for the one resource that the scopes name; a scope without a resource is of Graph. */
function delegated(login: Login, grant: Grant, scope: string): Answer {
  const [graph = ""] = login.resources;
  const wanted = scope.split(" ").filter((one) => one !== "" && !SIGN_IN.includes(one));
  const parts = wanted.map((one) => {
    const [, audience = graph, name = one] = /^(.*:\/\/.*)\/([^/]+)$/.exec(one) ?? [];
    return { audience, name };
  });
  const audiences = [...new Set(parts.map(({ audience }) => audience))];
  if (audiences.length > 1) return tokenError(28000);
  const audience = audiences[0] ?? graph;
  if (!login.resources.includes(audience)) return tokenError(500011, audience);
  const allowed = grant.scopes.map((one) => one.replace(/^.*\//, ""));
  const names = parts.some(({ name }) => name === ".default") ? allowed : parts.map(({ name }) => name);
  if (names.some((one) => !allowed.includes(one))) return tokenError(65001);
  const permissions = names.filter((one) => !SIGN_IN.includes(one));
  const token = issueAccessToken(login, { clientId: grant.clientId, user: grant.user, permissions, audience });
  return given({
    scope: permissions.map((one) => `${audience}/${one}`).join(" "),
    expires_in: login.tokenSeconds,
    ext_expires_in: login.tokenSeconds,
    access_token: token,
    refresh_token: issueRefreshToken(login, grant),
  });
}

function given(fields: object): Answer {
  return { status: 200, json: { token_type: "Bearer", ...fields } };
}
