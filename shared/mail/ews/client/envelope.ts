/** The Exchange library over our own transport: what it asks goes out as the session says, what fails is remembered as it was. */
import type { ExchangeService } from "ews-javascript-api";
import type { EwsLibrary } from "./library.ts";

/** Versions of the schema that are spoken, the better one first; a server that does not know it says so. */
export const VERSIONS = ["Exchange2013", "Exchange2010_SP2"] as const;
export type Version = (typeof VERSIONS)[number];

/** Sends one whole SOAP envelope; resolves with the whole answer of a 200. */
export type Transport = (envelope: string) => Promise<string>;

/** A service of the library that talks over this transport; light, made for each use. */
export function serviceOver(
  library: EwsLibrary,
  by: { url: string; version: Version; impersonated: string | null; transport: Transport },
): ExchangeService {
  const service = new library.ExchangeService(library.ExchangeVersion[by.version], library.TimeZoneInfo.Utc);
  service.Url = new library.Uri(by.url);
  // The library insists on credentials; those that count are shown by the transport.
  service.Credentials = new library.WebCredentials("-", "-");
  if (by.impersonated !== null) {
    service.ImpersonatedUserId = new library.ImpersonatedUserId(library.ConnectingIdType.SmtpAddress, by.impersonated);
  }
  service.XHRApi = {
    apiName: "email-listener",
    async xhr({ data }) {
      return answerOf(await by.transport(String(data)));
    },
    xhrStream: () => Promise.reject(new Error("Streams are not the library's to open")),
    disconnect: () => undefined,
  };
  return service;
}

/** As much of an XMLHttpRequest as the library looks at. */
function answerOf(text: string) {
  return { status: 200, statusText: "OK", responseText: text, headers: {}, getAllResponseHeaders: () => "" };
}

/** A whole SOAP envelope around the content of its body, which declares its own namespaces. */
export function enveloped(body: string, version: Version, impersonated: string | null): string {
  const acting =
    impersonated === null
      ? ""
      : `<t:ExchangeImpersonation><t:ConnectingSID><t:SmtpAddress>${impersonated.replaceAll("&", "&amp;")}</t:SmtpAddress></t:ConnectingSID></t:ExchangeImpersonation>`;
  return [
    '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"',
    ' xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"',
    ' xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">',
    `<soap:Header><t:RequestServerVersion Version="${version}"/>${acting}</soap:Header>`,
    `<soap:Body>${body}</soap:Body></soap:Envelope>`,
  ].join("");
}
