/** What to ask next after an answer: the links of the OpenAPI document (https://spec.openapis.org/oas/v3.1.0#link-object). */

type Link = { name: string; operation: string; parameters?: Record<string, string>; about: string };

const ID = { id: "$response.body#/id" };
const SAME_ID = { id: "$request.path.id" };
const OF_MAILBOX: Link[] = [
  { name: "read", operation: "getMailboxesId", parameters: ID, about: "Read the mailbox and its state." },
  { name: "events", operation: "getMailboxesIdEvents", parameters: ID, about: "See what happened to it." },
  { name: "deliveries", operation: "getDeliveries", parameters: { mailbox: ID.id }, about: "List its deliveries." },
  { name: "send", operation: "postMailboxesIdMessages", parameters: ID, about: "Send a message from it." },
];
const OF_SENDING: Link[] = [
  {
    name: "result",
    operation: "getMessagesDeliveryId",
    parameters: { deliveryId: ID.id },
    about: "Read the result for each recipient.",
  },
];
const OF_APPLICATION: Link[] = [
  { name: "read", operation: "getApplicationsId", parameters: ID, about: "Read the application." },
  { name: "consent", operation: "postConsents", about: "Make a link by which a person connects a mailbox." },
];
const OF_BULK: Link[] = [
  { name: "progress", operation: "getBulkId", parameters: ID, about: "See how far it is." },
  { name: "stop", operation: "postBulkIdStop", parameters: ID, about: "Stop it." },
];
const FIRST_DELIVERY = { id: "$response.body#/items/0/id" };

/** By operation and status of the answer. */
export const LINKS: Readonly<Record<string, Readonly<Record<number, readonly Link[]>>>> = {
  postMailboxes: { 201: OF_MAILBOX },
  putMailboxesId: { 200: OF_MAILBOX, 201: OF_MAILBOX },
  getMailboxesId: { 200: OF_MAILBOX.slice(1) },
  postMailboxesDiscover: {
    200: [
      { name: "try", operation: "postMailboxesValidate", about: "Try one of the proposals with a login." },
      { name: "consent", operation: "postConsents", about: "Let the owner agree without a password." },
    ],
  },
  postMailboxesValidate: {
    200: [{ name: "register", operation: "postMailboxes", about: "Register the mailbox that works." }],
  },
  postMailboxesIdRecord: {
    200: [
      { name: "read", operation: "getMailboxesIdRecord", parameters: SAME_ID, about: "Read the record." },
      { name: "stop", operation: "postMailboxesIdRecordStop", parameters: SAME_ID, about: "Stop it before its time." },
    ],
  },
  postMailboxesIdPause: {
    200: [{ name: "resume", operation: "postMailboxesIdResume", parameters: SAME_ID, about: "Go on." }],
  },
  postMailboxesIdMessages: { 200: OF_SENDING, 202: OF_SENDING },
  getDeliveries: {
    200: [
      { name: "attempts", operation: "getDeliveriesId", parameters: FIRST_DELIVERY, about: "See each attempt of one." },
      { name: "replay", operation: "postDeliveriesIdReplay", parameters: FIRST_DELIVERY, about: "Deliver one again." },
    ],
  },
  getDeliveriesId: {
    200: [
      { name: "replay", operation: "postDeliveriesIdReplay", parameters: SAME_ID, about: "Deliver it again." },
      {
        name: "raw",
        operation: "getMessagesDeliveryIdRaw",
        parameters: { deliveryId: SAME_ID.id },
        about: "Download the message.",
      },
    ],
  },
  postDeliveriesIdReplay: {
    202: [{ name: "attempts", operation: "getDeliveriesId", parameters: SAME_ID, about: "See the new attempt." }],
  },
  getParked: { 200: [{ name: "replay", operation: "postParkedReplay", about: "Try all of it again." }] },
  postApplications: { 201: OF_APPLICATION },
  putApplicationsId: { 201: OF_APPLICATION },
  postConsents: {
    201: [
      {
        name: "mailbox",
        operation: "getMailboxesId",
        parameters: { id: "$response.body#/mailbox" },
        about: "Read the mailbox after the person has agreed.",
      },
    ],
  },
  postEndpointsPause: {
    200: [{ name: "resume", operation: "postEndpointsResume", about: "Go on." }],
  },
  postTokens: { 201: [{ name: "revoke", operation: "deleteTokensId", parameters: ID, about: "Revoke the token." }] },
  postBulk: { 202: OF_BULK },
};

/** The links of an answer as OpenAPI has them; undefined if there are none. */
export function linksOf(operationId: string, status: string): Record<string, object> | undefined {
  const links = LINKS[operationId]?.[Number(status)];
  return (
    links &&
    Object.fromEntries(
      links.map(({ name, operation, parameters = {}, about }) => [
        name,
        { operationId: operation, parameters, description: about },
      ]),
    )
  );
}
