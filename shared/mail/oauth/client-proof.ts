/** The proof of identity for a login that a person consented to: it is the application's, as it is stored now. */
import { type FindApplication, proofOf, tokenUrlOfApplication } from "../../contract/application.ts";
import { Problem } from "../../contract/problem.ts";
import type { OAuth2 } from "./settings.ts";

const CONNECT_AGAIN =
  "If the consent has ended, its person connects the mailbox again: POST /api/v1/consents makes a link.";

/** A lasting problem with a person's consent, with the way to a new one. */
export function withConsentFix(error: unknown): unknown {
  if (!(error instanceof Problem) || error.code !== "token" || error.retry !== "never") return error;
  const { code, message, fix, retry, evidence, cause } = error;
  const more = evidence === null ? {} : { evidence };
  return new Problem(code, message, { fix: `${fix} ${CONNECT_AGAIN}`, retry, cause, ...more });
}

/**
 * The settings with the secret or the certificate of the application that they name. Throws `token` (retry never) if
 * there is no such application, or if it is another client now: its secret goes to its own token server only.
 */
export async function withClientProof(
  { findApplication }: { findApplication?: FindApplication },
  oauth2: OAuth2,
): Promise<OAuth2> {
  const { application: id, ...settings } = oauth2;
  if (id === undefined || settings.clientSecret || settings.privateKey) return oauth2;
  const application = await findApplication?.(id);
  if (!application)
    throw new Problem("token", `There is no application ${id}, which the mailbox's login names`, {
      fix: "Register the application again by PUT /api/v1/applications/{id}, or connect the mailbox by another one.",
      retry: "never",
    });
  if (application.clientId !== settings.clientId || tokenUrlOfApplication(application) !== settings.tokenUrl)
    throw new Problem(
      "token",
      `The application ${id} is another client now than the one that the person consented to`,
      {
        fix: CONNECT_AGAIN,
        retry: "never",
      },
    );
  const { clientSecret, certificate, privateKey } = proofOf(application);
  return {
    ...settings,
    ...(clientSecret && { clientSecret }),
    ...(certificate !== undefined && { certificate }),
    ...(privateKey && { privateKey }),
  };
}
