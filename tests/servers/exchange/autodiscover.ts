/** Autodiscover as Exchange answers it: the POX service ([MS-OXDSCLI]) and the SOAP service ([MS-OXWSADISC]). */
import type { HttpReply, HttpRequest } from "./http.ts";
import type { Mailbox, Store } from "./store.ts";
import { at, AUTODISCOVER, child, escape, leaf, readXml, SOAP, tag, textAt, type Xml } from "./xml.ts";

/** Where an address is sent instead of being answered. */
export type Elsewhere = { address: string } | { url: string };

export type Discovery = {
  /** What is said to be the address of EWS; the server's own without it. */
  ewsUrl: string | undefined;
  /** By address, in lower case. */
  elsewhere: Map<string, Elsewhere>;
  /** The group of a mailbox, by address in lower case; "Site1" without it. */
  groups: Map<string, string>;
  pox: boolean;
  soap: boolean;
  /** Where a plain GET is sent, which is asked without a password; 404 without it. */
  redirect: string | undefined;
};

export function newDiscovery(): Discovery {
  const maps = { elsewhere: new Map<string, Elsewhere>(), groups: new Map<string, string>() };
  return { ewsUrl: undefined, ...maps, pox: true, soap: true, redirect: undefined };
}

export type DiscoveryWorld = { store: Store; discovery: Discovery; url: string; schema: string };

/** Which service a path is, if it is one and not turned off. */
export function servicePath(path: string, discovery: Discovery): "pox" | "soap" | undefined {
  if (/^\/autodiscover\/autodiscover\.xml$/i.test(path)) return discovery.pox ? "pox" : undefined;
  return /^\/autodiscover\/autodiscover\.svc$/i.test(path) && discovery.soap ? "soap" : undefined;
}

/** Answers a user who has logged in. */
export function discover(world: DiscoveryWorld, kind: "pox" | "soap", request: HttpRequest, reply: HttpReply): void {
  const document = readXml(request.body.toString("utf8"));
  const body = kind === "pox" ? poxAnswer(world, document) : soapAnswer(world, document);
  reply.whole(200, { "Content-Type": "text/xml; charset=utf-8" }, `<?xml version="1.0" encoding="utf-8"?>${body}`);
}

function found({ store, discovery }: DiscoveryWorld, address: string): Mailbox | Elsewhere | undefined {
  return discovery.elsewhere.get(address.toLowerCase()) ?? store.mailboxes.get(address.toLowerCase());
}

const POX = "http://schemas.microsoft.com/exchange/autodiscover";

function poxAnswer(world: DiscoveryWorld, document: Xml): string {
  const address = textAt(document, "Request", "EMailAddress") ?? "";
  const one = found(world, address);
  if (!one) return poxError(500, "The email address can't be found.");
  const account =
    "guid" in one
      ? [leaf("AccountType", "email"), leaf("Action", "settings"), ...protocols(world)]
      : "address" in one
        ? [leaf("Action", "redirectAddr"), leaf("RedirectAddr", one.address)]
        : [leaf("Action", "redirectUrl"), leaf("RedirectUrl", one.url)];
  const user =
    "guid" in one ? tag("User", {}, leaf("DisplayName", one.login), leaf("AutoDiscoverSMTPAddress", one.address)) : "";
  return pox(tag("Response", { xmlns: `${POX}/outlook/responseschema/2006a` }, user, tag("Account", {}, ...account)));
}

function protocols({ discovery, url }: DiscoveryWorld): string[] {
  const ews = leaf("EwsUrl", discovery.ewsUrl ?? url);
  const kinds: [string, string][] = [
    ["EXCH", "Ntlm"],
    ["EXPR", "Basic"],
  ];
  return kinds.map(([type, auth]) =>
    tag("Protocol", {}, leaf("Type", type), leaf("Server", "ex01.corp.example"), leaf("AuthPackage", auth), ews),
  );
}

function poxError(code: number, message: string): string {
  const error = tag("Error", { Time: "10:00:00.0000000", Id: "1" }, leaf("ErrorCode", code), leaf("Message", message));
  return pox(tag("Response", {}, error));
}

function pox(content: string): string {
  return tag("Autodiscover", { xmlns: `${POX}/responseschema/2006` }, content);
}

function soapAnswer(world: DiscoveryWorld, document: Xml): string {
  const request = at(document, "Body", "GetUserSettingsRequestMessage", "Request");
  const settings = (child(request, "RequestedSettings")?.children ?? []).map(({ text }) => text.trim());
  const users = (child(request, "Users")?.children ?? []).map((one) => textAt(one, "Mailbox") ?? "");
  const answers = users.map((address) => userAnswer(world, address, settings));
  const inner = [leaf("ErrorCode", "NoError"), leaf("ErrorMessage", ""), tag("UserResponses", {}, ...answers)];
  const message = tag(
    "GetUserSettingsResponseMessage",
    { xmlns: AUTODISCOVER },
    tag("Response", { "xmlns:i": "http://www.w3.org/2001/XMLSchema-instance" }, ...inner),
  );
  const version = { xmlns: "", "xmlns:h": AUTODISCOVER };
  const numbers = [leaf("h:MajorVersion", 15), leaf("h:MinorVersion", 1), leaf("h:Version", world.schema)];
  const header = tag("s:Header", {}, tag("h:ServerVersionInfo", version, ...numbers));
  return tag("s:Envelope", { "xmlns:s": SOAP }, header, tag("s:Body", {}, message));
}

function userAnswer(world: DiscoveryWorld, address: string, settings: string[]): string {
  const one = found(world, address);
  const failed = (code: string, message: string, target = "") => userResponse(code, message, target, "");
  if (!one) return failed("InvalidUser", `Invalid user: '${address}'`);
  if (!("guid" in one)) {
    return "address" in one
      ? failed("RedirectAddress", "Redirection address.", one.address)
      : failed("RedirectUrl", "Redirection URL.", one.url);
  }
  const { discovery, url } = world;
  const known: Record<string, string> = {
    ExternalEwsUrl: discovery.ewsUrl ?? url,
    InternalEwsUrl: discovery.ewsUrl ?? url,
    GroupingInformation: discovery.groups.get(address.toLowerCase()) ?? "Site1",
    EwsSupportedSchemas:
      "Exchange2007, Exchange2007_SP1, Exchange2010, Exchange2010_SP1, Exchange2010_SP2, Exchange2013",
    UserDisplayName: one.login,
    AutoDiscoverSMTPAddress: one.address,
    CasVersion: "15.01.2507.006",
  };
  const said = settings.flatMap((name) => {
    const value = known[name];
    return value === undefined
      ? []
      : [tag("UserSetting", { "i:type": "StringSetting" }, leaf("Name", name), leaf("Value", value))];
  });
  return userResponse("NoError", "No error.", "", tag("UserSettings", {}, ...said));
}

function userResponse(code: string, message: string, target: string, settings: string): string {
  return tag(
    "UserResponse",
    {},
    leaf("ErrorCode", code),
    leaf("ErrorMessage", message),
    target ? leaf("RedirectTarget", target) : tag("RedirectTarget", { "i:nil": "true" }),
    tag("UserSettingErrors", {}),
    settings,
  );
}

/** The head of a redirect that needs no password. */
export function redirected(discovery: Discovery, reply: HttpReply): void {
  if (discovery.redirect === undefined) return reply.whole(404, {}, "");
  return reply.whole(302, { Location: discovery.redirect }, `<a href="${escape(discovery.redirect)}">moved</a>`);
}
