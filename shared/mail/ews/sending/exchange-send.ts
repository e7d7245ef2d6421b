/** One request that hands a message over: held open before its end until that is recorded, and judged by what the server says to it. */
import { asProblem, Problem } from "../../../contract/problem.ts";
import type { BeforeEnd, Order, Transmission, Verdict } from "../../outgoing.ts";
import { type Element, elementsOf } from "../soap/elements.ts";
import { unreadable } from "../soap/xml.ts";
import { saidBy } from "../soap/notifications.ts";
import type { EwsSession } from "../client/session.ts";
import type { Asking } from "./operations.ts";
import { judged, leavesOpen, refusal } from "./responses.ts";

/** `endMs` is how long the server may be silent once it has the whole message. */
export type Wire = { session: EwsSession; endMs: number };
export type Handing = { operation: Asking; order: Order; beforeEnd: BeforeEnd };

/** Does something that hands nothing over, and must not be done twice: it is never repeated silently. The server's error is thrown. */
export async function done({ session, endMs }: Wire, operation: Asking, signal: AbortSignal): Promise<Element> {
  const options = { beforeEnd: () => Promise.resolve(), answerMs: endMs };
  const chunks = await session.raw(operation.name, operation.body, signal, options);
  const message = await messageIn(chunks, operation.name);
  if (message.attributes["ResponseClass"] === "Success") return message;
  throw refusal(saidBy(message));
}

/**
 * Hands the message over. All its recipients have the same verdict: `sent`, or `unknown` where the answer leaves that open. Throws the
 * Problem of an answer that says nothing was taken, and of a conversation that ended before the request did.
 */
export async function handedOver(
  wire: Wire,
  { operation, order, beforeEnd }: Handing,
  signal: AbortSignal,
): Promise<Transmission> {
  const end = endOf(() => beforeEnd(order.to), signal);
  const all = (state: Verdict["state"], response: string): Transmission => ({
    verdicts: order.to.map((address) => ({ address, state, response })),
    serverMessageId: null,
  });
  const unknown = (why: string) => all("unknown", `The message was handed over and no answer came: ${why}`);
  try {
    const options = { beforeEnd: end.pass, answerMs: wire.endMs };
    const chunks = await wire.session.raw(operation.name, operation.body, signal, options);
    const message = await messageIn(chunks, operation.name);
    if (message.attributes["ResponseClass"] === "Success") return all("sent", "Exchange took the message");
    throw refusal(saidBy(message));
  } catch (error) {
    if (!(await end.settled()) || !leavesOpen(error)) throw judged(error);
    return unknown(signal.aborted ? "the service stopped before the server answered" : wordsOf(error));
  }
}

type End = {
  /** Resolves when the request may end, which happens right after. */
  pass(): Promise<void>;
  /** Whether it was passed; closed from now on. Throws what `beforeEnd` threw. */
  settled(): Promise<boolean>;
};

/** The gate in front of the last byte: closed for good where the answer, a fault or the signal came first. */
function endOf(beforeEnd: () => Promise<void>, signal: AbortSignal): End {
  let written: Promise<void> | undefined;
  let [released, over] = [false, false];
  return {
    async pass() {
      if (over) throw new Problem("connect", "The server answered before the end of the request");
      released = false;
      written = beforeEnd();
      await written;
      if (over || signal.aborted) throw new Problem("connect", "The connection ended before the request");
      released = true;
    },
    async settled() {
      over = true;
      await written;
      return released;
    },
  };
}

async function messageIn(chunks: AsyncIterable<Buffer>, operation: string): Promise<Element> {
  let found: Element | undefined;
  for await (const element of elementsOf(chunks, { names: [`${operation}ResponseMessage`] })) found ??= element;
  if (found) return found;
  throw unreadable("nothing");
}

function wordsOf(error: unknown): string {
  const { message, evidence } = asProblem(error);
  return evidence === null ? message : `${message} (${evidence})`;
}
