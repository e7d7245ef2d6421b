/** `cli tail`: prints what happens, as it happens. */
import { Problem } from "../../../shared/contract/problem.ts";
import { openStream } from "../service.ts";
import { formatFields } from "../table.ts";
import { type Call, type Command, type Output, queryOf } from "./command.ts";

export const tailCommands: Record<string, Command> = {
  tail: {
    usage: "tail [--mailbox <id>] [--kind <kinds>]",
    summary: "Prints the facts of the node as they happen, until Ctrl-C. With --json each line is a JSON object.",
    example: "tail --kind mail.delivered,mail.parked",
    args: [0, 0],
    options: { mailbox: { type: "string" }, kind: { type: "string" } },
    run: tail,
  },
};

const RESTART_FIX = "It was stopped, or the token was revoked. Start the command again; nothing is repeated.";

async function tail({ service, values, print, stop }: Call): Promise<Output> {
  try {
    const stream = await openStream(service, `/events${queryOf(values, ["mailbox", "kind"])}`, stop);
    for await (const data of readEvents(stream)) print(values["json"] === true ? data : formatFact(data));
    if (!stop.aborted) throw new Problem("connect", "The service ended the stream", { fix: RESTART_FIX });
  } catch (error) {
    if (!stop.aborted) throw error;
  }
  return { json: undefined, text: "" };
}

/** The data of each server-sent event. Comments, and lines without data, are left out. */
async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice("data: ".length);
  }
}

function formatFact(data: string): string {
  const { at, kind, ...more } = JSON.parse(data) as Record<string, unknown>;
  return `${String(at)}  ${String(kind).padEnd(24)} ${formatFields(Object.entries(more))}`.replace(/[\p{Cc}]+/gu, " ");
}
