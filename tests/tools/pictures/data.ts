/** Invented data for the pictures of the console: a small company, one day of its mail, and what went wrong in it. */
import { initialState } from "../../../shared/store/store.ts";
import { gaugeOf, latencyName, listeningName, PERIOD_MS, periodOf } from "../../../shared/telemetry/tallies.ts";
import { TICK_MS, type TickState } from "../../../shared/store/measured/state-entries.ts";
import type { Fact } from "../../../shared/telemetry/events.ts";
import type { MailboxState } from "../../../shared/contract/mailbox.ts";
import { type ApiNode, delivery } from "../../api-node.ts";
import { exampleBody } from "../../bodies.ts";
import { message } from "../../servers/mail.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** The node that has the mailboxes. */
export const NODE = "mail-1";
const RUN = NODE;
const CRM = "https://crm.acme.example/mail";

type Invented = {
  id: string;
  protocol?: string;
  host?: string;
  url?: string;
  state?: Partial<MailboxState>;
  /** How the ticks before now were, counted back from the present one. */
  day?: [ticksAgo: number, state: TickState][];
  latencyMs: number;
};

const ago = (ms: number) => new Date(Date.now() - ms).toISOString();

/** The mailbox of the picture. */
export const SHOWN = "orders";
const MAILBOXES: readonly Invented[] = [
  {
    id: "orders",
    latencyMs: 61,
    day: [
      [41, "throttled"],
      [40, "listening"],
      [9, "reconnecting"],
      [8, "listening"],
    ],
  },
  { id: "help-desk", latencyMs: 48 },
  {
    id: "sales",
    latencyMs: 55,
    day: [
      [30, "reconnecting"],
      [29, "listening"],
    ],
  },
  { id: "returns", latencyMs: 73 },
  {
    id: "jobs",
    latencyMs: 90,
    day: [
      [62, "throttled"],
      [58, "listening"],
    ],
  },
  { id: "press", latencyMs: 44 },
  { id: "warehouse", latencyMs: 52 },
  {
    id: "invoices",
    latencyMs: 67,
    day: [[12, "needs_attention"]],
    state: {
      status: "needs_attention",
      failedLogins: 3,
      problem: {
        code: "auth",
        cause: "The server refused the user or the password of invoices@acme.example",
        fix: "Check user name and password, then save them or resume the mailbox.",
        evidence: "NO [AUTHENTICATIONFAILED] Invalid credentials",
        retryAt: null,
      },
    },
  },
  { id: "archive", latencyMs: 80, day: [[20, "paused"]], state: { status: "paused" } },
];

/** Fills the store of the node. */
export async function invent(node: ApiNode, token: string): Promise<void> {
  const login = { authorization: `Bearer ${token}` };
  for (const { id, protocol = "imap", host = "imap.acme.example", url = CRM } of MAILBOXES) {
    const address = `${id}@acme.example`;
    const receive = { protocol, host, auth: { user: address, password: "invented" } };
    await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody({ address, receive, deliver: { url } }), login);
    if (id === "archive") await node.call("POST", `/api/v1/mailboxes/${id}/pause`, undefined, login);
  }
  await node.store.mailboxes.saveStates(
    MAILBOXES.map((one, n) => ({ id: one.id, revision: 1, state: stateOf(one, n) })),
  );
  await inventDay(node);
  await inventNumbers(node);
  await inventDeliveries(node);
  await inventCursors(node);
}

function stateOf({ state = {} }: Invented, n: number): MailboxState {
  const isWell = state.status === undefined;
  return {
    ...initialState({ paused: false }),
    status: "listening",
    node: RUN,
    since: ago(isWell ? (2 + n) * HOUR : 3 * HOUR),
    lastVerifiedAt: ago(isWell ? (5 + n) * 1000 : 3 * HOUR),
    lastArrivalAt: ago((3 + 7 * n) * MINUTE),
    ...state,
  };
}

async function inventDay({ store }: ApiNode): Promise<void> {
  const now = Date.now();
  const run = { id: RUN, node: RUN, from: now - 24 * HOUR, until: now };
  for (let back = 95; back >= 0; back--) {
    const tick = Math.floor(now / TICK_MS) - back;
    const reports = MAILBOXES.flatMap(({ id, day = [] }) => {
      const change = back === 95 ? "listening" : day.find(([at]) => at === back)?.[1];
      return change === undefined ? [] : [{ mailbox: id, tick, minute: 1, worst: change, last: change }];
    });
    if (reports.length > 0) await store.measures.record(run, reports);
  }
  await store.measures.record(run, []);
}

const PERIODS = 72;

async function inventNumbers({ store }: ApiNode): Promise<void> {
  const now = Date.now();
  for (let back = PERIODS; back >= 0; back--) {
    const at = periodOf(now) - back * PERIOD_MS;
    const wave = Math.sin(back / 9) + Math.sin(back / 3.7) / 2;
    const delivered = Math.round(60 + 25 * wave);
    const latency = Math.round(58 + 14 * Math.sin(back / 5) + (back === 33 ? 160 : 0));
    await store.measures.count({
      at,
      add: { delivered, [latencyName(latency)]: delivered },
      set: {
        waiting: back > 28 && back < 36 ? 3 : 0,
        parked: back > 20 ? 0 : 1,
        [listeningName(RUN)]: gaugeOf(back > 36 ? 8 : 7, Math.min(now, at + PERIOD_MS - 1000)),
      },
      latencies: back === 0 ? MAILBOXES.map(({ id, latencyMs: ms }) => ({ mailbox: id, ms })) : [],
    });
  }
}

const SUBJECTS: [from: string, subject: string][] = [
  ["Ada Brandt <ada@fabrikam.example>", "Order 48-2207: two more boxes, please"],
  ["Jonas Weber <jonas@contoso.example>", "Re: Delivery date of order 48-2199"],
  ["Mei Tanaka <mei@adatum.example>", "Invoice address has changed"],
  ["Luca Moretti <luca@wingtip.example>", "Where is my parcel?"],
  ["Sofia Lind <sofia@fabrikam.example>", "Order 48-2198"],
];

async function inventDeliveries({ store }: ApiNode): Promise<void> {
  const facts: (Fact & { at: string })[] = [];
  for (const [n, [from, subject]] of SUBJECTS.entries()) {
    const at = ago((3 + 11 * n) * MINUTE);
    const isParked = n === 2;
    const id = `msg_${(0x5f3a91c2 + n * 7919).toString(16)}d04be7`;
    const raw = message({ from, to: `${SHOWN}@acme.example`, subject, text: "Invented." });
    const attempt = { at, ms: 38 + 9 * n, status: isParked ? 413 : 204, problem: isParked ? "answered 413" : null };
    const one = delivery(id, {
      mailbox: SHOWN,
      endpoint: CRM,
      ref: { folder: "INBOX", epoch: "1700000000", uid: 4811 - n, size: raw.length, receivedAt: at },
      state: isParked ? "parked" : "delivered",
      attempts: [attempt],
      createdAt: at,
      updatedAt: at,
      seenAt: at,
      reason: isParked ? "answered 413: the message is too large for the endpoint" : null,
      spooled: isParked,
      message: { subject, from, messageId: null },
    });
    await store.deliveries.save(one, raw);
    const common = { at, mailbox: SHOWN, delivery: id };
    facts.push(
      isParked
        ? { kind: "mail.parked", ...common, endpoint: CRM, attempts: 1, reason: "answered 413" }
        : {
            kind: "mail.delivered",
            ...common,
            folder: "INBOX",
            uid: 4811 - n,
            bytes: raw.length,
            ms: 120,
            attempts: 1,
          },
    );
  }
  const drop = { code: "connect", cause: "imap.acme.example cut the connection" } as const;
  const [lost, back] = [ago(2.2 * HOUR), ago(2.19 * HOUR)];
  facts.push(
    { kind: "mailbox.disconnected", at: lost, mailbox: SHOWN, failure: drop, retryAt: back },
    { kind: "mailbox.connected", at: back, mailbox: SHOWN, push: true, ms: 212 },
  );
  await store.facts.append(facts.toSorted((a, b) => a.at.localeCompare(b.at)));
}

async function inventCursors({ store }: ApiNode): Promise<void> {
  const fence = await store.cursors.issueFence(SHOWN);
  for (const [folder, uid] of [
    ["INBOX", 4811],
    ["Shop", 902],
  ] as const)
    await store.cursors.advance(
      SHOWN,
      { folder, uid, epoch: "1700000000", state: null, newest: ago(3 * MINUTE) },
      [],
      fence,
    );
}
