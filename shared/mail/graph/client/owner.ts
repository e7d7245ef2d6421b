/** Whom a token of Graph belongs to. */
import * as v from "valibot";
import { graphRootOf } from "../../../contract/graph.ts";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { graphService } from "./service.ts";
import { createContext, createSession, type GraphDeps } from "./session.ts";

/** The user's object id, and the addresses, the usual one first. */
export type Owner = { id: string; addresses: string[] };

const Me = v.object({
  id: v.string(),
  mail: v.nullish(v.string()),
  userPrincipalName: v.nullish(v.string()),
  proxyAddresses: v.nullish(v.array(v.string())),
});

/** Asks Graph who signed in. Its answer proves it, whatever the mailbox's address says. */
export async function readOwner(deps: GraphDeps, mailbox: MailboxOf<"graph">, signal: AbortSignal): Promise<Owner> {
  const service = deps.graph ?? graphService();
  const root = graphRootOf(mailbox.receive);
  const { pool, release } = service.acquire(deps, new URL(root), mailbox.receive);
  const context = createContext({ ...deps, graph: service }, mailbox, pool);
  const session = createSession(context, { root, user: "me", release, isCurrent: () => Promise.resolve(true) });
  try {
    const path = "me?$select=id,mail,userPrincipalName,proxyAddresses";
    const { id, mail, userPrincipalName, proxyAddresses } = await session.get("Reading the account", path, Me, signal);
    const others = (proxyAddresses ?? []).flatMap((one) => /^smtp:(.*)$/i.exec(one)?.[1] ?? []);
    return { id, addresses: [mail ?? "", userPrincipalName ?? "", ...others].filter((one) => one !== "") };
  } finally {
    await session.close();
  }
}
