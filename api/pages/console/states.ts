/** The one vocabulary of states: each has a word, a shape and a colour. */
import { html, raw } from "hono/html";
import type { DeliveryState } from "../../../shared/contract/delivery.ts";
import type { MailboxStatus } from "../../../shared/contract/mailbox.ts";
import type { SendState } from "../../../shared/contract/sending.ts";
import type { Html } from "../html.ts";

/** How a mailbox is shown. `unverified`: its server has not answered for so long that nobody knows whether it is listened to. */
export type ShownState = MailboxStatus | "unverified";

const SHAPES = {
  circle: '<circle cx="5" cy="5" r="4.5" stroke="none"/>',
  ring: '<circle cx="5" cy="5" r="3.7" fill="none" stroke-width="1.6"/>',
  triangle: '<path d="M5 .8 9.7 9.4H.3z" stroke="none"/>',
  square: '<rect x=".8" y=".8" width="8.4" height="8.4" stroke="none"/>',
  bars: '<path d="M1.5 1h2.4v8H1.5zM6.1 1h2.4v8H6.1z" stroke="none"/>',
  dash: '<path d="M.5 4h9v2h-9z" stroke="none"/>',
} as const;

export type Tone = "good" | "warn" | "bad" | "off";
type Mark = { word: string; shape: keyof typeof SHAPES; tone: Tone };

const MAILBOX_MARKS: Record<ShownState, Mark> = {
  listening: { word: "listening", shape: "circle", tone: "good" },
  polling: { word: "polling", shape: "circle", tone: "good" },
  syncing: { word: "syncing", shape: "ring", tone: "good" },
  initializing: { word: "starting", shape: "ring", tone: "off" },
  unverified: { word: "not verified", shape: "dash", tone: "off" },
  throttled: { word: "throttled", shape: "triangle", tone: "warn" },
  reconnecting: { word: "reconnecting", shape: "triangle", tone: "warn" },
  needs_attention: { word: "needs attention", shape: "square", tone: "bad" },
  paused: { word: "paused", shape: "bars", tone: "off" },
};

const DELIVERY_MARKS: Record<DeliveryState, Mark> = {
  retrying: { word: "retrying", shape: "triangle", tone: "warn" },
  parked: { word: "parked", shape: "square", tone: "bad" },
  delivered: { word: "delivered", shape: "circle", tone: "good" },
};

const SEND_MARKS: Record<SendState, Mark> = {
  queued: { word: "queued", shape: "ring", tone: "off" },
  sent: { word: "sent", shape: "circle", tone: "good" },
  failed: { word: "failed", shape: "square", tone: "bad" },
  unknown: { word: "unknown", shape: "dash", tone: "warn" },
  bounced: { word: "bounced", shape: "square", tone: "bad" },
};

const TONE_MARKS: Record<Tone, Omit<Mark, "word">> = {
  good: { shape: "circle", tone: "good" },
  warn: { shape: "triangle", tone: "warn" },
  bad: { shape: "square", tone: "bad" },
  off: { shape: "dash", tone: "off" },
};

/** The states that a list of mailboxes can be filtered by, and their words. */
export const MAILBOX_WORDS = Object.entries(MAILBOX_MARKS).map(([state, { word }]) => ({ state, word }));

/** The word of a state. */
export const wordOf = (state: ShownState): string => MAILBOX_MARKS[state].word;
export const mailboxMark = (state: ShownState): Html => markOf(MAILBOX_MARKS[state]);
export const deliveryMark = (state: DeliveryState): Html => markOf(DELIVERY_MARKS[state]);
export const sendMark = (state: SendState): Html => markOf(SEND_MARKS[state]);
/** A word of its own with the shape and the colour of this tone. */
export const toneMark = (tone: Tone, word: string): Html => markOf({ ...TONE_MARKS[tone], word });

function markOf({ word, shape, tone }: Mark): Html {
  const svg = raw(`<svg class="mark" viewBox="0 0 10 10" aria-hidden="true">${SHAPES[shape]}</svg>`);
  return html`<span class="state ${tone}">${svg}${word}</span>`;
}
