/** What both kinds of node open: facts and log, store and queue, and the way to mail servers and endpoints. */
import { hostname } from "node:os";
import process from "node:process";
import { type Backends, backendServers, openBackends } from "./backends.ts";
import type { Config } from "./config.ts";
import type { FindApplication } from "./contract/application.ts";
import type { Auth, Mailbox } from "./contract/mailbox.ts";
import type { Secret } from "./contract/secret.ts";
import { type Egress, egress } from "./egress.ts";
import { type LoginGate, loginGate } from "./mail/net/login-gate.ts";
import { graphService } from "./mail/graph/client/service.ts";
import { type GraphPush, graphPush } from "./mail/graph/notifications/push.ts";
import { createIntake } from "./mail/net/intake.ts";
import { loginRateLimiter } from "./mail/net/login-rate.ts";
import { createSuspects } from "./mail/imap/suspects.ts";
import { ewsAccounts } from "./mail/ews/account.ts";
import { notificationPool } from "./mail/ews/notifications/pool.ts";
import type { MailConnection } from "./mail/mail.ts";
import { maildropPool } from "./mail/pop3/maildrops.ts";
import { getOAuth2 } from "./mail/oauth/settings.ts";
import { oauthTokens, type RefreshTokens } from "./mail/oauth/tokens.ts";
import { type MailDeps, openMailbox } from "./mail/open.ts";
import { isSameLoginPlace } from "./places.ts";
import { SEND_TOKEN_SUFFIX } from "./mail/smtp/connect.ts";
import type { SendingDeps } from "./mail/sending.ts";
import { createRecorder } from "./record/recorder.ts";
import { type ServeMailbox, serveByDomain, servedMailboxes } from "./served-mailboxes.ts";
import type { Mailboxes, Store } from "./store/store.ts";
import { type Facts, factStream } from "./telemetry/events.ts";
import { logTo } from "./telemetry/log.ts";
import { batchWrites, writeAtExit } from "./telemetry/log-stream.ts";
import { type Backoff, backoffs } from "./time.ts";

export type Node = Omit<Backends, "warnings"> & {
  config: Config;
  name: string;
  /** Warnings about the settings, as they were reported at the start. */
  settingWarnings: readonly string[];
  facts: Facts;
  backoff: Backoff;
  egress: Egress;
  /** The ports that this process listens on. Whoever opens one adds it: no client may reach it. */
  ownPorts: Set<number>;
  logins: LoginGate;
  graphPush: GraphPush;
  mail: MailDeps & SendingDeps;
  /** The store with its mailboxes as they are served. */
  served: Store;
  serve: ServeMailbox;
  /** Creates a connection to this mailbox. It is not open yet. */
  connect: (mailbox: Mailbox) => MailConnection;
};

/**
 * Opens everything. Throws a Problem that names the setting when it cannot. Reports warnings for the administrator as
 * facts, also those about the settings (`settingWarnings`).
 */
export async function openNode(config: Config, settingWarnings: readonly string[]): Promise<Node> {
  const facts = factStream();
  const { emit } = facts;
  const lines = batchWrites(process.stdout);
  const removeExitListener = writeAtExit(lines, process.stdout.fd);
  facts.subscribe(logTo(lines, config));
  const backoff = backoffs(config.BACKOFF_SCALE);
  const name = config.NODE_NAME || hostname();
  const { warnings, ...backends } = await openBackends({ config, emit, backoff, name }).catch((error: unknown) => {
    void removeExitListener();
    throw error;
  });
  for (const about of [...settingWarnings, ...warnings]) emit({ kind: "service.warned", about });
  const ownPorts = new Set(config.PORT === 0 ? [] : [config.PORT]);
  const egressGuard = egress(config.EGRESS_PRIVATE, {
    ports: config.EGRESS_PORTS,
    nat64: config.NAT64_PREFIXES,
    own: { backends: backendServers(config), host: config.HOST, ports: ownPorts },
  });
  const { applications, connectionSlots, locks, mailboxes, refusedLogins } = backends.store;
  const logins = loginGate({ locks, refusedLogins, backoff });
  const findApplication: FindApplication = (id) => applications.get(id);
  const loginLimiter = loginRateLimiter(config.CONNECTIONS_PER_HOST_PER_SECOND);
  const push = graphPush({
    publicUrls: config.PUBLIC_URL,
    basePath: config.BASE_PATH,
    marks: backends.sealing.marks,
    scale: config.BACKOFF_SCALE,
  });
  const recorder = createRecorder(backends.store, name, emit);
  const mail: MailDeps & SendingDeps = {
    egress: egressGuard,
    tokens: oauthTokens({ egress: egressGuard, locks, refreshTokens: storedRefreshTokens(mailboxes), findApplication }),
    intake: createIntake(),
    timeouts: { command: config.COMMAND_TIMEOUT_SECONDS * 1000 },
    ehloName: config.EHLO_NAME,
    probeMs: config.PROBE_SECONDS * 1000,
    folderPollMs: config.FOLDER_POLL_SECONDS * 1000,
    suspects: createSuspects(backoff.task),
    logins,
    waitForLoginRate: loginLimiter.wait,
    reportLogin: loginLimiter.report,
    emit,
    maildrops: maildropPool(),
    exchange: ewsAccounts(),
    graph: graphService(connectionSlots),
    findApplication,
    notifications: notificationPool(),
    graphPush: push,
    openTap: recorder.openTap,
  };
  const serve = serveByDomain(applications);
  const served = { ...backends.store, mailboxes: servedMailboxes(mailboxes, serve) };
  const connect = (mailbox: Mailbox) => openMailbox[mailbox.receive.protocol](mail, mailbox);
  const close = async () => {
    await recorder.close();
    await backends.close();
    void removeExitListener();
  };
  const own = {
    config,
    name,
    settingWarnings,
    facts,
    backoff,
    egress: egressGuard,
    ownPorts,
    logins,
    graphPush: push,
    mail,
    served,
    serve,
  };
  return { ...backends, ...own, connect, close };
}

/** The refresh tokens in the stored mailboxes, each in the credentials for receiving or for sending. */
export function storedRefreshTokens(mailboxes: Mailboxes): RefreshTokens {
  return {
    async read(owner, held) {
      const stored = (await mailboxes.get(idOf(owner)))?.mailbox;
      const part = isForSending(owner) ? "send" : "receive";
      const auth = stored?.[part]?.auth;
      if (!stored || !auth || !("oauth2" in auth) || !isSameLoginPlace(stored, held, part)) return undefined;
      return getOAuth2(stored, auth);
    },
    async replace(owner, used, next) {
      await mailboxes.amend({ id: idOf(owner) }, (stored) => {
        const { receive, send } = stored;
        const rotation = { used, next };
        if (isForSending(owner))
          return send?.auth ? { ...stored, send: { ...send, auth: rotateIn(send.auth, rotation) } } : stored;
        // Both branches are the same, but each has a login of its own kind.
        if (receive.protocol === "graph")
          return { ...stored, receive: { ...receive, auth: rotateIn(receive.auth, rotation) } };
        return { ...stored, receive: { ...receive, auth: rotateIn(receive.auth, rotation) } };
      });
    },
  };
}

/** The login with the new refresh token, if it has the used one. */
function rotateIn<A extends Auth>(auth: A, { used, next }: { used: Secret; next: Secret }): A {
  if (!("oauth2" in auth) || auth.oauth2.refreshToken?.reveal() !== used.reveal()) return auth;
  return { ...auth, oauth2: { ...auth.oauth2, refreshToken: next } };
}

function idOf(owner: string): string {
  return isForSending(owner) ? owner.slice(0, -SEND_TOKEN_SUFFIX.length) : owner;
}

function isForSending(owner: string): boolean {
  return owner.endsWith(SEND_TOKEN_SUFFIX);
}
