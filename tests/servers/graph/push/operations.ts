/** /subscriptions: made after the addresses have shown that they listen, renewed, listed and removed. */
import { randomUUID } from "node:crypto";
import type * as Graph from "@microsoft/microsoft-graph-types";
import { type Answer, badRequest, denied, GraphError } from "../answers.ts";
import { checkAccess } from "../login/permissions.ts";
import { jsonIn } from "../mail/folders.ts";
import type { Ask, Operation } from "../world.ts";
import { readResource } from "./resource.ts";
import { addSubscription, type Subscription } from "./subscriptions.ts";

const MINUTE = 60_000;
const LEAST_MINUTES = 45;
const MOST_MINUTES = 10_080;
const MOST_PER_MAILBOX = 1000;
const CHANGE_TYPES = ["created", "updated", "deleted"];

export const createSubscription: Operation = async (ask) => {
  const { world, caller, prefer } = ask;
  world.gate.subscribe(caller.clientId, "write");
  const wish = jsonIn<Graph.Subscription>(ask);
  const { resource, changeType, notificationUrl, lifecycleNotificationUrl, clientState } = wish;
  if (!resource || !changeType || !notificationUrl)
    throw badRequest("The resource, changeType and notificationUrl are required.", "InvalidRequest");
  const changes = changeType.split(",").map((one) => one.trim());
  if (changes.some((one) => !CHANGE_TYPES.includes(one)))
    throw badRequest(`The changeType '${changeType}' is not supported.`, "InvalidRequest");
  if ((clientState ?? "").length > 128) throw badRequest("The clientState exceeds 128 characters.", "InvalidRequest");
  if (wish.includeResourceData)
    throw badRequest("Notifications with resource data are not made here.", "InvalidRequest");
  const urls = [notificationUrl, ...(lifecycleNotificationUrl ? [lifecycleNotificationUrl] : [])];
  for (const url of urls) checkUrl(ask, url);
  const expiresAt = expiryIn(wish);
  const about = readResource(world, caller, resource);
  checkAccess(world, caller, about.mailbox, "basic");
  if (caller.user && caller.user !== about.mailbox) throw denied();
  const wanted = {
    ...about,
    caller,
    resource,
    changeType: changes.toSorted().join(","),
    notificationUrl,
    lifecycleNotificationUrl: lifecycleNotificationUrl ?? undefined,
    clientState: clientState ?? undefined,
    immutable: prefer.immutable,
    expiresAt,
  };
  checkNew(ask, wanted);
  for (const url of urls) await validate(url, world.behaviour.validationMs);
  // Another request may have come first.
  checkNew(ask, wanted);
  const one = addSubscription(world.push, wanted);
  const context = `${world.root}/v1.0/$metadata#subscriptions/$entity`;
  return {
    status: 201,
    json: { "@odata.context": context, ...subscriptionShape(one), clientState: one.clientState ?? null },
  };
};

function checkUrl({ world }: Ask, text: string): void {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const safe = url?.protocol === "https:" || (url?.protocol === "http:" && world.behaviour.plainNotifications);
  if (!safe) throw badRequest("Notification URL must use HTTPS.", "ValidationError");
}

/** When the subscription ends. Throws 400 for the past and for more than seven days. */
function expiryIn({ expirationDateTime }: Graph.Subscription): number {
  const at = Date.parse(expirationDateTime ?? "");
  const minutes = (at - Date.now()) / MINUTE;
  if (Number.isNaN(at)) throw badRequest("The expirationDateTime is missing or malformed.", "InvalidRequest");
  if (minutes <= 0) throw badRequest("Subscription expiration can only be in the future.", "InvalidRequest");
  if (minutes > MOST_MINUTES)
    throw badRequest(`Subscription expiration can only be ${MOST_MINUTES} minutes in the future.`, "InvalidRequest");
  return minutes < LEAST_MINUTES ? Date.now() + LEAST_MINUTES * MINUTE : at;
}

function checkNew({ world, caller }: Ask, wanted: Omit<Subscription, "id">): void {
  world.push.expire();
  const all = [...world.push.byId.values()].filter((one) => one.mailbox === wanted.mailbox);
  const same = all.find(
    (one) =>
      one.caller.clientId === caller.clientId &&
      one.changeType === wanted.changeType &&
      one.folder === wanted.folder &&
      one.resource.split("?")[1] === wanted.resource.split("?")[1],
  );
  if (same)
    throw new GraphError({
      status: 409,
      code: "InvalidRequest",
      message: `Subscription Id ${same.id} already exists for the requested combination.`,
    });
  if (all.length >= MOST_PER_MAILBOX)
    throw new GraphError({ status: 403, code: "ExtensionError", message: "The mailbox has too many subscriptions." });
}

const NEED = "Notification endpoint must respond with 200 OK to validation request.";

/** Asks an address whether it listens. Throws 400 when it does not answer with the token and nothing else. */
async function validate(url: string, timeoutMs: number): Promise<void> {
  const token = `Validation: Testing client application reachability for subscription Request-Id: ${randomUUID()}`;
  const address = new URL(url);
  address.searchParams.set("validationToken", token);
  const headers = { "content-type": "text/plain; charset=utf-8" };
  let answer: { status: number; type: string; text: string };
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(address, { method: "POST", headers, redirect: "manual", signal });
    const type = response.headers.get("content-type") ?? "";
    answer = { status: response.status, type, text: await response.text() };
  } catch (error) {
    const late = error instanceof Error && error.name === "TimeoutError";
    throw unvalidated(late ? " timed out." : ` failed. ${NEED}`);
  }
  if (answer.status !== 200) throw unvalidated(` failed. HTTP status code is '${answer.status}'. ${NEED}`);
  if (!/^text\/plain\b/i.test(answer.type)) throw unvalidated(` failed. The content type is '${answer.type}'. ${NEED}`);
  if (answer.text !== token) throw unvalidated(` failed. The response does not hold the validation token. ${NEED}`);
}

function unvalidated(why: string): GraphError {
  return badRequest(`Subscription validation request${why}`, "ValidationError");
}

function subscriptionShape(one: Subscription) {
  return {
    id: one.id,
    resource: one.resource,
    applicationId: one.caller.clientId,
    changeType: one.changeType,
    clientState: null,
    notificationUrl: one.notificationUrl,
    notificationQueryOptions: null,
    lifecycleNotificationUrl: one.lifecycleNotificationUrl ?? null,
    expirationDateTime: new Date(one.expiresAt).toISOString(),
    creatorId: one.caller.user?.guid ?? one.caller.clientId,
    includeResourceData: null,
    latestSupportedTlsVersion: "v1_2",
    encryptionCertificate: null,
    encryptionCertificateId: null,
  } satisfies Graph.Subscription;
}

/** The caller's own subscription that the path names. */
function named({ world, caller, named: { subscription = "" } }: Ask): Subscription {
  world.push.expire();
  const one = world.push.byId.get(subscription);
  if (one?.caller.clientId === caller.clientId) return one;
  throw new GraphError({ status: 404, code: "ResourceNotFound", message: "The object was not found." });
}

function entity({ world }: Ask, one: Subscription): Answer {
  const context = `${world.root}/v1.0/$metadata#subscriptions/$entity`;
  return { status: 200, json: { "@odata.context": context, ...subscriptionShape(one) } };
}

export const listSubscriptions: Operation = ({ world, caller }) => {
  world.gate.subscribe(caller.clientId, "read");
  world.push.expire();
  const own = [...world.push.byId.values()].filter((one) => one.caller.clientId === caller.clientId);
  const context = `${world.root}/v1.0/$metadata#subscriptions`;
  return { status: 200, json: { "@odata.context": context, value: own.map(subscriptionShape) } };
};

export const getSubscription: Operation = (ask) => entity(ask, named(ask));

export const renewSubscription: Operation = (ask) => {
  ask.world.gate.subscribe(ask.caller.clientId, "write");
  const one = named(ask);
  const wish = jsonIn<Graph.Subscription>(ask);
  one.expiresAt = expiryIn(wish);
  return entity(ask, one);
};

export const reauthorizeSubscription: Operation = (ask) => {
  ask.world.gate.subscribe(ask.caller.clientId, "write");
  named(ask);
  return { status: 204 };
};

export const deleteSubscription: Operation = (ask) => {
  ask.world.gate.subscribe(ask.caller.clientId, "write");
  ask.world.push.byId.delete(named(ask).id);
  return { status: 204 };
};
