/** The errors of the login server, by their AADSTS number, each with its words and its OAuth code. */
import { randomUUID } from "node:crypto";
import type { Answer } from "../answers.ts";

type Words = { error: string; text: string; status?: number; suberror?: string };

const APPLICATION = "00000000-0000-0000-0000-000000000000";

/** By number; a text may be completed by the request. */
export const AADSTS: Record<number, Words> = {
  7000215: {
    error: "invalid_client",
    status: 401,
    text: `Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '${APPLICATION}'.`,
  },
  7000222: {
    error: "invalid_client",
    status: 401,
    text: `The provided client secret keys for app '${APPLICATION}' are expired. Visit the Azure portal to create new keys for your app.`,
  },
  7000216: {
    error: "invalid_client",
    status: 401,
    text: "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
  },
  700016: {
    error: "unauthorized_client",
    text: "Application was not found in the directory 'Example'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
  },
  7000229: {
    error: "unauthorized_client",
    text: "The client application is missing service principal in the tenant. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
  },
  700027: {
    error: "invalid_client",
    status: 401,
    text: "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found.]",
  },
  700024: {
    error: "invalid_client",
    status: 401,
    text: "Client assertion is not within its valid time range. Ensure that the expiration time of the assertion is not before the current time.",
  },
  700023: {
    error: "invalid_client",
    status: 401,
    text: "Client assertion audience claim does not match Realm issuer.",
  },
  700021: {
    error: "invalid_client",
    status: 401,
    text: "Client assertion application identifier doesn't match 'client_id' parameter.",
  },
  50027: { error: "invalid_client", status: 401, text: "JWT token is invalid or malformed." },
  50059: {
    error: "invalid_request",
    text: "No tenant-identifying information found in either the request or implied by any provided credentials.",
  },
  50011: { error: "invalid_request", text: "The redirect URI specified in the request does not match." },
  90002: {
    error: "invalid_request",
    text: "Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.",
  },
  900023: {
    error: "invalid_request",
    text: "Specified tenant identifier is neither a valid DNS name, nor a valid external domain.",
  },
  900144: { error: "invalid_request", text: "The request body must contain the following parameter." },
  70003: { error: "unsupported_grant_type", text: "The app requested an unsupported grant type." },
  1002012: {
    error: "invalid_scope",
    text: "The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
  },
  70011: { error: "invalid_scope", text: "The provided request must include a 'scope' input parameter." },
  28000: {
    error: "invalid_scope",
    text: "Provided value for the input parameter scope is not valid because it contains more than one resource.",
  },
  500011: {
    error: "invalid_resource",
    text: "The resource principal was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.",
  },
  65001: {
    error: "invalid_grant",
    text: "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.",
    suberror: "consent_required",
  },
  90094: { error: "invalid_grant", text: "An administrator of the tenant must give consent." },
  50173: {
    error: "invalid_grant",
    text: "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
    suberror: "bad_token",
  },
  700082: { error: "invalid_grant", text: "The refresh token has expired due to inactivity." },
  70008: {
    error: "invalid_grant",
    text: "The provided authorization code or refresh token has expired due to inactivity.",
  },
  9002313: { error: "invalid_grant", text: "Invalid request. Request is malformed or invalid." },
  54005: { error: "invalid_grant", text: "OAuth2 Authorization code was already redeemed." },
  501481: { error: "invalid_grant", text: "The Code_Verifier does not match the code_challenge supplied." },
  50076: {
    error: "interaction_required",
    text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.",
    suberror: "basic_action",
  },
  50079: {
    error: "interaction_required",
    text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication.",
    suberror: "basic_action",
  },
  53003: {
    error: "interaction_required",
    text: "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
    suberror: "message_only",
  },
  530003: { error: "interaction_required", text: "Your device is required to be managed to access this resource." },
  50196: {
    error: "invalid_grant",
    text: "The server terminated an operation because it encountered a client request loop.",
  },
  90015: { error: "invalid_request", text: "Requested query string is too long." },
};

/** The answer with this number. */
export function tokenError(number: number, detail = ""): Answer {
  const words = AADSTS[number];
  if (!words) throw new Error(`There is no AADSTS${number} here`);
  const { error, text, status = 400, suberror } = words;
  const [trace, correlation] = [randomUUID(), randomUUID()];
  const timestamp = new Date().toISOString().replace("T", " ").replace(/\..*/, "Z");
  const end = `Trace ID: ${trace} Correlation ID: ${correlation} Timestamp: ${timestamp}`;
  const json = {
    error,
    error_description: `AADSTS${number}: ${text}${detail && ` ${detail}`} ${end}`,
    error_codes: [number],
    timestamp,
    trace_id: trace,
    correlation_id: correlation,
    error_uri: `https://login.microsoftonline.com/error?code=${number}`,
    ...(suberror && { suberror }),
  };
  return { status, json };
}
