/** Whether the service is found under its own address, as clients and CRMs have it. */
import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import * as v from "valibot";
import { asProblem, isCertificateError, Problem } from "../../shared/contract/problem.ts";
import { bracketUrl } from "../../shared/contract/url.ts";
import { type IpAddress, portOfUrl } from "../../shared/egress.ts";
import { toProblem } from "../../shared/mail/problems.ts";
import { isLoopback } from "../http/client.ts";
import { type Check, type CheckCall, type Finding, notRun } from "./check.ts";
import { Identity, IDENTITY_PATH, isOwnIdentity } from "./identity.ts";

const CRM_PATH = "/api/listeners";
const MAX_ANSWER_BYTES = 16_384;
const EACH_MS = 8_000;

export const addressCheck: Check = {
  title: "The service's own address",
  seconds: 30,
  async run(call, signal) {
    const { PUBLIC_URL } = call.deps.config;
    const addresses = call.address === undefined ? PUBLIC_URL : [call.address];
    if (addresses.length === 0)
      return notRun("PUBLIC_URL is not set, so it is not known how others reach the service", giveAddress(call));
    // Without the store nobody knows the CRMs. The address can be tried all the same.
    const crmHosts = await call.survey().then(
      ({ origins }) => origins.filter(({ crm }) => crm).map(({ origin }) => new URL(origin).hostname),
      () => [],
    );
    const findings = await Promise.all(addresses.map((address) => checkAddress(call, { address, crmHosts }, signal)));
    return joinFindings(findings);
  },
};

function giveAddress({ deps: { config } }: CheckCall): string {
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const reachable = own.filter(({ internal, family }) => !internal && family === "IPv4");
  const examples = reachable.map(({ address }) => `http://${address}:${config.PORT}${config.BASE_PATH}`);
  const like = examples.length > 0 && config.PORT !== 0 ? `, for example ${examples.slice(0, 3).join(" or ")}` : "";
  return `Set PUBLIC_URL to the address that clients and the CRM use, or name it for this check${like}.`;
}

function joinFindings(findings: Finding[]): Finding {
  const failed = findings.find(({ status }) => status === "failed");
  const detail = findings.flatMap((one) => one.detail ?? []).join("; ");
  const warnings = findings.flatMap((one) => one.warnings ?? []);
  const addresses = findings.map(({ data }) => data);
  return {
    ...failed,
    status: failed ? "failed" : "ok",
    ...(detail !== "" && { detail }),
    warnings,
    data: { addresses },
  };
}

type Asked = { address: string; crmHosts: string[] };

async function checkAddress(call: CheckCall, { address, crmHosts }: Asked, signal: AbortSignal): Promise<Finding> {
  const base = baseOf(call, address);
  const isSegmented = call.deps.config.CRM_ACCESS.some(({ kind }) => kind === "path");
  const crmAddress = `${base.href.replace(/\/$/, "")}${isSegmented ? "/<segment of CRM_ACCESS>" : ""}${CRM_PATH}`;
  const data = { address: base.href, crmAddress };
  try {
    const node = await findNode(call, base, signal);
    const local = isThisMachine(base.hostname);
    const remote = crmHosts.filter((host) => !isThisMachine(host));
    if (local && remote.length > 0) {
      const cause = `${base.host} is this machine only, and the CRM at ${remote[0]} is another one: there the name means the CRM's own machine`;
      return { status: "failed", cause, fix: localFix(call), data };
    }
    const detail = `${base.href} is answered by node ${node}; a CRM's ExchangeListenerServiceUri is ${crmAddress}`;
    const localWarning = `${base.host} works for programs on this machine only. ${localFix(call)}`;
    return { status: "ok", detail, data: { ...data, node }, warnings: local ? [localWarning] : [] };
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix } = asProblem(error);
    return { status: "failed", cause: message.includes(base.host) ? message : `${base.href}: ${message}`, fix, data };
  }
}

function localFix(call: CheckCall): string {
  return `A CRM on another machine needs this machine's name or address. ${giveAddress(call)}`;
}

/** The service's address, also if the whole one for a CRM was given: without its path, and without the secret segment. */
function baseOf({ deps: { config } }: CheckCall, address: string): URL {
  const url = new URL(bracketUrl(address));
  const segments = config.CRM_ACCESS.flatMap((one) => (one.kind === "path" ? [`/${one.segment.reveal()}`] : []));
  let path = url.pathname.replace(/\/api\/listeners.*$/i, "").replace(/(?<!\/)\/+$/, "");
  for (const segment of segments) if (path.endsWith(segment)) path = path.slice(0, -segment.length);
  return new URL(`${url.protocol}//${url.host}${path || config.BASE_PATH}/`);
}

function isThisMachine(hostname: string): boolean {
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return host === "localhost" || host.endsWith(".localhost") || isLoopback(host);
}

/** The name of the node of this installation that answers there. Throws a Problem that says who or what answers instead. */
async function findNode({ deps }: CheckCall, base: URL, signal: AbortSignal): Promise<string> {
  const { probes, nodes } = deps;
  const challenge = randomBytes(24).toString("base64url");
  const url = new URL(`.${IDENTITY_PATH}?challenge=${challenge}`, base);
  const { status, location, text } = await get(probes.ownEgress, url, signal);
  if (status >= 300 && status < 400) {
    const target = URL.parse(location, url.href)?.origin ?? "another address";
    throw new Problem("protocol", `${base.host} redirects to ${target}. A CRM does not follow that`, {
      fix: "Set the address to which it redirects.",
    });
  }
  const answer = v.safeParse(Identity, parseJson(text));
  if (!answer.success) throw somebodyElse(base, `another program answers there (HTTP ${status})`);
  const { node } = answer.output;
  if (!isOwnIdentity(probes, challenge, answer.output))
    throw somebodyElse(base, `another installation of Email Listener answers there, its node ${quoted(node)}`);
  if (node !== probes.name && !nodes.known().some(({ name }) => name === node))
    throw somebodyElse(base, `a copy of this installation answers there, with the same keys: node ${quoted(node)}`);
  return node;
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function somebodyElse(base: URL, who: string): Problem {
  return new Problem("protocol", `${base.host} is not this service: ${who}`, {
    fix: "Correct PUBLIC_URL, or the name server, proxy or port forwarding that leads there.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

type Answer = { status: number; location: string; text: string };

async function get(guard: CheckCall["deps"]["probes"]["ownEgress"], url: URL, signal: AbortSignal): Promise<Answer> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(EACH_MS)]);
  const list = await guard.resolve({ host: url.hostname, port: portOfUrl(url) }, signal);
  let failure: unknown;
  for (const address of list) {
    try {
      return await getFrom(address, url, until);
    } catch (error) {
      signal.throwIfAborted();
      failure = until.aborted ? new Problem("timeout", `${url.host} did not answer in time`) : error;
      if (until.aborted) break;
    }
  }
  throw toAddressProblem(failure, url);
}

function toAddressProblem(error: unknown, url: URL): Problem {
  if (isCertificateError(error)) {
    const fix = "Give the proxy a certificate for this name that the CRM's machine trusts.";
    return new Problem("tls", `The certificate of ${url.host} is not trusted`, { fix, cause: error });
  }
  const { code, message } = toProblem(error, { step: "connect", where: url.host });
  const fix = "Check the name server, the port, the firewall, and that a proxy in front leads to this service.";
  return new Problem(code, message, { fix, cause: error });
}

function getFrom(address: IpAddress, url: URL, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const to = {
    host: address.address,
    family: address.family,
    port: portOfUrl(url),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, accept: "application/json", connection: "close" },
    agent: false as const,
    signal,
  };
  const isName = isIP(url.hostname.replace(/^\[(.*)\]$/, "$1")) === 0;
  const request =
    url.protocol === "https:" ? tlsRequest({ ...to, ...(isName && { servername: url.hostname }) }) : plainRequest(to);
  request.once("response", (response) => {
    readAnswer(response).then(resolve, reject);
  });
  request.on("error", reject);
  request.end();
  return promise.finally(() => request.destroy());
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  let text = "";
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length > MAX_ANSWER_BYTES) break;
  }
  return { status: response.statusCode ?? 0, location: response.headers.location ?? "", text };
}
