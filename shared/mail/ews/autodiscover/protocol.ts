/**
 * The requests and answers of autodiscover: as SOAP (GetUserSettings), and as plain XML (POX) for servers that know
 * nothing else.
 */
import { findElements, type XmlElement, readElements, findText, findElement } from "../soap/elements.ts";
import { escapeXml } from "../soap/xml.ts";
import type { ServiceUrl } from "../service-url.ts";

/** What a server answers: the service URL, another address or URL to ask, or why it cannot say. */
export type AutodiscoverResponse =
  | { kind: "place"; serviceUrl: ServiceUrl }
  | { kind: "address"; address: string }
  | { kind: "url"; url: string }
  | { kind: "busy" }
  | { kind: "none"; words: string };

export type AutodiscoverRequest = {
  path: string;
  headers?: Record<string, string>;
  body: (address: string, url: string) => string;
};

const AUTODISCOVER = "http://schemas.microsoft.com/exchange/2010/Autodiscover";
const OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook";

/** GetUserSettings, for Exchange 2010 and later. */
export const SOAP: AutodiscoverRequest = {
  path: "/autodiscover/autodiscover.svc",
  headers: { SOAPAction: `"${AUTODISCOVER}/Autodiscover/GetUserSettings"` },
  body: (address, url) =>
    [
      `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:a="${AUTODISCOVER}"`,
      ' xmlns:wsa="http://www.w3.org/2005/08/addressing" xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">',
      "<soap:Header><a:RequestedServerVersion>Exchange2013</a:RequestedServerVersion>",
      `<wsa:Action>${AUTODISCOVER}/Autodiscover/GetUserSettings</wsa:Action><wsa:To>${escapeXml(url)}</wsa:To></soap:Header>`,
      "<soap:Body><a:GetUserSettingsRequestMessage><a:Request>",
      `<a:Users><a:User><a:Mailbox>${escapeXml(address)}</a:Mailbox></a:User></a:Users><a:RequestedSettings>`,
      "<a:Setting>ExternalEwsUrl</a:Setting><a:Setting>InternalEwsUrl</a:Setting><a:Setting>GroupingInformation</a:Setting>",
      "</a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></soap:Body></soap:Envelope>",
    ].join(""),
};

/** Plain old XML, for every Exchange. */
export const POX: AutodiscoverRequest = {
  path: "/autodiscover/autodiscover.xml",
  body: (address) =>
    [
      `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="${OUTLOOK}/requestschema/2006"><Request>`,
      `<EMailAddress>${escapeXml(address)}</EMailAddress>`,
      `<AcceptableResponseSchema>${OUTLOOK}/responseschema/2006a</AcceptableResponseSchema>`,
      "</Request></Autodiscover>",
    ].join(""),
};

/** Reads the answer to either request. Anything else is `none`. */
export async function parseResponse(chunks: AsyncIterable<Buffer>): Promise<AutodiscoverResponse> {
  for await (const element of readElements(chunks, { names: ["UserResponse", "Account", "Error", "Fault"] })) {
    if (element.name === "UserResponse") return parseSoapResponse(element);
    if (element.name === "Account") return parsePoxResponse(element);
    return { kind: "none", words: "an error" };
  }
  return { kind: "none", words: "not an answer of autodiscover" };
}

function parseSoapResponse(response: XmlElement): AutodiscoverResponse {
  const code = findText(response, "ErrorCode") ?? "";
  const target = findText(response, "RedirectTarget") ?? "";
  if (code === "RedirectAddress") return { kind: "address", address: target };
  if (code === "RedirectUrl") return { kind: "url", url: target };
  if (code === "ServerBusy") return { kind: "busy" };
  if (code !== "NoError") return { kind: "none", words: /^[A-Za-z]{1,40}$/.test(code) ? code : "an error" };
  const settings = new Map(
    findElements(response, "UserSetting").map((one) => [findText(one, "Name"), findText(one, "Value")]),
  );
  const url = settings.get("ExternalEwsUrl") || settings.get("InternalEwsUrl");
  if (!url) return { kind: "none", words: "The mailbox has no Exchange Web Services" };
  return { kind: "place", serviceUrl: { url, grouping: settings.get("GroupingInformation") || null } };
}

/** The protocols with service URLs, the external one first. */
const PROTOCOL_TYPES = ["EXPR", "EXHTTP", "EXCH"];

function parsePoxResponse(account: XmlElement): AutodiscoverResponse {
  const action = (findText(account, "Action") ?? "").toLowerCase();
  if (action === "redirectaddr") return { kind: "address", address: findText(account, "RedirectAddr") ?? "" };
  if (action === "redirecturl") return { kind: "url", url: findText(account, "RedirectUrl") ?? "" };
  const protocols = findElements(account, "Protocol").filter((one) => findElement(one, "EwsUrl"));
  const best = protocols.toSorted((a, b) => rank(a) - rank(b))[0];
  const url = best && findText(best, "EwsUrl");
  if (!url) return { kind: "none", words: "The mailbox has no Exchange Web Services" };
  return { kind: "place", serviceUrl: { url, grouping: findText(account, "GroupingInformation") || null } };
}

function rank(protocol: XmlElement): number {
  const at = PROTOCOL_TYPES.indexOf(findText(protocol, "Type") ?? "");
  return at === -1 ? PROTOCOL_TYPES.length : at;
}
