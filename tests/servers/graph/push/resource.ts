/** What a subscription is about. */
import { badRequest } from "../answers.ts";
import type { Caller } from "../login/applications.ts";
import { readFilter } from "../mail/filter.ts";
import { folderOf } from "../mail/folders.ts";
import { partsOf } from "../paths.ts";
import { mailboxOf } from "../users.ts";
import type { World } from "../world.ts";

/** What a resource is about: users/{user}/messages or users/{user}/mailFolders/{folder}/messages, with a filter. */
export function readResource(world: World, caller: Caller, resource: string) {
  const [path = "", query] = resource.split(/\?(.*)/s);
  const parts = partsOf(path);
  if (parts[0]?.toLowerCase() === "me" && caller.user) parts.splice(0, 1, "users", caller.user.guid);
  const [users = "", user = "", ...rest] = parts;
  const named = rest.length === 3 && /^mailfolders$/i.test(rest[0] ?? "") ? rest[1] : undefined;
  if (!/^users$/i.test(users) || !/^messages$/i.test(rest.at(-1) ?? "") || (rest.length !== 1 && named === undefined))
    throw badRequest(`The resource '${resource}' is not supported for change notifications.`, "InvalidRequest");
  const mailbox = mailboxOf(world, user);
  const filter = new URLSearchParams(query).get("$filter");
  return {
    mailbox,
    folder: named === undefined ? undefined : folderOf(mailbox, named),
    test: filter ? readFilter(filter).test : undefined,
  };
}
