/** The store as a token sees it that is bound to a prefix of mailbox ids: other mailboxes and what is theirs do not exist. */
import { Problem } from "../shared/contract/problem.ts";
import type { Applications } from "../shared/store/sealed-applications.ts";
import type { DeliveryQuery } from "../shared/store/delivery-search.ts";
import type { Deliveries, Mailboxes, Outbox, Store } from "../shared/store/store.ts";
import { notFound } from "./http/problems.ts";

/** Methods that concern more than the mailboxes of this prefix reject with `scope`. */
export function scopedStore(store: Store, prefix: string): Store {
  const { connections, connectionSlots, refusedLogins, tokens, audit, facts, documents, measures, orderedMailboxes } =
    store;
  return {
    ...store,
    mailboxes: scopedMailboxes(store.mailboxes, prefix),
    applications: scopedApplications(store.applications, prefix),
    cursors: byMailbox(store.cursors, prefix),
    ledger: byMailbox(store.ledger, prefix),
    deliveries: scopedDeliveries(store.deliveries, prefix),
    outbox: scopedOutbox(store.outbox, prefix),
    facts: only<typeof facts>({ recent: byMailbox(facts, prefix).recent }, prefix),
    measures: only<typeof measures>(
      {
        readMailboxes: async (ids) => measures.readMailboxes(ids.map((id) => owned(id, prefix, id))),
        listRuns: measures.listRuns,
      },
      prefix,
    ),
    orderedMailboxes: only<typeof orderedMailboxes>({}, prefix),
    connections: only<typeof connections>({ read: byMailbox(connections, prefix).read }, prefix),
    connectionSlots: only<typeof connectionSlots>({ count: byMailbox(connectionSlots, prefix).count }, prefix),
    refusedLogins: only<typeof refusedLogins>({}, prefix),
    tokens: only<typeof tokens>({}, prefix),
    audit: only<typeof audit>({}, prefix),
    documents: only<typeof documents>({}, prefix),
  };
}

function scopedMailboxes(mailboxes: Mailboxes, prefix: string): Mailboxes {
  const { put, amend, get, remove } = mailboxes;
  const owns = (id: string) => id.startsWith(prefix);
  return only<Mailboxes>(
    {
      put: async (mailbox, state) => put(owned(mailbox.id, prefix, mailbox), state),
      amend: async (which, change) => owns(which.id) && amend(which, change),
      get: async (id) => (owns(id) ? get(id) : undefined),
      list: (query) => mailboxes.list({ ...query, prefix }),
      listStates: (query) => mailboxes.listStates({ ...query, prefix }),
      remove: async (id) => owns(id) && remove(id),
    },
    prefix,
  );
}

/** An application reaches every mailbox of its tenant, so a token sees only those that begin with its own prefix. */
function scopedApplications(applications: Applications, prefix: string): Applications {
  const { put, get, list, remove, countMailboxes } = applications;
  const owns = (id: string) => id.startsWith(prefix);
  return only<Applications>(
    {
      put: async (application) => {
        if (!owns(application.id)) throw notFound("application", application.id);
        return put(application);
      },
      get: async (id) => (owns(id) ? get(id) : undefined),
      list: async () => (await list()).filter(({ id }) => owns(id)),
      remove: async (id) => owns(id) && remove(id),
      countMailboxes: async (id) => (owns(id) ? countMailboxes(id) : 0),
    },
    prefix,
  );
}

function scopedDeliveries(deliveries: Deliveries, prefix: string): Deliveries {
  const get: Deliveries["get"] = async (id) => {
    const found = await deliveries.get(id);
    return found?.mailbox.startsWith(prefix) ? found : undefined;
  };
  return only<Deliveries>(
    {
      get,
      getRaw: async (id) => ((await get(id)) ? deliveries.getRaw(id) : undefined),
      save: async (delivery, raw) => deliveries.save(owned(delivery.mailbox, prefix, delivery), raw),
      list: async (query: DeliveryQuery) =>
        deliveries.list({ ...owned(query.mailbox ?? prefix, prefix, query), prefix }),
    },
    prefix,
  );
}

function scopedOutbox(outbox: Outbox, prefix: string): Outbox {
  const { recordAutomatic, getAutomaticTraffic, findByMessageId } = byMailbox(outbox, prefix);
  const get: Outbox["get"] = async (id) => {
    const found = await outbox.get(id);
    return found?.mailbox.startsWith(prefix) ? found : undefined;
  };
  return only<Outbox>(
    {
      accept: async (sending, raw, perHour) => outbox.accept(owned(sending.mailbox, prefix, sending), raw, perHour),
      get,
      getRaw: async (id) => ((await get(id)) ? outbox.getRaw(id) : undefined),
      list: async (query) => outbox.list(owned(query.mailbox, prefix, query)),
      recordAutomatic,
      getAutomaticTraffic,
      findByMessageId,
    },
    prefix,
  );
}

/** The value, if it belongs to a mailbox of the prefix. Else throws `not_found`. */
function owned<T>(mailbox: string, prefix: string, value: T): T {
  if (mailbox.startsWith(prefix)) return value;
  throw notFound("mailbox", mailbox);
}

/** An interface whose methods take the id of a mailbox first. They reject with `not_found` for the mailbox of another. */
function byMailbox<T extends object>(part: T, prefix: string): T {
  return new Proxy(part, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== "function") return method;
      return async (mailbox: string, ...rest: unknown[]) =>
        Reflect.apply(method, target, [owned(mailbox, prefix, mailbox), ...rest]);
    },
  });
}

/** An interface with these methods only. All others reject with `scope`. */
export function only<T extends object>(methods: Partial<T>, prefix: string): T {
  const refuse = async () => {
    const why = `This concerns all mailboxes, and the token is bound to those whose ids begin with ${prefix}.`;
    throw new Problem("scope", why, { retry: "never" });
  };
  // With `refuse` in the place of each missing method, the proxy has all methods of T.
  return new Proxy(methods, { get: (own, name): unknown => Reflect.get(own, name) ?? refuse }) as T;
}
