/** `cli token ...`: makes, lists and revokes tokens. It needs a token with the scope admin. */
import { Problem } from "../../../shared/contract/problem.ts";
import { callService, type Json } from "../service.ts";
import { formatTable } from "../table.ts";
import { type Call, type Command, itemsOf, type Output, textOf } from "./command.ts";

export const tokenCommands: Record<string, Command> = {
  "token add": {
    usage:
      "token add --name <text> --scopes <read,manage,send,metrics,admin> [--prefix <ids begin so>] [--expires <date>]",
    summary: "Makes a token and prints it. It is shown only now.",
    example: 'token add --name "CRM of Acme" --scopes read,send --prefix acme- --expires 2027-12-31',
    args: [0, 0],
    options: {
      name: { type: "string" },
      scopes: { type: "string" },
      prefix: { type: "string" },
      expires: { type: "string" },
    },
    run: addToken,
  },
  "token ls": {
    usage: "token ls",
    summary: "Lists the tokens with their scopes and when they were used last. Those of the settings are not listed.",
    example: "token ls",
    args: [0, 0],
    async run({ service }) {
      const answer = await callService(service, "GET", "/tokens");
      return { json: answer, text: formatTokens(answer) };
    },
  },
  "token rm": {
    usage: "token rm <id>",
    summary: "Revokes a token.",
    example: "token rm 0123456789abcdef",
    args: [1, 1],
    async run({ service, args: [id = ""] }) {
      const answer = await callService(service, "DELETE", `/tokens/${encodeURIComponent(id)}`);
      return { json: answer, text: `${id} is revoked` };
    },
  },
};

async function addToken({ service, values }: Call): Promise<Output> {
  const [scopes, expires] = [textOf(values, "scopes"), textOf(values, "expires")];
  const body = {
    name: values["name"],
    scopes: scopes?.split(",").map((scope) => scope.trim()),
    mailboxPrefix: values["prefix"] ?? "",
    expiresAt: expires === undefined ? null : parseExpiry(expires),
  };
  const answer = await callService(service, "POST", "/tokens", { body });
  return { json: answer, text: String(answer["token"]) };
}

function parseExpiry(text: string): string {
  const date = new Date(text);
  if (!Number.isNaN(date.getTime())) return date.toISOString();
  throw new Problem("config", `--expires is ${text}, which is no date`, {
    retry: "never",
    fix: "Give a date such as 2027-12-31.",
  });
}

function formatTokens(answer: Json): string {
  const unreadable = Array.isArray(answer["unreadable"]) ? answer["unreadable"].map(String) : [];
  const broken = unreadable.map((id) => `${id} is not accepted: no key decrypts it. Remove it with: token rm ${id}`);
  const items = itemsOf(answer);
  if (items.length + broken.length === 0) return "There are no tokens besides those of the settings";
  const names = ["ID", "NAME", "SCOPES", "MAILBOXES", "EXPIRES", "LAST USED"];
  const rows = items.map(({ id, name, scopes, mailboxPrefix, expiresAt, lastUsedAt }) => {
    const bound = mailboxPrefix === "" ? "all" : `${String(mailboxPrefix)}*`;
    return [
      id,
      name,
      Array.isArray(scopes) ? scopes.join(",") : "",
      bound,
      expiresAt ?? "never",
      lastUsedAt ?? "never",
    ];
  });
  return [...(rows.length > 0 ? [formatTable(names, rows)] : []), ...broken].join("\n");
}
