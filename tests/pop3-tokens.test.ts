/** A POP3 mailbox by OAuth2 whose provider ends tokens before their time: a refused one is renewed and tried once, before anything fails. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { popBody, register, toEndpoint } from "./bodies.ts";
import { numbered } from "./servers/mail.ts";
import { startPop3Server } from "./servers/pop3.ts";
import { listenOn } from "./servers/ports.ts";
import { look, nodeBeside, status } from "./stories/scene.ts";

/** Each refresh token is good for one use; the second use of one revokes all. An application that acts for itself needs none. */
async function startProvider() {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      asked.push(new URLSearchParams(Buffer.concat(parts).toString()).get("refresh_token") ?? "");
      const isGood = asked.every((token, index) => token === "" || token === `r${index + 1}`);
      const grant = { token_type: "Bearer", expires_in: 3600, access_token: `token ${asked.length}` };
      response.writeHead(isGood ? 200 : 400, { "content-type": "application/json" });
      response.end(
        JSON.stringify(isGood ? { ...grant, refresh_token: `r${asked.length + 1}` } : { error: "invalid_grant" }),
      );
    });
  });
  const port = await listenOn(server, 0);
  return { asked, url: `http://127.0.0.1:${port}/token`, stop: () => server.close() };
}

test("a POP3 token that is refused before its end is renewed once and nothing fails; where no token is accepted the mailbox asks for help", async () => {
  const provider = await startProvider();
  const pop = await startPop3Server();
  pop.addUser("ann", "token 1");
  const { service, endpoint, end } = await nodeBeside(pop, { BACKOFF_SCALE: "0.01" });
  try {
    const oauth2 = { tokenUrl: provider.url, clientId: "us", refreshToken: "r1" };
    pop.add("ann", numbered(1));
    const id = await register(
      service,
      popBody(pop, "ann", {
        receive: { auth: { user: "ann", oauth2 }, poll: { everySeconds: 10 } },
        deliver: toEndpoint(endpoint),
      }),
    );
    await endpoint.waitFor(1);
    assert.ok(pop.logins.every(({ ok }) => ok));

    pop.setPassword("ann", "token 2");
    pop.add("ann", numbered(2));
    await look(service, id);
    await endpoint.waitFor(2, 40_000);
    assert.deepEqual(provider.asked, ["r1", "r2"]);
    assert.equal(pop.logins.filter(({ ok }) => !ok).length, 1, "the refused token was shown once");
    assert.deepEqual(
      service.facts.filter(({ kind }) => kind === "mailbox.disconnected"),
      [],
    );

    pop.setPassword("ann", "none of them");
    await look(service, id);
    const { problem } = await status(service, id, "needs_attention");
    assert.equal(problem.code, "auth");
    const refused = pop.logins.filter(({ ok }) => !ok).length - 1;
    assert.ok(refused <= 6, `${refused} logins: two tokens in each of three attempts`);
    assert.deepEqual(
      provider.asked,
      provider.asked.map((_, index) => `r${index + 1}`),
      "no refresh token is used twice",
    );
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    assert.equal(pop.logins.filter(({ ok }) => !ok).length - 1, refused, "no token is shown after that");
  } finally {
    await end();
    provider.stop();
  }
});

test("validate renews a token that is refused before its end, and reports the login once", async () => {
  const provider = await startProvider();
  const pop = await startPop3Server();
  pop.addUser("ann", "token 1");
  const { service, endpoint, end } = await nodeBeside(pop, {});
  try {
    const oauth2 = { tokenUrl: provider.url, clientId: "us", clientSecret: "known to both" };
    for (const tls of ["implicit", "starttls"]) {
      const port = tls === "implicit" ? pop.tlsPort : pop.port;
      const auth = { user: "ann", oauth2 };
      const body = popBody(pop, "ann", { receive: { tls, port, auth }, deliver: toEndpoint(endpoint) });
      const validate = async () => {
        const { body: report } = await service.call("POST", "/api/v1/mailboxes/validate", body);
        return report.steps
          .filter(({ name }: { name: string }) => name === "tls" || name === "login")
          .map(({ name, ok, cause }: { name: string; ok: boolean; cause?: string }) => [name, ok, cause]);
      };
      const good = [
        ["tls", true, undefined],
        ["login", true, undefined],
      ];
      assert.deepEqual(await validate(), good);
      pop.setPassword("ann", `token ${provider.asked.length + 1}`);
      assert.deepEqual(await validate(), good);
      pop.setPassword("ann", "none of them");
      const [, login] = await validate();
      assert.deepEqual(login.slice(0, 2), ["login", false]);
      pop.setPassword("ann", `token ${provider.asked.length + 1}`);
    }
    assert.equal(provider.asked.length, 6, "one token at the start, and one more after each refusal");
  } finally {
    await end();
    provider.stop();
  }
});
