/** The words of real servers, and what the service makes of them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ProblemCode } from "../shared/contract/problem.ts";
import { toDisconnectProblem, toProblem, type Step } from "../shared/mail/problems.ts";

const NOW = Date.parse("2026-11-22T05:00:00Z");
const HOUR = 3_600_000;

type Case = [step: Step, text: string, code: ProblemCode, retry: "never" | "later" | number];
const CASES: Case[] = [
  ["login", "[AUTHENTICATIONFAILED] Invalid credentials (Failure)", "auth", "never"],
  ["login", "[AUTHENTICATIONFAILED] Authentication failed.", "auth", "never"],
  ["login", "LOGIN failed. Invalid login/password for user id bob", "auth", "never"],
  ["login", "[AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=x", "auth", "never"],
  ["login", "[ALERT] IMAP access is disabled for your domain. (Failure)", "auth_method", "never"],
  ["login", "Неверный логин или пароль", "auth", "never"],
  ["login", "Пароль не подходит", "auth", "never"],
  ["login", "Ошибка авторизации", "auth", "never"],
  ["login", "Сервер временно недоступен", "unavailable", "later"],
  ["login", "Anmeldung fehlgeschlagen: Benutzername oder Passwort falsch", "auth", "never"],
  ["login", "Identifiant ou mot de passe invalide", "auth", "never"],
  ["login", "Contraseña incorrecta", "auth", "never"],
  ["login", "Nieprawidłowa nazwa użytkownika lub hasło", "auth", "never"],
  ["login", "用户名或密码错误", "auth", "never"],
  ["login", "Es ist ein Fehler aufgetreten", "unavailable", "later"],
  ["login", "[ALERT] Too many simultaneous connections. (Failure)", "too_many_connections", "later"],
  ["login", "Maximum number of connections from user+IP exceeded", "too_many_connections", "later"],
  ["login", "[UNAVAILABLE] Maximum number of connections from user+IP exceeded", "too_many_connections", "later"],
  ["login", "Request is throttled. Suggested Backoff Time: 299961 milliseconds", "throttled", NOW + 299_961],
  ["command", "Request is throttled. Suggested Backoff Time: 299961 milliseconds", "throttled", NOW + 299_961],
  ["command", "Suggested Backoff Time: 99999999999999 milliseconds", "throttled", NOW + 24 * HOUR],
  ["command", "Account exceeded command or bandwidth limits.", "throttled", NOW + HOUR],
  ["command", "[LIMIT] IMAP command sent too fast", "throttled", "later"],
  [
    "login",
    "[ALERT] Application-specific password required: https://support.example (Failure)",
    "auth_method",
    "never",
  ],
  ["login", "[ALERT] Please log in via your web browser", "auth_method", "never"],
  ["login", "[WEBALERT https://accounts.example] Web login required. (Failure)", "auth_method", "never"],
  ["login", "Temporary System Problem.  Try again later. (Failure)", "unavailable", "later"],
  ["login", "[UNAVAILABLE] Temporary authentication failure.", "unavailable", "later"],
  ["command", "User is authenticated but not connected.", "unavailable", "later"],
  ["login", "Server Unavailable. 15", "auth_method", "later"],
  ["login", "[PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure connections.", "auth_method", "never"],
  ["login", "[CONTACTADMIN] Your account is locked", "auth", "never"],
  ["login", "[EXPIRED] Password expired", "auth", "never"],
  ["command", "[INUSE] Mailbox is locked", "unavailable", "later"],
  ["command", "[OVERQUOTA] Quota exceeded", "unavailable", "later"],
  ["login", "[ALERT] Our systems are being maintained", "unavailable", "later"],
  ["command", "[NONEXISTENT] Unknown Mailbox: Foo (Failure)", "folder", "never"],
  ["login", "AUTHENTICATE failed.", "auth", "never"],
  // Courier, Cyrus, GNU Mailutils.
  ["login", "Login failed.", "auth", "never"],
  ["login", "Login failed: authentication failure", "auth", "never"],
  ["login", "LOGIN User name or passwd rejected", "auth", "never"],
  ["login", "Login failed: user not found", "auth", "never"],
  ["login", "Login failed: generic failure", "unavailable", "later"],
  ["login", "Login failed for user bob", "auth", "never"],
  ["login", "AUTHENTICATE PLAIN authentication failed", "auth", "never"],
  ["login", "LOGIN Login error: bad login: authentication failure", "auth", "never"],
  // A reason that names no credentials.
  ["login", "Login failed: server is busy", "unavailable", "later"],
  ["login", "Authentication failed: no response from the authentication daemon", "unavailable", "later"],
  ["login", "[AUTH] Login failed: server is busy", "auth", "never"],
  ["login", "Login rejected: maximum sessions reached", "unavailable", "later"],
  ["login", "Mailbox locked, another session active", "unavailable", "later"],
  ["login", "Cannot connect to the authentication backend", "unavailable", "later"],
  ["login", "Account locked due to too many failed attempts. Try again in 15 minutes", "throttled", NOW + HOUR / 4],
  ["login", "[AUTHENTICATIONFAILED] Please wait 90 seconds before you retry", "throttled", NOW + 90_000],
  ["login", "Come back in an hour", "throttled", NOW + HOUR],
  ["login", "Too many login failures", "throttled", NOW + HOUR],
  ["command", "Daily download limit reached", "throttled", NOW + HOUR],
  ["login", "Nobody ever said this before", "unavailable", "later"],
  ["command", "Nobody ever said this before", "protocol", "later"],
];

const refusal = (text: string) =>
  Object.assign(new Error("Command failed"), { responseStatus: "NO", responseText: text });
const coded = (code: string) => Object.assign(new Error(code), { code });

describe("An IMAP server's words", () => {
  for (const [step, text, code, retry] of CASES) {
    test(`at ${step}: ${text}`, () => {
      const problem = toProblem(refusal(text), { step, now: NOW });
      assert.equal(problem.code, code);
      const at = problem.retry instanceof Date ? problem.retry.getTime() : problem.retry;
      assert.equal(at, retry);
      assert.equal(problem.evidence, text);
    });
  }

  const CODES: [string, ProblemCode][] = [
    ["ECONNREFUSED", "connect"],
    ["ECONNRESET", "connect"],
    ["NoConnection", "connect"],
    ["ETIMEDOUT", "timeout"],
    ["GREETING_TIMEOUT", "timeout"],
    ["ENOTFOUND", "dns"],
    ["EAI_AGAIN", "dns"],
    ["CERT_HAS_EXPIRED", "tls"],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", "tls"],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "tls"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "tls"],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "tls"],
    ["ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION", "tls"],
    ["STARTTLS_INJECTION", "starttls"],
    ["LiteralTooLarge", "excess"],
  ];
  for (const [code, expected] of CODES) {
    test(`${code} is ${expected}, and tried again`, () => {
      const problem = toProblem(coded(code), { step: "connect" });
      assert.deepEqual([problem.code, problem.retry], [expected, "later"]);
    });
  }

  test("a farewell says more than the broken connection after it", () => {
    assert.equal(toDisconnectProblem("Too many connections from your IP", []).code, "too_many_connections");
    const unknown = toDisconnectProblem("Connection closed. 14", []);
    assert.equal(unknown.code, "unavailable");
    assert.match(unknown.message, /Connection closed\. 14/);
    assert.equal(toDisconnectProblem("Server shutting down.", []).code, "unavailable");
    assert.equal(toDisconnectProblem(undefined, []).code, "connect");
  });

  test("that are no words of a known error come into the cause cut, and without any secret", () => {
    const problem = toProblem(new Error(`Invalid greeting p4ss word! ${"250 x\r\n".repeat(100_000)}`), {
      step: "connect",
      secrets: ["p4ss word!"],
    });
    assert.match(problem.message, /^The connection failed: Invalid greeting \[secret\] 250 x/);
    assert.ok(problem.message.length < 300);
  });
});
