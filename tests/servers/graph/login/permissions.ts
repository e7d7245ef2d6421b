/** Which permissions an operation needs, and whether the caller has one of them on this mailbox. */
import { denied, GraphError } from "../answers.ts";
import type { Mailbox } from "../store/store.ts";
import type { Caller } from "./applications.ts";
import type { World } from "../world.ts";

const READ = ["Mail.Read", "Mail.ReadWrite"];

/** Any of these will do. */
const ENOUGH = {
  /** All but bodies and content. */
  basic: ["Mail.ReadBasic", "Mail.ReadBasic.All", ...READ],
  read: READ,
  write: ["Mail.ReadWrite"],
  send: ["Mail.Send"],
  translate: ["User.Read.All", "User.ReadBasic.All", "User.Read"],
  directory: ["User.Read.All", "User.ReadBasic.All", "Directory.Read.All"],
} satisfies Record<string, string[]>;

export type Need = keyof typeof ENOUGH;

/** Throws 403 unless the caller may do this with the mailbox. */
export function checkAccess(world: World, caller: Caller, mailbox: Mailbox, need: Need): void {
  const enough: readonly string[] = ENOUGH[need];
  if (caller.user) return checkUser(caller, mailbox, enough);
  const application = world.login.applications.get(caller.clientId);
  if (!application) throw denied();
  const upn = mailbox.userPrincipalName.toLowerCase();
  const byRole = application.exchangeRoles.some(
    (one) => enough.includes(one.permission) && one.mailboxes.some((address) => address.toLowerCase() === upn),
  );
  if (byRole) return;
  if (!caller.permissions.some((one) => enough.includes(one))) throw denied();
  if (application.policy && !application.policy.some((address) => address.toLowerCase() === upn))
    throw denied("Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy settings.");
}

/** Whether the caller may see bodies and content of the mailbox. */
export function mayRead(world: World, caller: Caller, mailbox: Mailbox): boolean {
  try {
    checkAccess(world, caller, mailbox, "read");
    return true;
  } catch (error) {
    if (error instanceof GraphError) return false;
    throw error;
  }
}

function checkUser(caller: Caller, mailbox: Mailbox, enough: readonly string[]): void {
  const own = caller.user === mailbox;
  const wanted = own ? enough : enough.map((one) => `${one}.Shared`);
  if (!caller.permissions.some((one) => wanted.includes(one))) throw denied();
  if (!own && !mailbox.delegates.has(caller.user?.userPrincipalName.toLowerCase() ?? "")) throw denied();
}

/** Throws 403 unless the caller may ask the directory, about this user if one is given: everybody may about himself. */
export function checkDirectory(caller: Caller, user?: Mailbox): void {
  if (user && caller.user === user && caller.permissions.includes("User.Read")) return;
  if (caller.permissions.some((one) => (ENOUGH.directory as string[]).includes(one))) return;
  throw Object.assign(denied("Insufficient privileges to complete the operation."), {
    code: "Authorization_RequestDenied",
  });
}
