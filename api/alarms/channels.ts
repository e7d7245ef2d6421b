/** Where alarms go: a webhook, signed as Standard Webhooks says, and a mail through one of the mailboxes. */
import * as v from "valibot";
import type { Config } from "../../shared/config.ts";
import { OutgoingMessage } from "../../shared/contract/outgoing.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { ApiDeps } from "../deps.ts";
import { acceptMessage } from "../outgoing.ts";
import type { Channel, Notice } from "./book.ts";

export type ChannelDeps = Pick<ApiDeps, "config" | "store" | "tasks" | "facts" | "postAlarm">;

/** The channels that the settings name. */
export function channelsOf({ ALARM_URL, ALARM_MAILBOX }: Config): Channel[] {
  return [...(ALARM_URL ? (["webhook"] as const) : []), ...(ALARM_MAILBOX === "" ? [] : (["mail"] as const))];
}

/** Sends a notice. Null when the channel has taken it, else why not. Rejects only with the signal's reason. */
export async function sendNotice(
  deps: ChannelDeps,
  channel: Channel,
  notice: Notice,
  signal: AbortSignal,
): Promise<string | null> {
  return channel === "webhook" ? postNotice(deps, notice, signal) : mailNotice(deps, notice);
}

async function postNotice({ config, postAlarm }: ChannelDeps, notice: Notice, signal: AbortSignal) {
  const { id, type, at, alarm } = notice;
  const body = JSON.stringify({ type, timestamp: at, data: { id, ...alarm } });
  const url = config.ALARM_URL?.reveal() ?? "";
  const { ok, reason } = await postAlarm({ url, secret: config.ALARM_SECRET, id, body }, signal);
  return ok ? null : reason;
}

/** The id is the key of the mail, so a second try after a crash sends nothing twice. */
async function mailNotice(deps: ChannelDeps, notice: Notice): Promise<string | null> {
  const { ALARM_MAILBOX, ALARM_TO } = deps.config;
  try {
    const found = await deps.store.mailboxes.get(ALARM_MAILBOX);
    if (!found) return `There is no mailbox ${ALARM_MAILBOX}, which ALARM_MAILBOX names`;
    const message = v.parse(OutgoingMessage, { to: ALARM_TO, ...lettersOf(notice) });
    await acceptMessage(deps, found.mailbox, message, { key: notice.id, actor: { id: "alarms", name: "the alarms" } });
    return null;
  } catch (error) {
    return asProblem(error).message;
  }
}

const WORDS = { "alarm.began": "Trouble", "alarm.ended": "Over", "alarm.test": "Test" } as const;

function lettersOf({ type, at, alarm: { code, place, count, cause, fix, begunAt } }: Notice) {
  const subject = `[Email Listener] ${WORDS[type]}: ${code} at ${place}`.replaceAll(/\p{Cc}+/gu, " ").slice(0, 200);
  const lines = [
    `${WORDS[type]} since ${begunAt ?? at}: ${code} at ${place}.`,
    `How often: ${count}`,
    `Cause: ${cause}`,
    type === "alarm.ended" ? `It was over at ${at}.` : `What to do: ${fix}`,
  ];
  return { subject, text: `${lines.join("\n")}\n` };
}
