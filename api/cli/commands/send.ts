/** `cli send`: sends a message from a mailbox. */
import { randomUUID } from "node:crypto";
import { callService, type Json } from "../service.ts";
import { formatTable } from "../table.ts";
import { type Call, type Command, type Output, readJsonFile, textOf } from "./command.ts";

const DEFAULT_WAIT_SECONDS = 30;

export const sendCommands: Record<string, Command> = {
  send: {
    usage:
      "send <mailbox id> (<file> | --to <addresses> --subject <text> --text <text>) [--wait <seconds>] [--key <text>]",
    summary:
      "Sends a message, described by options or by a JSON file as POST .../messages takes it, and waits for the result. With the same --key no second message goes out.",
    example: 'send help-desk --to bob@example.net --subject Hello --text "How are you?"',
    args: [1, 2],
    options: {
      to: { type: "string" },
      subject: { type: "string" },
      text: { type: "string" },
      wait: { type: "string" },
      key: { type: "string" },
    },
    run: sendMessage,
  },
};

async function sendMessage({ service, args: [id = "", file], values }: Call): Promise<Output> {
  const given = {
    subject: values["subject"],
    text: values["text"],
    to: textOf(values, "to")
      ?.split(",")
      .map((one) => one.trim()),
  };
  const body = file === undefined ? given : await readJsonFile(file);
  const wait = textOf(values, "wait") ?? String(DEFAULT_WAIT_SECONDS);
  const path = `/mailboxes/${encodeURIComponent(id)}/messages?${new URLSearchParams({ wait }).toString()}`;
  // The key is also used if nobody gives one: a proxy may repeat the request.
  const headers = { "idempotency-key": textOf(values, "key") ?? randomUUID() };
  const answer = await callService(service, "POST", path, { body, headers, waitMs: Number(wait) * 1000 || 0 });
  const recipients = (Array.isArray(answer["recipients"]) ? answer["recipients"] : []) as Json[];
  const rows = recipients.map(({ address, state, response }) => [address, state, response]);
  const text = `${String(answer["id"])}: ${String(answer["state"])}\n${formatTable(["TO", "STATE", "ANSWER"], rows)}`;
  const failed = recipients.some(({ state }) => state !== "sent" && state !== "queued");
  return { json: answer, text, failed };
}
