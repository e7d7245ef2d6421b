/**
 * The Exchange library over our own transport. The library's requests go out through the session, and their errors are
 * kept as they were.
 */
import type { ExchangeService } from "ews-javascript-api";
import type { EwsLibrary } from "./library.ts";
import type { Version } from "../soap/versions.ts";

/** Sends one whole SOAP envelope. Resolves with the whole answer of a 200. */
export type Transport = (envelope: string) => Promise<string>;

/** A service object of the library over this transport. It is cheap and created for each use. */
export function createService(
  library: EwsLibrary,
  options: { url: string; version: Version; impersonated: string | null; transport: Transport },
): ExchangeService {
  const service = new library.ExchangeService(library.ExchangeVersion[options.version], library.TimeZoneInfo.Utc);
  service.Url = new library.Uri(options.url);
  // The library insists on credentials. The transport shows the real ones.
  service.Credentials = new library.WebCredentials("-", "-");
  if (options.impersonated !== null) {
    service.ImpersonatedUserId = new library.ImpersonatedUserId(
      library.ConnectingIdType.SmtpAddress,
      options.impersonated,
    );
  }
  service.XHRApi = {
    apiName: "email-listener",
    async xhr({ data }) {
      return xhrResponse(await options.transport(String(data)));
    },
    xhrStream: () => Promise.reject(new Error("The library may not open streams")),
    disconnect: () => undefined,
  };
  return service;
}

/** The parts of an XMLHttpRequest that the library reads. */
function xhrResponse(text: string) {
  return { status: 200, statusText: "OK", responseText: text, headers: {}, getAllResponseHeaders: () => "" };
}

/** A whole SOAP envelope around the content of its body, which declares its own namespaces. */
export function buildEnvelope(body: string, version: Version, impersonated: string | null): string {
  const impersonation =
    impersonated === null
      ? ""
      : `<t:ExchangeImpersonation><t:ConnectingSID><t:SmtpAddress>${impersonated.replaceAll("&", "&amp;")}</t:SmtpAddress></t:ConnectingSID></t:ExchangeImpersonation>`;
  return [
    '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"',
    ' xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"',
    ' xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">',
    `<soap:Header><t:RequestServerVersion Version="${version}"/>${impersonation}</soap:Header>`,
    `<soap:Body>${body}</soap:Body></soap:Envelope>`,
  ].join("");
}
