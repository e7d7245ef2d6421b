/** What tests of Graph mailboxes need: mailboxes on the fake server, and what a connection to it is made of. */
import type { MailboxOf } from "../../shared/contract/mailbox.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { processLocks } from "../../shared/concurrency/locks.ts";
import { egress } from "../../shared/egress.ts";
import type { MailDeps } from "../../shared/mail/open.ts";
import { oauthTokens } from "../../shared/mail/oauth/tokens.ts";
import type { GraphServer } from "../servers/graph/server.ts";
import { depsFor, registered } from "./mailbox-rig.ts";

export type GraphWish = Partial<MailboxOf<"graph">["receive"]>;

/** A user's mailbox on the fake server, by the application that is there from the beginning. */
export function graphMailboxOn(server: GraphServer, user: string, wish: GraphWish = {}): MailboxOf<"graph"> {
  const address = server.addressOf(user);
  return registered(`box-${address}`, address, {
    protocol: "graph",
    cloud: "global",
    graphUrl: server.root,
    auth: graphLogin(server, server.clientSecret),
    folders: ["INBOX"],
    since: "now",
    mode: "push",
    poll: { everySeconds: 10 },
    processLock: false,
    afterDelivery: "leave",
    ...wish,
  });
}

export function graphLogin({ tokenRoot, tenant, clientId }: GraphServer, secret: string) {
  const tokenUrl = `${tokenRoot}/${tenant}/oauth2/v2.0/token`;
  return { oauth2: { tokenUrl, clientId, clientSecret: new Secret(secret) } };
}

/** As `depsFor`, with a keeper of tokens. */
export function graphDeps(wish: Partial<MailDeps> = {}): MailDeps {
  const refreshTokens = { read: async () => undefined, replace: async () => undefined };
  const tokens = oauthTokens({ egress: egress("allow"), locks: processLocks(), refreshTokens });
  return depsFor({ tokens, ...wish });
}
