/** The questions and answers of autodiscover: as SOAP (GetUserSettings), and as plain XML for servers that know nothing else. */
import { allWithin, type Element, elementsOf, textWithin, within } from "../soap/elements.ts";
import { escaped } from "../soap/xml.ts";
import type { Place } from "./locate.ts";

/** What a server says: where the mailbox is, under which address or where else to ask, or why it cannot tell. */
export type Answer =
  | { kind: "place"; place: Place }
  | { kind: "address"; address: string }
  | { kind: "url"; url: string }
  | { kind: "busy"; words: string }
  | { kind: "none"; words: string };

export type Question = {
  path: string;
  headers?: Record<string, string>;
  body: (address: string, url: string) => string;
};

const AUTODISCOVER = "http://schemas.microsoft.com/exchange/2010/Autodiscover";
const OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook";

/** GetUserSettings; Exchange 2010 and later. */
export const SOAP: Question = {
  path: "/autodiscover/autodiscover.svc",
  headers: { SOAPAction: `"${AUTODISCOVER}/Autodiscover/GetUserSettings"` },
  body: (address, url) =>
    [
      `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:a="${AUTODISCOVER}"`,
      ' xmlns:wsa="http://www.w3.org/2005/08/addressing" xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">',
      "<soap:Header><a:RequestedServerVersion>Exchange2013</a:RequestedServerVersion>",
      `<wsa:Action>${AUTODISCOVER}/Autodiscover/GetUserSettings</wsa:Action><wsa:To>${escaped(url)}</wsa:To></soap:Header>`,
      "<soap:Body><a:GetUserSettingsRequestMessage><a:Request>",
      `<a:Users><a:User><a:Mailbox>${escaped(address)}</a:Mailbox></a:User></a:Users><a:RequestedSettings>`,
      "<a:Setting>ExternalEwsUrl</a:Setting><a:Setting>InternalEwsUrl</a:Setting><a:Setting>GroupingInformation</a:Setting>",
      "</a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></soap:Body></soap:Envelope>",
    ].join(""),
};

/** Plain old XML; every Exchange. */
export const POX: Question = {
  path: "/autodiscover/autodiscover.xml",
  body: (address) =>
    [
      `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="${OUTLOOK}/requestschema/2006"><Request>`,
      `<EMailAddress>${escaped(address)}</EMailAddress>`,
      `<AcceptableResponseSchema>${OUTLOOK}/responseschema/2006a</AcceptableResponseSchema>`,
      "</Request></Autodiscover>",
    ].join(""),
};

/** Reads the answer to either question; anything else is `none`. */
export async function answerIn(chunks: AsyncIterable<Buffer>): Promise<Answer> {
  for await (const element of elementsOf(chunks, { names: ["UserResponse", "Account", "Error", "Fault"] })) {
    if (element.name === "UserResponse") return soapAnswer(element);
    if (element.name === "Account") return poxAnswer(element);
    return { kind: "none", words: textWithin(element, "Message") ?? textWithin(element, "faultstring") ?? "an error" };
  }
  return { kind: "none", words: "no answer of autodiscover" };
}

function soapAnswer(response: Element): Answer {
  const code = textWithin(response, "ErrorCode") ?? "";
  const target = textWithin(response, "RedirectTarget") ?? "";
  const words = [code, textWithin(response, "ErrorMessage") ?? ""].filter(Boolean).join(": ");
  if (code === "RedirectAddress") return { kind: "address", address: target };
  if (code === "RedirectUrl") return { kind: "url", url: target };
  if (code === "ServerBusy") return { kind: "busy", words };
  if (code !== "NoError") return { kind: "none", words };
  const settings = new Map(
    allWithin(response, "UserSetting").map((one) => [textWithin(one, "Name"), textWithin(one, "Value")]),
  );
  const url = settings.get("ExternalEwsUrl") || settings.get("InternalEwsUrl");
  if (!url) return { kind: "none", words: "The mailbox has no Exchange Web Services" };
  return { kind: "place", place: { url, grouping: settings.get("GroupingInformation") || null } };
}

/** Protocols that name the services, the one for outside first. */
const TYPES = ["EXPR", "EXHTTP", "EXCH"];

function poxAnswer(account: Element): Answer {
  const action = (textWithin(account, "Action") ?? "").toLowerCase();
  if (action === "redirectaddr") return { kind: "address", address: textWithin(account, "RedirectAddr") ?? "" };
  if (action === "redirecturl") return { kind: "url", url: textWithin(account, "RedirectUrl") ?? "" };
  const protocols = allWithin(account, "Protocol").filter((one) => within(one, "EwsUrl"));
  const best = protocols.toSorted((a, b) => rank(a) - rank(b))[0];
  const url = best && textWithin(best, "EwsUrl");
  if (!url) return { kind: "none", words: "The mailbox has no Exchange Web Services" };
  return { kind: "place", place: { url, grouping: textWithin(account, "GroupingInformation") || null } };
}

function rank(protocol: Element): number {
  const at = TYPES.indexOf(textWithin(protocol, "Type") ?? "");
  return at === -1 ? TYPES.length : at;
}
