/** Opens a mailbox by its protocol. A protocol without an entry here does not compile. */
import type { Mailbox, Protocol } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";
import { type Given, hideGiven } from "../evidence/evidence.ts";
import { narrowMailbox } from "./defaults.ts";
import { ewsConnection, type EwsConnectionDeps } from "./ews/ews.ts";
import { preflight as ewsPreflight } from "./ews/preflight.ts";
import { graphConnection, type GraphConnectionDeps } from "./graph/graph.ts";
import { preflight as graphPreflight } from "./graph/preflight.ts";
import { type ImapDeps } from "./imap/client.ts";
import { imapConnection } from "./imap/imap.ts";
import { preflight as imapPreflight } from "./imap/preflight.ts";
import type { MailConnection, PreflightReport, PreflightStep } from "./mail.ts";
import { PREFLIGHT_MS } from "./preflight-steps.ts";
import { pop3Connection, type Pop3ConnectionDeps } from "./pop3/pop3.ts";
import { preflight as pop3Preflight } from "./pop3/preflight.ts";
import { runSendStep } from "./sending.ts";

export type MailDeps = ImapDeps & Pop3ConnectionDeps & EwsConnectionDeps & GraphConnectionDeps;

type OpenMailbox = (deps: MailDeps, mailbox: Mailbox) => MailConnection;
type Preflight = (deps: MailDeps, mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightReport>;

/** How each protocol is received. Nothing connects before the first call on the returned object. */
export const openMailbox: Record<Protocol, OpenMailbox> = {
  imap: (deps, mailbox) => imapConnection(deps, narrowMailbox(mailbox, "imap")),
  pop3: (deps, mailbox) => pop3Connection(deps, narrowMailbox(mailbox, "pop3")),
  ews: (deps, mailbox) => ewsConnection(deps, narrowMailbox(mailbox, "ews")),
  graph: (deps, mailbox) => graphConnection(deps, narrowMailbox(mailbox, "graph")),
};

/** The preflight of each protocol. */
export const preflights: Record<Protocol, Preflight> = {
  imap: (deps, mailbox, signal) => imapPreflight(deps, narrowMailbox(mailbox, "imap"), signal),
  pop3: (deps, mailbox, signal) => pop3Preflight(deps, narrowMailbox(mailbox, "pop3"), signal),
  ews: (deps, mailbox, signal) => ewsPreflight(deps, narrowMailbox(mailbox, "ews"), signal),
  graph: (deps, mailbox, signal) => graphPreflight(deps, narrowMailbox(mailbox, "graph"), signal),
};

/** How the endpoint of a mailbox is tried. */
export type ProbeEndpoint = (mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightStep>;

/**
 * Tries all of a mailbox's settings at the same time: receiving, the login for sending if it sends, and its endpoint. Ends within
 * PREFLIGHT_MS, whatever hangs. Throws only when the signal aborts.
 */
export async function runPreflight(
  deps: MailDeps & { probeEndpoint?: ProbeEndpoint },
  mailbox: Mailbox,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(PREFLIGHT_MS)]);
  const personal = deps.logins ? { ...deps, logins: deps.logins.forPerson() } : deps;
  const receiving = preflights[mailbox.receive.protocol](personal, mailbox, signal);
  const [{ ok, steps }, sending, delivering] = await Promise.all([
    receiving,
    mailbox.send ? trySending(personal, mailbox, { receiving, until }, signal) : undefined,
    deps.probeEndpoint?.(mailbox, signal),
  ]);
  // The step of the endpoint comes first, because the steps of receiving end at the one that failed.
  const all = [delivering, ...steps, sending].filter((step) => step !== undefined);
  const given = { secrets: listSecrets(mailbox) };
  return { ok: ok && all.every((one) => one.ok), steps: all.map((step) => withoutSecrets(step, given)) };
}

function listSecrets(value: unknown): string[] {
  if (value instanceof Secret) return [value.reveal()];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(listSecrets) : [];
}

/** What servers offer and name is part of a step, and they may repeat in it what they were sent. */
function withoutSecrets({ cause, detail, ...step }: PreflightStep, given: Given): PreflightStep {
  return {
    ...step,
    ...(cause !== undefined && { cause: hideGiven(cause, given) }),
    ...(detail !== undefined && { detail: hideGiven(detail, given) }),
  };
}

async function trySending(
  deps: MailDeps,
  mailbox: Mailbox,
  { receiving, until }: { receiving: Promise<PreflightReport>; until: AbortSignal },
  signal: AbortSignal,
): Promise<PreflightStep> {
  if (sharesLogin(mailbox) && !(await receiving).ok) return SKIPPED_SEND_STEP;
  try {
    return await runSendStep(deps, mailbox, until);
  } catch (error) {
    signal.throwIfAborted();
    if (!until.aborted) throw error;
    const { message: cause, fix } = new Problem("timeout", "The server for sending did not answer in time");
    return { name: "send", ok: false, ms: PREFLIGHT_MS, cause, fix };
  }
}

const SKIPPED_SEND_STEP: PreflightStep = {
  name: "send",
  ok: false,
  ms: 0,
  cause: "Not tried: it uses the same server and login as receiving, which failed",
  fix: "Fix the failed step first.",
};

/** Active Directory locks accounts after a few wrong passwords, so a refused password is not shown again. */
function sharesLogin({ receive, send }: Mailbox): boolean {
  const isExchange = receive.protocol === "ews" || receive.protocol === "graph";
  return isExchange && send?.protocol !== "smtp" && !send?.auth;
}
