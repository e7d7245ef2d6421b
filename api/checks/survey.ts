/** One look at all mailboxes for the checks: who listens, where they deliver, and which of their certificates expire. */
import type { Config } from "../../shared/config.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { exchangeOnlineNotice } from "../../shared/mail/ews/soap/exchange-online.ts";
import { findUnreadableSecret } from "../../shared/store/sealed-mailboxes.ts";
import type { MailboxWithState, Store } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";
import { expiryOf } from "../expiry.ts";

/**
 * How a mailbox stands. `unverified`: it says that it listens, but its mail server has not answered for so long that
 * this is no fact any more.
 */
export type Standing = "listening" | "unverified" | "starting" | "throttled" | "notListening" | "paused";

export type UnwellMailbox = { id: string; address: string; standing: Standing; cause: string; fix: string };
/** `crm`: mailboxes of a CRM of the Creatio family deliver there. */
export type Origin = { origin: string; mailboxes: number; crm: boolean };
export type Certificate = { mailbox: string; use: string; until: Date };

/** `seen` is less than `total` if there are more mailboxes than one look reads. `unwell` has the first ones. */
export type Survey = {
  seen: number;
  total: number;
  standings: Record<Standing, number>;
  unwell: UnwellMailbox[];
  origins: Origin[];
  certificates: Certificate[];
  /** Mailboxes in Exchange Online that are received by EWS. */
  onlineEws: number;
};

const PAGE = 500;
const MAX_MAILBOXES = 100_000;
const MAX_UNWELL = 20;

/** Reads the mailboxes page by page. Rejects with the signal's reason. */
export async function surveyMailboxes(
  { store, config }: { store: Pick<Store, "mailboxes">; config: VerifyTimes },
  signal: AbortSignal,
): Promise<Survey> {
  const survey = emptySurvey();
  const origins = new Map<string, Origin>();
  let cursor: string | undefined;
  do {
    signal.throwIfAborted();
    const page = await store.mailboxes.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    survey.total = page.total;
    for (const item of page.items) addMailbox(survey, origins, item, config);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined && survey.seen < MAX_MAILBOXES);
  return { ...survey, origins: [...origins.values()] };
}

function emptySurvey(): Survey {
  const standings = { listening: 0, unverified: 0, starting: 0, throttled: 0, notListening: 0, paused: 0 };
  return { seen: 0, total: 0, standings, unwell: [], origins: [], certificates: [], onlineEws: 0 };
}

function addMailbox(survey: Survey, origins: Map<string, Origin>, item: MailboxWithState, config: VerifyTimes): void {
  const { mailbox } = item;
  survey.seen += 1;
  const standing = standingOf(item, config);
  survey.standings[standing] += 1;
  if ((standing === "notListening" || standing === "unverified") && survey.unwell.length < MAX_UNWELL)
    survey.unwell.push(toUnwell(item, standing));
  const origin = URL.parse(mailbox.deliver.url)?.origin ?? mailbox.deliver.url;
  const known = origins.get(origin) ?? { origin, mailboxes: 0, crm: false };
  const crm = known.crm || mailbox.deliver.dialect === "creatio";
  origins.set(origin, { origin, mailboxes: known.mailboxes + 1, crm });
  survey.certificates.push(...certificatesOf(mailbox));
  if (isOnlineEws(mailbox)) survey.onlineEws += 1;
}

type VerifyTimes = Pick<Config, "PROBE_SECONDS" | "FOLDER_POLL_SECONDS">;

/** A state is written up to a minute late, and a connection needs some time. */
const LATE_SECONDS = 120;

/** How a mailbox stands now, by its state and by how long its mail server has been silent. */
export function standingOf({ mailbox, state }: MailboxWithState, config: VerifyTimes): Standing {
  if (mailbox.paused) return "paused";
  if (findUnreadableSecret(mailbox)) return "notListening";
  if (state.status === "throttled") return "throttled";
  const isStarting = state.status === "initializing" || state.status === "syncing";
  if (isStarting && state.problem === null && state.failedLogins === 0) return "starting";
  if (state.status !== "listening" && state.status !== "polling") return "notListening";
  const seconds = silenceAllowed(mailbox, config);
  const silent = (clock.now() - Date.parse(state.lastVerifiedAt ?? state.since)) / 1000;
  return seconds !== null && silent > seconds ? "unverified" : "listening";
}

/** Twice the time in which the mail server must answer anyway. Null for a schedule by cron, which may be any. */
function silenceAllowed({ receive }: Mailbox, { PROBE_SECONDS, FOLDER_POLL_SECONDS }: VerifyTimes): number | null {
  const usual = Math.max(PROBE_SECONDS, 4 * FOLDER_POLL_SECONDS);
  const isPolled = receive.mode === "poll" || receive.protocol === "graph";
  if (!isPolled) return 2 * usual + LATE_SECONDS;
  return "everySeconds" in receive.poll ? 2 * Math.max(receive.poll.everySeconds, usual) + LATE_SECONDS : null;
}

function toUnwell({ mailbox, state }: MailboxWithState, standing: Standing): UnwellMailbox {
  const { id, address } = mailbox;
  const problem = findUnreadableSecret(mailbox)?.view() ?? state.problem;
  const silent = `Its mail server has not answered since ${state.lastVerifiedAt ?? state.since}`;
  const refused = `Its login was refused ${state.failedLogins} times; it is tried again just now`;
  const other = state.failedLogins > 0 ? refused : `Its state is ${state.status}`;
  const cause = standing === "unverified" ? silent : (problem?.cause ?? other);
  const restart = "Look whether the node that listens to it is alive. Pause the mailbox and resume it.";
  return { id, address, standing, cause, fix: problem?.fix ?? restart };
}

function certificatesOf({ id, receive, send }: Mailbox): Certificate[] {
  const logins = [receive.auth, send?.auth].map((auth) => auth && "oauth2" in auth && auth.oauth2.certificate);
  const named = [
    ...logins.map((pem) => ["the certificate of its OAuth2 login", pem] as const),
    ["the certificate in receive.ca", receive.ca] as const,
    ["the certificate in send.ca", send?.ca] as const,
  ];
  return named.flatMap(([use, pem]) => {
    const until = pem ? expiryOf(pem) : null;
    return until ? [{ mailbox: id, use, until }] : [];
  });
}

function isOnlineEws({ receive, address }: Mailbox): boolean {
  if (receive.protocol !== "ews") return false;
  const url = receive.url ?? `https://${receive.host ?? address.split("@").at(-1) ?? ""}/`;
  return URL.canParse(url) && exchangeOnlineNotice(url) !== undefined;
}
