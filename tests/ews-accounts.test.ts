/** Which Exchange mailboxes share connections: those with the same login, proved by the same credentials. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Auth, MailboxOf } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { accountKey, ewsAccounts } from "../shared/mail/ews/account.ts";
import { mailboxOf } from "./promises/samples.ts";

const accounts = ewsAccounts();
const SERVER = "https://mail.example.com";

const keyOf = (auth: Auth, more: Partial<MailboxOf<"ews">["receive"]> = {}) => {
  const receive = { protocol: "ews", tls: "implicit", ...more, auth } as MailboxOf<"ews">["receive"];
  return accountKey(accounts, { ...mailboxOf("a"), receive } as MailboxOf<"ews">, SERVER);
};
const app = (more: object = {}): Auth => ({
  user: "anna@example.com",
  oauth2: { tokenUrl: "https://login.example.com/token", clientId: "app", clientSecret: new Secret("s1"), ...more },
});

describe("connections to Exchange are shared", () => {
  test("by mailboxes of one application, and of one user with one password, whatever the case of his name", () => {
    assert.equal(keyOf(app()), keyOf({ ...app(), user: "berta@example.com" }));
    const password = new Secret("p");
    assert.equal(keyOf({ user: "Anna@example.com", password }), keyOf({ user: "anna@EXAMPLE.com", password }));
  });

  test("also after a refresh token was replaced", () => {
    const withToken = (token: string) => app({ refreshToken: new Secret(token) });
    assert.equal(keyOf(withToken("r1")), keyOf(withToken("r2")));
    assert.notEqual(keyOf(withToken("r1")), keyOf(app()));
  });

  test("by nobody who names the same login and gives other credentials", () => {
    const token = new Secret("t1");
    const given: Record<string, string> = {
      "the application": keyOf(app()),
      "another secret": keyOf(app({ clientSecret: new Secret("s2") })),
      "no secret": keyOf(app({ clientSecret: undefined })),
      "another token server": keyOf(app({ tokenUrl: "https://login.example.net/token" })),
      "a key": keyOf(app({ clientSecret: undefined, privateKey: new Secret("s1") })),
      "another scope": keyOf(app({ scope: "https://outlook.office365.com/.default" })),
      "a password": keyOf({ user: "app", password: new Secret("s1") }),
      "another password": keyOf({ user: "app", password: new Secret("s2") }),
      "no more than a token": keyOf({ user: "app", accessToken: token }),
      "another token": keyOf({ user: "app", accessToken: new Secret("t2") }),
      "another trust": keyOf(app(), { fingerprint: "ab".repeat(32) }),
    };
    assert.equal(new Set(Object.values(given)).size, Object.keys(given).length, JSON.stringify(given, null, 2));
  });
});
