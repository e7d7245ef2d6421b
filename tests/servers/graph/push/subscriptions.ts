/** Subscriptions: what they are about, how long they live, and what they are told. */
import { randomUUID } from "node:crypto";
import type * as Graph from "@microsoft/microsoft-graph-types";
import type { Test } from "../mail/filter.ts";
import { etag } from "../store/change-key.ts";
import type { Caller } from "../login/applications.ts";
import type { Folder, Happening, Mailbox } from "../store/store.ts";
import { type Deliveries, newDeliveries } from "./deliver.ts";

export type Subscription = {
  id: string;
  caller: Caller;
  mailbox: Mailbox;
  /** Undefined for all folders. */
  folder: Folder | undefined;
  test: Test | undefined;
  resource: string;
  changeType: string;
  notificationUrl: string;
  lifecycleNotificationUrl: string | undefined;
  clientState: string | undefined;
  /** Whether notifications carry the immutable id. */
  immutable: boolean;
  expiresAt: number;
};

export type LifecycleEvent = "reauthorizationRequired" | "subscriptionRemoved" | "missed";

export type Push = {
  byId: Map<string, Subscription>;
  deliveries: Deliveries;
  /** So many of the coming events are lost without a word; the server says "missed" when it is told to. */
  loses: number;
  happened(tenant: string, one: Happening): void;
  /** Tells the lifecycle address of a subscription; a removed one is no more. */
  lifecycle(tenant: string, one: Subscription, event: LifecycleEvent): void;
  /** Forgets those whose time is over. */
  expire(): void;
};

export function newPush(): Push {
  const byId = new Map<string, Subscription>();
  const deliveries = newDeliveries();
  const push: Push = {
    byId,
    deliveries,
    loses: 0,
    expire() {
      for (const one of byId.values()) if (one.expiresAt <= Date.now()) byId.delete(one.id);
    },
    happened(tenant, what) {
      push.expire();
      for (const one of byId.values()) {
        if (!isAbout(one, what)) continue;
        if (push.loses > 0) push.loses--;
        else deliveries.tell(one.notificationUrl, notification(tenant, one, what));
      }
    },
    lifecycle(tenant, one, event) {
      if (event === "subscriptionRemoved") byId.delete(one.id);
      const url = one.lifecycleNotificationUrl;
      if (url !== undefined) deliveries.tell(url, { ...envelope(tenant, one), lifecycleEvent: event });
    },
  };
  return push;
}

function isAbout(one: Subscription, { kind, message, folder }: Happening): boolean {
  if (message.folder.mailbox !== one.mailbox || (one.folder && one.folder !== folder)) return false;
  return one.changeType.split(",").includes(kind) && (one.test?.(message) ?? true);
}

function envelope(tenant: string, one: Subscription) {
  return {
    subscriptionId: one.id,
    subscriptionExpirationDateTime: new Date(one.expiresAt).toISOString(),
    tenantId: tenant,
    ...(one.clientState !== undefined && { clientState: one.clientState }),
  } satisfies Graph.ChangeNotification;
}

function notification(tenant: string, one: Subscription, { kind, message }: Happening) {
  const id = one.immutable ? message.immutableId : message.id;
  const resource = `Users/${one.mailbox.guid}/Messages/${id}`;
  return {
    ...envelope(tenant, one),
    changeType: kind,
    resource,
    resourceData: {
      "@odata.type": "#Microsoft.Graph.Message",
      "@odata.id": resource,
      "@odata.etag": etag(message),
      id,
    } as Graph.ResourceData,
  } satisfies Graph.ChangeNotification;
}

/** A new subscription with an id. */
export function addSubscription(push: Push, wish: Omit<Subscription, "id">): Subscription {
  const one = { id: randomUUID(), ...wish };
  push.byId.set(one.id, one);
  return one;
}
