/** What an endpoint wants beyond its encoding, by dialect: turns, smaller messages, news of the mailbox. A dialect without an entry wants none of it. */
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import type { ProblemView } from "../../shared/contract/problem.ts";
import { mailboxState, news, refreshToken } from "./creatio/callbacks.ts";
import { refusesCreatio, smallerCreatio, turnOfCreatio } from "./creatio/dialect.ts";
import type { Dialect } from "./dialects.ts";
import type { Letter, PostOutcome, WireRequest } from "./endpoint.ts";

export type Manners = {
  /** Why a message with these flags is not for the endpoint; undefined when it is. */
  refuses(flags: string[]): string | undefined;
  /** Deliveries with the same key go one after the other. */
  turn(mailbox: Mailbox, raw: Uint8Array): string;
  /** A second try after this outcome, with less in it; undefined when there is none. */
  smaller(letter: Letter, request: WireRequest, outcome: PostOutcome): WireRequest | undefined;
  /** What the endpoint ought to have heard of a mailbox in this state; null when there is nothing to say. */
  news(state: Pick<MailboxState, "status" | "problem">): { told: string; problem: ProblemView | null } | null;
  tell(mailbox: Mailbox, problem: ProblemView | null): WireRequest;
  /** Asks for new credentials. */
  renew(mailbox: Mailbox): WireRequest;
};

export const MANNERS: { readonly [D in Dialect]?: Manners } = {
  creatio: {
    refuses: refusesCreatio,
    turn: turnOfCreatio,
    smaller: smallerCreatio,
    news,
    tell: mailboxState,
    renew: refreshToken,
  },
};
