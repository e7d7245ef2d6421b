/**
 * The request that hands a message over. It pauses before its last byte until the sending is recorded, and the server's
 * answer decides the result.
 */
import { asProblem, Problem } from "../../../contract/problem.ts";
import type { BeforeEnd, SendRequest, SendResult, RecipientResult } from "../../outgoing.ts";
import { type XmlElement, readElements } from "../soap/elements.ts";
import { protocolProblem } from "../soap/xml.ts";
import { parseResponseStatus } from "../soap/notifications.ts";
import type { EwsSession } from "../client/session.ts";
import type { SendOperation } from "./operations.ts";
import { toFinalProblem, isOutcomeUnknown, problemFromResponse } from "./responses.ts";

/** `endMs` is how long the server may be silent once it has the whole message. */
export type SendContext = { session: EwsSession; endMs: number };
export type Submission = { operation: SendOperation; order: SendRequest; beforeEnd: BeforeEnd };

/**
 * Executes an operation that hands nothing over but must not happen twice: it is never repeated. Throws the server's
 * error.
 */
export async function executeOnce(
  { session, endMs }: SendContext,
  operation: SendOperation,
  signal: AbortSignal,
): Promise<XmlElement> {
  const options = { beforeEnd: () => Promise.resolve(), answerMs: endMs };
  const chunks = await session.postSoap(operation.name, operation.body, signal, options);
  const message = await readResponseMessage(chunks, operation.name);
  if (message.attributes["ResponseClass"] === "Success") return message;
  throw problemFromResponse(parseResponseStatus(message));
}

/**
 * Hands the message over. All its recipients get the same result: `sent`, or `unknown` if the answer leaves it open.
 * Throws the Problem of an answer that says that nothing was accepted, and of a connection that ended before the
 * request did.
 */
export async function submit(
  context: SendContext,
  { operation, order, beforeEnd }: Submission,
  signal: AbortSignal,
): Promise<SendResult> {
  const commitPoint = createCommitPoint(() => beforeEnd(order.to), signal);
  const all = (state: RecipientResult["state"], response: string): SendResult => ({
    recipients: order.to.map((address) => ({ address, state, response })),
    serverMessageId: null,
  });
  const unknown = (why: string) => all("unknown", `The message was handed over, and no answer came: ${why}`);
  try {
    const options = { beforeEnd: commitPoint.commit, answerMs: context.endMs };
    const chunks = await context.session.postSoap(operation.name, operation.body, signal, options);
    const message = await readResponseMessage(chunks, operation.name);
    if (message.attributes["ResponseClass"] === "Success") return all("sent", "Exchange accepted the message");
    throw problemFromResponse(parseResponseStatus(message));
  } catch (error) {
    if (!(await commitPoint.close()) || !isOutcomeUnknown(error)) throw toFinalProblem(error);
    return unknown(signal.aborted ? "the service stopped before the server answered" : describeError(error));
  }
}

type CommitPoint = {
  /** Resolves when the request may end, which happens right after. */
  commit(): Promise<void>;
  /** Whether the request may have ended; from now on it cannot. Throws what `beforeEnd` threw. */
  close(): Promise<boolean>;
};

/** Guards the last byte. It closes for good if the answer, an error or the signal comes first. */
function createCommitPoint(beforeEnd: () => Promise<void>, signal: AbortSignal): CommitPoint {
  let written: Promise<void> | undefined;
  let [released, closed] = [false, false];
  return {
    async commit() {
      if (closed) throw new Problem("connect", "The server answered before the end of the request");
      released = false;
      written = beforeEnd();
      await written;
      if (closed || signal.aborted) throw new Problem("connect", "The connection ended before the request");
      released = true;
    },
    async close() {
      closed = true;
      await written;
      return released;
    },
  };
}

async function readResponseMessage(chunks: AsyncIterable<Buffer>, operation: string): Promise<XmlElement> {
  let found: XmlElement | undefined;
  for await (const element of readElements(chunks, { names: [`${operation}ResponseMessage`] })) found ??= element;
  if (found) return found;
  throw protocolProblem("nothing");
}

function describeError(error: unknown): string {
  const { message, evidence } = asProblem(error);
  return evidence === null ? message : `${message} (${evidence})`;
}
