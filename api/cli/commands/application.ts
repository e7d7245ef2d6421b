/** `cli application ...`: the applications of Microsoft and Google that mailboxes may name. */
import { callService, type Json } from "../service.ts";
import { type Command, formatPage, readJsonFile } from "./command.ts";

const pathOf = (id = "") => `/applications/${encodeURIComponent(id)}`;

export const applicationCommands: Record<string, Command> = {
  "application ls": {
    usage: "application ls",
    summary: "Lists the registered applications, without their secrets.",
    example: "application ls",
    args: [0, 0],
    async run({ service }) {
      const answer = await callService(service, "GET", "/applications");
      const names = ["ID", "PROVIDER", "TENANT", "CLIENT", "CLOUD", "PROBLEM"];
      return { json: answer, text: formatPage(answer, names, toRow) };
    },
  },
  "application add": {
    usage: "application add <file>",
    summary: "Registers the application that a JSON file describes. - is the standard input.",
    example: "application add contoso.json",
    args: [1, 1],
    async run({ service, args: [file = ""] }) {
      const answer = await callService(service, "POST", "/applications", { body: await readJsonFile(file) });
      return { json: answer, text: `${String(answer["id"])} is registered` };
    },
  },
  "application set": {
    usage: "application set <id> <file>",
    summary: "Changes an application to what a JSON file describes, for example a new secret. - is the standard input.",
    example: "application set contoso contoso.json",
    args: [2, 2],
    async run({ service, args: [id, file = ""] }) {
      const answer = await callService(service, "PUT", pathOf(id), { body: await readJsonFile(file) });
      return { json: answer, text: `${id} is changed` };
    },
  },
  "application rm": {
    usage: "application rm <id>",
    summary: "Removes an application that no mailbox names.",
    example: "application rm contoso",
    args: [1, 1],
    async run({ service, args: [id] }) {
      return { json: await callService(service, "DELETE", pathOf(id)), text: `${id} is removed` };
    },
  },
};

function toRow({ id, provider, tenant, clientId, cloud, problem }: Json): unknown[] {
  const cause =
    typeof problem === "object" && problem !== null ? (Reflect.get(problem, "cause") as unknown) : undefined;
  return [id, provider, tenant, clientId, cloud, cause];
}
