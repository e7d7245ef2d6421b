/** Which user a path names, and what the directory says about users. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import { badRequest, GraphError } from "./answers.ts";
import { checkDirectory } from "./login/permissions.ts";
import type { Mailbox, Store } from "./store/store.ts";
import type { Ask, Operation, World } from "./world.ts";

/** By object id or user principal name; addresses and aliases do not name a user. */
export function findUser({ mailboxes, byName }: Store, name: string): Mailbox | undefined {
  const wanted = name.toLowerCase();
  return mailboxes.get(wanted) ?? byName.get(wanted);
}

/** The mailbox of a mail request. Throws as Graph does for unknown users and for mailboxes that it cannot reach. */
export function mailboxOf(world: World, name: string): Mailbox {
  const mailbox = findUser(world.store, name);
  if (!mailbox) {
    const code = world.behaviour.unknownUser;
    const message =
      code === "ErrorInvalidUser" ? `The requested user '${name}' is invalid.` : "Resource could not be discovered.";
    throw new GraphError({ status: 404, code, message });
  }
  const message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise.";
  if (mailbox.state === "none") throw new GraphError({ status: 404, code: "ErrorNonExistentMailbox", message });
  if (mailbox.state === "inactive") throw new GraphError({ status: 404, code: "MailboxNotEnabledForRESTAPI", message });
  if (mailbox.state === "consumer")
    throw new GraphError({
      status: 404,
      code: "MailboxNotSupportedForRESTAPI",
      message: "REST API is not yet supported for this mailbox.",
    });
  if (mailbox.state === "moving")
    throw new GraphError({
      status: 503,
      code: "ErrorMailboxMoveInProgress",
      message: "Mailbox move in progress. Try again later.",
    });
  return mailbox;
}

function userShape({ guid, userPrincipalName, mail, displayName, aliases }: Mailbox) {
  const proxyAddresses = [`SMTP:${mail}`, ...aliases.map((one) => `smtp:${one}`)];
  return { id: guid, userPrincipalName, mail, displayName, proxyAddresses } satisfies Graph.User & {
    proxyAddresses: string[];
  };
}

function shaped({ query }: Ask, mailbox: Mailbox): object {
  const select = query.get("$select")?.split(",") ?? ["id", "userPrincipalName", "mail", "displayName"];
  return Object.fromEntries(Object.entries(userShape(mailbox)).filter(([name]) => select.includes(name)));
}

export const getUser: Operation = (ask) => {
  const name = ask.named["user"] ?? "";
  const mailbox = findUser(ask.world.store, name);
  checkDirectory(ask.caller, mailbox);
  if (!mailbox)
    throw new GraphError({
      status: 404,
      code: "Request_ResourceNotFound",
      message: `Resource '${name}' does not exist or one of its queried reference-property objects are not present.`,
    });
  const context = `${ask.world.root}/v1.0/$metadata#users/$entity`;
  return { status: 200, json: { "@odata.context": context, ...shaped(ask, mailbox) } };
};

/** Only by an address: proxyAddresses/any(p:p eq 'smtp:a@b'), or mail eq 'a@b'. */
export const listUsers: Operation = (ask) => {
  checkDirectory(ask.caller);
  const filter = ask.query.get("$filter") ?? "";
  const [, proxy, mail] =
    /^proxyAddresses\/any\((?:\w+):\w+ eq 'smtp:([^']*)'\)$|^(?:mail|userPrincipalName) eq '([^']*)'$/i.exec(filter) ??
    [];
  const address = (proxy ?? mail)?.toLowerCase();
  if (filter !== "" && address === undefined) throw badRequest("Unsupported Query.", "Request_UnsupportedQuery");
  const has = (one: Mailbox) =>
    [one.mail, ...(proxy === undefined ? [one.userPrincipalName] : one.aliases)].some(
      (of) => of.toLowerCase() === address,
    );
  const found = [...ask.world.store.mailboxes.values()].filter((one) => filter === "" || has(one));
  const context = `${ask.world.root}/v1.0/$metadata#users`;
  return { status: 200, json: { "@odata.context": context, value: found.map((one) => shaped(ask, one)) } };
};
