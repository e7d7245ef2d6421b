/** The login of a mailbox that names an application: the application's credentials and servers, as they are stored now. */
import { type Application, type FindApplication, loginOf, versionOf } from "../../../contract/application.ts";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";

export type ApplicationDeps = { findApplication?: FindApplication };

/** `version` is that of the application; null for a mailbox with a login of its own. */
export type OwnLogin = { mailbox: MailboxOf<"graph">; version: string | null };

/**
 * The mailbox with the servers and the credentials of its application in place of the application's id. Throws `token`
 * (retry never) when there is no such application, and `config` when a key is missing for its secrets.
 */
export async function withApplication(
  { findApplication }: ApplicationDeps,
  mailbox: MailboxOf<"graph">,
): Promise<OwnLogin> {
  const { receive } = mailbox;
  if (!("application" in receive.auth)) return { mailbox, version: null };
  const id = receive.auth.application;
  const application = await findApplication?.(id);
  if (!application) throw toUnknownProblem(id);
  if (application.provider !== "microsoft") throw toForeignProblem(application);
  const { cloud, graphUrl, clientId, clientSecret, certificate, privateKey } = application;
  const { oauth2: server } = loginOf(application);
  const oauth2 = {
    ...server,
    clientId,
    ...(clientSecret && { clientSecret }),
    ...(certificate !== undefined && { certificate }),
    ...(privateKey && { privateKey }),
  };
  const servers = { cloud, ...(graphUrl !== undefined && { graphUrl }) };
  const own = { ...receive, ...servers, auth: { oauth2 } };
  return { mailbox: { ...mailbox, receive: own }, version: versionOf(application) };
}

function toForeignProblem({ id, provider }: Application): Problem {
  return new Problem("token", `The application ${id} is one of ${provider}, and the mailbox is one of Microsoft`, {
    fix: "Name an application of Microsoft in receive.auth.",
    retry: "never",
  });
}

function toUnknownProblem(id: string): Problem {
  return new Problem("token", `There is no application ${id}, and the mailbox has no other login`, {
    fix: "Register the application again by PUT /api/v1/applications/{id}, or name another one in receive.auth.",
    retry: "never",
  });
}
