/** The service behind a real nginx, with the configuration of docs/proxy.md: TLS, a path, large bodies, streams, the caller's address. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { exampleBody } from "./bodies.ts";
import { documentsOf, ROOT } from "./deploy/manifests.ts";
import { type Certificates, makeCertificates } from "./servers/certificates.ts";
import { freePorts } from "./servers/ports.ts";
import { listening, type Program, removeFolder, startProgram, temporaryFolder } from "./servers/program.ts";
import { findUnpacked, NGINX } from "./servers/unpack.ts";
import { type Service, startService, TOKEN } from "./service.ts";

const page = readFileSync(join(ROOT, "docs/proxy.md"), "utf8");
const [, server = ""] = /^```nginx\n([^]*?)^```$/m.exec(page) ?? [];
const [, settings = ""] = /^```sh\n([^]*?)^```$/m.exec(page) ?? [];

let certificates: Certificates;
let service: Service;
let nginx: Program | undefined;
let folder = "";
let port = 0;

before(async () => {
  folder = await temporaryFolder("nginx");
  certificates = await makeCertificates();
  // The proxy has an address of its own, so that callers have others.
  const env = Object.fromEntries(
    [...settings.matchAll(/^(\w+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
  );
  service = await startService({ ...env, TRUSTED_PROXIES: "127.0.0.2" });
  const root = await findUnpacked(NGINX);
  if (root === undefined) return;
  [port = 0] = await freePorts(1);
  writeFileSync(join(folder, "cert.pem"), certificates.server.cert);
  writeFileSync(join(folder, "key.pem"), certificates.server.key);
  writeFileSync(join(folder, "nginx.conf"), configuration());
  nginx = await startProgram(join(root, "usr/sbin/nginx"), ["-p", folder, "-c", join(folder, "nginx.conf")]);
  await listening(nginx, port);
});
after(async () => {
  await nginx?.kill();
  await service.end();
  await removeFolder(folder);
});

/** The page's server, on this port, with these certificates and this upstream. */
function configuration(): string {
  const changes: [string, string][] = [
    ["listen 443 ssl;", `listen 127.0.0.1:${port} ssl;`],
    ["/etc/nginx/mail.example.com.pem", "cert.pem"],
    ["/etc/nginx/mail.example.com.key", "key.pem"],
    ["proxy_pass http://127.0.0.1:10000;", `proxy_bind 127.0.0.2; proxy_pass ${new URL(service.url).origin};`],
  ];
  const here = changes.reduce((text, [old, changed]) => {
    assert.ok(text.includes(old), old);
    return text.replace(old, () => changed);
  }, server);
  const places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${name};`);
  return `daemon off; master_process off; pid pid; error_log stderr; events {}
http { access_log off; ${places.join(" ")}
${here}}`;
}

type Call = { method?: string; body?: string; headers?: Record<string, string>; from?: string };

/** Sends a request through the proxy, from an address of this machine. */
async function send(
  path: string,
  { method = "GET", body, headers = {}, from = "127.0.0.1" }: Call = {},
): Promise<IncomingMessage> {
  const sent = request({
    host: "127.0.0.1",
    servername: "localhost",
    port,
    path,
    method,
    ca: certificates.ca,
    localAddress: from,
    headers: {
      host: `localhost:${port}`,
      authorization: `Bearer ${TOKEN}`,
      "content-type": "application/json",
      ...headers,
    },
  });
  sent.end(body);
  const [answer] = await once(sent, "response");
  return answer;
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of answer) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString();
}

describe("behind nginx, as docs/proxy.md sets it up", () => {
  test("pages and API are under the path, over TLS", async (t) => {
    if (!nginx) return t.skip("no nginx");
    const pages = await Promise.all(
      ["/mail/healthz", "/mail/docs", "/mail/api/v1/mailboxes"].map((path) => send(path)),
    );
    assert.deepEqual(
      pages.map(({ statusCode }) => statusCode),
      [200, 200, 200],
    );
    await Promise.all(pages.map(textOf));
    const outside = await send("/healthz");
    assert.equal(outside.statusCode, 404);
    assert.match(await textOf(outside), /nginx/);
  });

  test("an event comes through while the stream stays open", async (t) => {
    if (!nginx) return t.skip("no nginx");
    const stream = await send("/mail/api/v1/events");
    assert.equal(stream.statusCode, 200);
    const created = await send("/mail/api/v1/mailboxes", {
      method: "POST",
      body: JSON.stringify({ ...exampleBody(), id: "streamed", send: { host: "smtp.example.com" } }),
    });
    assert.equal(created.statusCode, 201, await textOf(created));
    let seen = "";
    for await (const part of stream) {
      seen += String(part);
      if (/mailbox\.registered.*"streamed"|"streamed".*mailbox\.registered/s.test(seen)) break;
    }
    assert.match(seen, /mailbox\.registered/);
    stream.destroy();
  });

  test("a message with large attachments reaches the service", async (t) => {
    if (!nginx) return t.skip("no nginx");
    // Only who has read all of it finds the mistake.
    const body = JSON.stringify({ text: "x".repeat(8 * 2 ** 20), subject: "large", to: [] });
    const answer = await send("/mail/api/v1/mailboxes/streamed/messages", { method: "POST", body });
    assert.deepEqual([answer.statusCode, JSON.parse(await textOf(answer)).code], [422, "invalid"]);
  });

  test("the service sees the caller's address, whatever the caller says about itself", async (t) => {
    if (!nginx) return t.skip("no nginx");
    const headers = { authorization: "Bearer wrong", "x-forwarded-for": "198.51.100.7", forwarded: "for=198.51.100.7" };
    const answer = await send("/mail/api/v1/mailboxes", { from: "127.0.0.3", headers });
    assert.equal(answer.statusCode, 401);
    await textOf(answer);
    const refused = () => service.facts.find(({ kind }) => kind === "access.refused");
    assert.equal((await service.until("the refusal", refused))["address"], "127.0.0.3");
  });
});

describe("behind an ingress", () => {
  test("the annotations allow what nginx must allow", () => {
    const [ingress] = documentsOf("k8s/components/ingress/ingress.yaml");
    const size = /client_max_body_size (\w+);/.exec(server)?.[1];
    const seconds = /proxy_read_timeout (\d+)s;/.exec(server)?.[1];
    assert.deepEqual(ingress.metadata.annotations, {
      "nginx.ingress.kubernetes.io/proxy-body-size": size,
      "nginx.ingress.kubernetes.io/proxy-buffering": "off",
      "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
      "nginx.ingress.kubernetes.io/proxy-read-timeout": seconds,
    });
  });
});
