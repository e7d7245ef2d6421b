/** Which operation a path is, and what it needs. */
import type { Need } from "./login/permissions.ts";
import { messagesDelta } from "./mail/delta.ts";
import { foldersDelta } from "./mail/folder-delta.ts";
import * as folders from "./mail/folders.ts";
import * as messages from "./mail/messages.ts";
import * as subscriptions from "./push/operations.ts";
import * as attachments from "./sending/attachments.ts";
import * as drafts from "./sending/drafts.ts";
import { sendDraft, sendMail } from "./sending/send.ts";
import { createUploadSession } from "./sending/uploads.ts";
import { translateExchangeIds } from "./translate.ts";
import { getUser, listUsers } from "./users.ts";
import type { MailOperation, Operation } from "./world.ts";

type Shared = { name: string; method: string; parts: string[] };
export type MailRoute = Shared & { need: Need; mail: MailOperation };
export type Route = MailRoute | (Shared & { other: Operation });

/** "GET users/:user/messages"; the name is what faults and the log of requests call the operation. */
function mail(name: string, line: string, need: Need, operation: MailOperation): MailRoute {
  const [method = "", path = ""] = line.split(" ");
  return { name, method, parts: `users/:user/${path}`.split("/"), need, mail: operation };
}

function other(name: string, line: string, operation: Operation): Route {
  const [method = "", path = ""] = line.split(" ");
  return { name, method, parts: path.split("/"), other: operation };
}

const ROUTES: Route[] = [
  other("listUsers", "GET users", listUsers),
  other("createSubscription", "POST subscriptions", subscriptions.createSubscription),
  other("listSubscriptions", "GET subscriptions", subscriptions.listSubscriptions),
  other("getSubscription", "GET subscriptions/:subscription", subscriptions.getSubscription),
  other("renewSubscription", "PATCH subscriptions/:subscription", subscriptions.renewSubscription),
  other("deleteSubscription", "DELETE subscriptions/:subscription", subscriptions.deleteSubscription),
  other(
    "reauthorizeSubscription",
    "POST subscriptions/:subscription/reauthorize",
    subscriptions.reauthorizeSubscription,
  ),
  other("getUser", "GET users/:user", getUser),
  mail("foldersDelta", "GET mailFolders/delta", "basic", foldersDelta),
  mail("listFolders", "GET mailFolders", "basic", folders.listFolders),
  mail("createFolder", "POST mailFolders", "write", folders.createFolder),
  mail("getFolder", "GET mailFolders/:folder", "basic", folders.getFolder),
  mail("updateFolder", "PATCH mailFolders/:folder", "write", folders.updateFolder),
  mail("deleteFolder", "DELETE mailFolders/:folder", "write", folders.deleteFolder),
  mail("moveFolder", "POST mailFolders/:folder/move", "write", folders.moveFolder),
  mail("listChildFolders", "GET mailFolders/:folder/childFolders", "basic", folders.listChildFolders),
  mail("createFolder", "POST mailFolders/:folder/childFolders", "write", folders.createChildFolder),
  mail("delta", "GET mailFolders/:folder/messages/delta", "basic", messagesDelta),
  mail("listMessages", "GET mailFolders/:folder/messages", "basic", messages.listMessages),
  mail("listAllMessages", "GET messages", "basic", messages.listMessages),
  mail("getMessage", "GET mailFolders/:folder/messages/:message", "basic", messages.getMessage),
  mail("getMessage", "GET messages/:message", "basic", messages.getMessage),
  mail("getContent", "GET messages/:message/$value", "read", messages.getContent),
  mail("getContent", "GET mailFolders/:folder/messages/:message/$value", "read", messages.refuseContentByFolder),
  mail("updateMessage", "PATCH messages/:message", "write", drafts.updateMessage),
  mail("updateMessage", "PATCH mailFolders/:folder/messages/:message", "write", drafts.updateMessage),
  mail("createDraft", "POST messages", "write", drafts.createDraft),
  mail("createDraft", "POST mailFolders/:folder/messages", "write", drafts.createDraft),
  mail("sendDraft", "POST messages/:message/send", "send", sendDraft),
  mail("sendMail", "POST sendMail", "send", sendMail),
  mail("listAttachments", "GET messages/:message/attachments", "read", attachments.listAttachments),
  mail("addAttachment", "POST messages/:message/attachments", "write", attachments.addAttachment),
  mail("createUploadSession", "POST messages/:message/attachments/createUploadSession", "write", createUploadSession),
  mail("getAttachment", "GET messages/:message/attachments/:attachment", "read", attachments.getAttachment),
  mail(
    "getAttachmentContent",
    "GET messages/:message/attachments/:attachment/$value",
    "read",
    attachments.getAttachmentContent,
  ),
  mail("deleteAttachment", "DELETE messages/:message/attachments/:attachment", "write", attachments.deleteAttachment),
  mail("translate", "POST translateExchangeIds", "translate", translateExchangeIds),
  mail("move", "POST messages/:message/move", "write", messages.move),
  mail("copy", "POST messages/:message/copy", "write", messages.copy),
  mail("deleteMessage", "DELETE messages/:message", "write", messages.deleteMessage),
  mail("deleteMessage", "DELETE mailFolders/:folder/messages/:message", "write", messages.deleteMessage),
  mail("permanentDelete", "POST messages/:message/permanentDelete", "write", messages.permanentDelete),
];

export type Found = { route: Route; named: Record<string, string> };

/** The operation of a path, what its names stand for, or which methods the path has. */
export function findRoute(method: string, parts: string[]): Found | { methods: string[] } {
  const methods: string[] = [];
  for (const route of ROUTES) {
    const named = match(route.parts, parts);
    if (!named) continue;
    if (route.method === method) return { route, named };
    methods.push(route.method);
  }
  return { methods };
}

function match(pattern: string[], parts: string[]): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined;
  const named: Record<string, string> = {};
  for (const [at, wanted] of pattern.entries()) {
    const part = parts[at] ?? "";
    if (wanted.startsWith(":")) named[wanted.slice(1)] = part;
    else if (wanted.toLowerCase() !== part.toLowerCase()) return undefined;
  }
  return named;
}
