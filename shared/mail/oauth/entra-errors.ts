/**
 * What the numbers of Microsoft Entra's token server mean, and what an administrator does about them. They stand in the
 * words of an answer as AADSTS and digits.
 */
import type { ProblemCode, Retry } from "../../contract/problem.ts";

export type EntraFault = { code: ProblemCode; cause: string; fix: string; retry: Retry };

const token = (cause: string, fix: string): EntraFault => ({ code: "token", cause, fix, retry: "never" });

const SIGN_IN = "Sign in again as the mailbox's user, and save the mailbox with the new refresh token.";
const CONSENT =
  "In Microsoft Entra, open the application's API permissions and grant admin consent for the mailbox's tenant.";
const WRONG_SCOPE = token(
  "The scope is not one of this cloud",
  "Leave out `scope`, or set it to the service's root with /.default, such as https://graph.microsoft.com/.default.",
);
const NO_CONSENT = token("Nobody has consented to the application's permissions", CONSENT);
const UNKNOWN_TENANT = token(
  "The token server does not know this tenant",
  "Give the directory (tenant) id or a domain of it. Check that the cloud is the tenant's own.",
);
const ADDITIONAL = token(
  "Conditional access or a second factor stands before this login",
  "Exclude the service from the rule in Microsoft Entra, or use application permissions.",
);
const TOO_OFTEN: EntraFault = {
  code: "unavailable",
  cause: "The token server gets too many requests for this application",
  fix: "Nothing to do: the service asks less often.",
  retry: "later",
};

const FAULTS: Record<string, EntraFault> = {
  7000215: token(
    "The client secret is wrong",
    "Create a new client secret, and save the mailbox with its value. The secret's id is not the value.",
  ),
  7000222: token("The client secret has expired", "Create a new client secret, and save the mailbox with its value."),
  700016: token(
    "The tenant does not know this application",
    "Check the client id and the tenant. If both are right, grant admin consent in that tenant.",
  ),
  7000229: token("The tenant has no service principal of this application", CONSENT),
  90002: UNKNOWN_TENANT,
  900023: UNKNOWN_TENANT,
  700027: token(
    "The token server does not accept the certificate's signature",
    "Upload the certificate to the application in Microsoft Entra, and give the key that belongs to it.",
  ),
  700024: token(
    "The token server says that the signature is outside of its time",
    "Set this machine's clock, for example by NTP.",
  ),
  1002012: WRONG_SCOPE,
  70011: WRONG_SCOPE,
  500011: token(
    "This cloud has no such service",
    "Check `receive.cloud` and the scope: the mailbox may be in another cloud.",
  ),
  65001: NO_CONSENT,
  90094: NO_CONSENT,
  50173: token("The refresh token was revoked, for example by a new password", SIGN_IN),
  700082: token("The refresh token was not used for 90 days", SIGN_IN),
  70008: token("The refresh token has expired", SIGN_IN),
  50076: ADDITIONAL,
  50079: ADDITIONAL,
  53003: ADDITIONAL,
  530032: ADDITIONAL,
  50196: TOO_OFTEN,
  90015: TOO_OFTEN,
};

/** The fault that an answer's words name. Undefined if they name none that is known. */
export function findEntraFault(words: string): EntraFault | undefined {
  const [, number = ""] = /\bAADSTS(\d{4,8})\b/.exec(words) ?? [];
  return FAULTS[number];
}
