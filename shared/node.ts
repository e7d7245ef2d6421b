/** What every node opens, whatever its kind: facts and log, store and queue, and the way to mail servers and endpoints. */
import { hostname } from "node:os";
import process from "node:process";
import { type Backends, openBackends } from "./backends.ts";
import type { Config } from "./config.ts";
import type { Auth, Mailbox } from "./contract/mailbox.ts";
import type { Secret } from "./contract/secret.ts";
import { type Egress, egress } from "./egress.ts";
import { admission } from "./mail/net/login-rate.ts";
import { exchange } from "./mail/ews/account.ts";
import type { MailConnection } from "./mail/mail.ts";
import { maildrops } from "./mail/pop3/maildrops.ts";
import { oauthTokens } from "./mail/oauth/tokens.ts";
import { type MailDeps, openMailbox } from "./mail/open.ts";
import { SENDING } from "./mail/smtp/connect.ts";
import type { Mailboxes } from "./store/store.ts";
import { type Facts, factStream } from "./telemetry/events.ts";
import { gathered, logTo } from "./telemetry/log.ts";
import { type Backoff, backoffs } from "./time.ts";

export type Node = Omit<Backends, "warnings"> & {
  config: Config;
  name: string;
  facts: Facts;
  backoff: Backoff;
  egress: Egress;
  mail: MailDeps;
  /** A connection to this mailbox, not yet opened. */
  connect: (mailbox: Mailbox) => MailConnection;
};

/** Opens everything; throws a Problem naming the setting when it cannot. What an administrator should know is said as facts. */
export async function openNode(config: Config): Promise<Node> {
  const facts = factStream();
  const { emit } = facts;
  facts.subscribe(logTo(gathered(process.stdout), config));
  const backoff = backoffs(config.BACKOFF_SCALE);
  const { warnings, ...backends } = await openBackends({ config, emit, backoff });
  for (const about of warnings) emit({ kind: "service.warned", about });
  const guard = egress(config.EGRESS_PRIVATE);
  const pace = admission(config.CONNECTIONS_PER_HOST_PER_SECOND);
  const mail: MailDeps = {
    egress: guard,
    tokens: oauthTokens({ egress: guard, onRotated: rotatedInto(backends.store.mailboxes) }),
    timeouts: { command: config.COMMAND_TIMEOUT_SECONDS * 1000 },
    probeMs: config.PROBE_SECONDS * 1000,
    folderPollMs: config.FOLDER_POLL_SECONDS * 1000,
    gate: pace.enter,
    went: pace.went,
    emit,
    maildrops: maildrops(),
    exchange: exchange(),
  };
  const connect = (mailbox: Mailbox) => openMailbox[mailbox.receive.protocol](mail, mailbox);
  const name = config.NODE_NAME || hostname();
  return { ...backends, config, name, facts, backoff, egress: guard, mail, connect };
}

/** Keeps a refresh token that the provider exchanged for a new one; the old one may be void from now on. */
function rotatedInto(mailboxes: Mailboxes) {
  return async (owner: string, refreshToken: Secret): Promise<void> => {
    const sends = owner.endsWith(SENDING);
    const found = await mailboxes.get(sends ? owner.slice(0, -SENDING.length) : owner);
    if (!found) return;
    const { mailbox } = found;
    const renewed = (auth: Auth) => ("oauth2" in auth ? { ...auth, oauth2: { ...auth.oauth2, refreshToken } } : auth);
    if (!sends)
      await mailboxes.amend({ ...mailbox, receive: { ...mailbox.receive, auth: renewed(mailbox.receive.auth) } });
    else if (mailbox.send?.auth)
      await mailboxes.amend({ ...mailbox, send: { ...mailbox.send, auth: renewed(mailbox.send.auth) } });
  };
}
