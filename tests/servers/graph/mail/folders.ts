/** Folders: listed, read, made, renamed, moved and removed. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import { badRequest, GraphError, malformed, notFound } from "../answers.ts";
import { isWellFormed } from "../store/ids.ts";
import {
  childrenOf,
  type Folder,
  folderNamed,
  type Mailbox,
  newFolder,
  removeFolder,
  touchFolder,
} from "../store/store.ts";
import type { Ask, MailAsk, MailOperation } from "../world.ts";
import { listAnswer, pageOf } from "./paging.ts";
import { folderShape } from "./shape.ts";

const WELL_KNOWN =
  "archive clutter conflicts conversationhistory deleteditems drafts inbox junkemail localfailures msgfolderroot outbox recoverableitemsdeletions scheduled searchfolders sentitems serverfailures syncissues".split(
    " ",
  );

/** The folder by its id or its well-known name, in any letter case. Throws 404, and 400 for what is neither. */
export function folderOf(mailbox: Mailbox, name: string): Folder {
  const known = mailbox.folders.get(name);
  if (known) return known;
  if (WELL_KNOWN.includes(name.toLowerCase())) {
    const folder = folderNamed(mailbox, name);
    if (folder) return folder;
    throw new GraphError({
      status: 404,
      code: "ErrorItemNotFound",
      message: "The specified folder could not be found.",
    });
  }
  if (!isWellFormed(name)) throw malformed();
  throw notFound();
}

/** The folder that the path names. */
export function namedFolder(ask: MailAsk): Folder {
  return folderOf(ask.mailbox, ask.named["folder"] ?? "");
}

function listed(ask: MailAsk, parent: Folder): { status: 200; json: object } {
  if (ask.query.has("$expand")) throw badRequest("The fake Graph does not expand folders.", "NotImplemented");
  const hidden = ask.query.get("includeHiddenFolders")?.toLowerCase() === "true";
  const all = childrenOf(parent).filter((one) => hidden || !one.hidden);
  const filter = /^\s*displayName\s+eq\s+'((?:[^']|'')*)'\s*$/.exec(ask.query.get("$filter") ?? "");
  const name = filter?.[1]?.replaceAll("''", "'").toLowerCase();
  if (ask.query.has("$filter") && name === undefined)
    throw badRequest("Invalid filter clause", "ErrorInvalidUrlQueryFilter");
  const page = pageOf(ask, name === undefined ? all : all.filter((one) => one.name.toLowerCase() === name));
  const context = `users('${ask.mailbox.guid}')/mailFolders`;
  return listAnswer(
    ask,
    context,
    page,
    page.items.map((one) => shaped(ask, one)),
  );
}

/** The folder with what $select names. */
export function shaped(ask: Ask, folder: Folder): object {
  const shape = folderShape(folder);
  const select = ask.query
    .get("$select")
    ?.split(",")
    .map((one) => one.trim());
  if (!select) return shape;
  const known = Object.keys(shape);
  const unknown = select.find((one) => !known.includes(one));
  if (unknown !== undefined)
    throw badRequest(`Could not find a property named '${unknown}' on type 'microsoft.graph.mailFolder'.`);
  return Object.fromEntries(
    Object.entries(shape).filter(([name]) => name === "id" || name.startsWith("@") || select.includes(name)),
  );
}

export const listFolders: MailOperation = (ask) => listed(ask, ask.mailbox.root);

export const listChildFolders: MailOperation = (ask) => listed(ask, namedFolder(ask));

export const getFolder: MailOperation = (ask) => ({
  status: 200,
  json: { "@odata.context": contextOf(ask), ...shaped(ask, namedFolder(ask)) },
});

function contextOf({ world, mailbox }: MailAsk): string {
  return `${world.root}/v1.0/$metadata#users('${mailbox.guid}')/mailFolders/$entity`;
}

/** A JSON object. Throws 400 for anything else. */
export function jsonIn<Shape extends object>({ request }: Pick<Ask, "request">): Shape {
  try {
    const value: unknown = JSON.parse(request.body.toString("utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Shape;
  } catch {
    throw badRequest(
      "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.",
    );
  }
  throw badRequest("A JSON object is expected.");
}

/** The parameters of an action; Graph takes their names with a small or a capital first letter. */
export function parametersIn<Shape extends object>(ask: Pick<Ask, "request">): Shape {
  const entries = Object.entries(jsonIn<object>(ask));
  return Object.fromEntries(
    entries.map(([name, value]) => [name.slice(0, 1).toLowerCase() + name.slice(1), value]),
  ) as Shape;
}

function created(ask: MailAsk, parent: Folder): { status: 201; json: object } {
  const { displayName, isHidden } = jsonIn<Graph.MailFolder>(ask);
  if (!displayName) throw badRequest("The displayName is missing.", "ErrorInvalidRequest");
  const same = childrenOf(parent).some((one) => one.name.toLowerCase() === displayName.toLowerCase());
  if (same)
    throw new GraphError({
      status: 409,
      code: "ErrorFolderExists",
      message: "A folder with the specified name already exists.",
    });
  const wish = { parent, name: displayName, hidden: isHidden ?? false };
  const folder = newFolder(ask.world.store, ask.mailbox, wish);
  return { status: 201, json: { "@odata.context": contextOf(ask), ...folderShape(folder) } };
}

export const createFolder: MailOperation = (ask) => created(ask, ask.mailbox.root);
export const createChildFolder: MailOperation = (ask) => created(ask, namedFolder(ask));

export const updateFolder: MailOperation = (ask) => {
  const folder = namedFolder(ask);
  const { displayName } = jsonIn<Graph.MailFolder>(ask);
  if (displayName) folder.name = displayName;
  touchFolder(folder);
  return { status: 200, json: { "@odata.context": contextOf(ask), ...folderShape(folder) } };
};

export const deleteFolder: MailOperation = (ask) => {
  const folder = namedFolder(ask);
  if (folder.wellKnown !== undefined)
    throw new GraphError({
      status: 403,
      code: "ErrorDeleteDistinguishedFolder",
      message: "Distinguished folders cannot be deleted.",
    });
  removeFolder(ask.world.store, folder);
  return { status: 204 };
};

export const moveFolder: MailOperation = (ask) => {
  const folder = namedFolder(ask);
  const { destinationId } = parametersIn<{ destinationId?: string }>(ask);
  if (!destinationId) throw badRequest("The destinationId is missing.", "ErrorInvalidRequest");
  folder.parent = folderOf(ask.mailbox, destinationId);
  touchFolder(folder);
  return { status: 201, json: { "@odata.context": contextOf(ask), ...folderShape(folder) } };
};
