/**
 * The words of mail servers (IMAP, POP3) and what they mean. The table is data: a new text is one new row and one line in its test.
 */
import type { ProblemCode, Retry } from "../contract/problem.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** When it failed. Some words mean different things before and after login. */
export type Step = "connect" | "login" | "command";

/**
 * What a text or a code means; `fix` where the advice that goes with the code does not fit. `isUnclear`: a login was
 * refused, and the words say nothing of the reason.
 */
export type Fault = { code: ProblemCode; cause: string; fix?: string; retry?: Retry; isUnclear?: true };

type TextRule = {
  pattern: RegExp;
  /** Only at this step. When absent, at every step. */
  at?: Step;
  code: ProblemCode;
  cause: string;
  fix?: string;
  retry?: Retry | ((match: RegExpExecArray, now: number) => Retry);
};

/** Microsoft says how long to wait; an earlier attempt prolongs it. The number is bounded, as the server chooses it. */
const getSuggestedRetry = (match: RegExpExecArray, now: number) => new Date(now + Math.min(Number(match[1]), DAY));
const getRetryInAnHour = (_: RegExpExecArray, now: number) => new Date(now + HOUR);

const UNITS: Record<string, number> = { s: SECOND, m: MINUTE, h: HOUR };
/** "Try again in 15 minutes": a number (or "an", "a few") and the first letter of its unit. */
const getStatedRetry = ([, count = "", unit = ""]: RegExpExecArray, now: number) => {
  const times = /^\d+$/.test(count) ? Number(count) : /few|several|some/i.test(count) ? 5 : 1;
  return new Date(now + Math.min(times * (UNITS[unit.toLowerCase()] ?? MINUTE), DAY));
};

const TRY_AGAIN =
  /\b(?:try|retry|wait|again|come back)\b[^.\d]{0,40}?\b(\d{1,6}|an?|one|an? few|few|several|some)[ -]?(s|m|h)(?:ec|econd|in|inute|our|r)?s?\b/i;
const NEEDS_TLS =
  "Set `receive.tls` to `starttls`, or to `implicit` with the TLS port: the server takes no password without TLS.";

/**
 * "Login failed" means the credentials only if no other reason follows. Courier, Exchange, Cyrus, Dovecot and many others
 * say no more where a password is wrong.
 */
const FAILED_LOGIN =
  "\\b(log-?in|log ?on|authenticat(e|ion)|sign-?in)( is| was)? (failed|failure|rejected|refused|denied|unsuccessful|incorrect|invalid|error)";
const NO_REASONS = [
  "log-?in|log|on|authenticate|authentication|auth|sign-?in|imap|pop3?|failed|failure|rejected|refused|denied|unsuccessful",
  "incorrect|invalid|bad|wrong|error|for|your|the|this|these|user|username|userid|uid|id|name|account|password|passwd|pass",
  "plain|sasl|apop|ntlm|xoauth2|oauthbearer|cram-md5|digest-md5|scram-sha-1|scram-sha-256",
  "credentials|and|or|is|was|are|be|may|please|check|sorry|given|provided|supplied|entered",
].join("|");
const FOR_WHOM = "(\\W+for (user|account|mailbox)\\W+\\S+|\\W+for \\S+@\\S+)?";

/** "Wrong password" in other languages: what is wrong, and that it is, in any order. */
const CREDENTIALS =
  "парол|логин|логін|имя пользователя|имени пользователя|уч[её]тн|passwort|kennwort|benutzername|zugangsdaten|anmeldedaten|mot de passe|identifiant|utilisateur|contraseña|usuario|credencia|senha|usuário|credenziali|utente|hasł|użytkownik|heslo|şifre|密码|密碼|帐号|账号|用户名|パスワード";
const ARE_WRONG =
  "неверн|неправильн|невірн|ошибочн|недействительн|falsch|ungültig|nicht korrekt|incorrect|invalid|inválid|erron|errón|erroné|errat|errad|incorret|no válid|non valid|nieprawidłow|niepoprawn|błędn|neplatn|nesprávn|hatalı|yanlış|geçersiz|не подход|не соответств|错误|不正确|无效|有误|違い|誤り|正しくあり";
const LOGIN_FAILED =
  "anmeldung (ist )?fehlgeschlagen|authentifizierung (ist )?fehlgeschlagen|(ошибка|сбой) (аутентификации|авторизации)|(аутентификация|авторизация) не (удалась|пройдена)|échec (de l['’]authentification|de la connexion)|(error|fallo) de autenticación|falha (na|de) autenticação|autenticazione (fallita|non riuscita)";

/** The first matching row wins, so certain and temporary ones come before general ones. */
export const TEXT_RULES: readonly TextRule[] = [
  {
    pattern: /Suggested Backoff Time[:=\s]+(\d+)/i,
    code: "throttled",
    cause: "The server asks to wait before the next request",
    retry: getSuggestedRetry,
  },
  { pattern: TRY_AGAIN, code: "throttled", cause: "The server says when to try again", retry: getStatedRetry },
  // Gmail allows 2.5 GB a day. Further attempts prolong the lock.
  {
    pattern:
      /exceeded (command or )?bandwidth limits|exceeded .{0,100}(download|bandwidth|transfer|daily) (limit|quota)|(download|bandwidth|transfer|daily) (limit|quota|allowance) .{0,20}(exceeded|reached|used up)/i,
    code: "throttled",
    cause: "The account used up its bandwidth for now",
    retry: getRetryInAnHour,
  },
  {
    pattern:
      /too many (simultaneous |concurrent |open )?(connections|sessions|logins)|max(imum)? (number of )?connections|connection limit|(connections|sessions) exceeded/i,
    code: "too_many_connections",
    cause: "The server allows no more connections for this account or address",
  },
  {
    pattern:
      /too many (failed |invalid |bad |unsuccessful |wrong |incorrect )*(log-?ins?|logons?|authentications?|auth|passwords?|sign-?ins?)? ?(attempts|failures|tries)|login frequency limited|temporarily (locked|blocked)/i,
    at: "login",
    code: "throttled",
    cause: "The server lets nobody log in to this account for a while, after failed attempts",
    retry: getRetryInAnHour,
  },
  {
    pattern: /application-specific password|app(lication)?[ -]password (is )?required/i,
    code: "auth_method",
    cause: "The provider wants an app password instead of the account's own",
    retry: "never",
  },
  {
    pattern: /WEBALERT|web login required|log in via your web browser/i,
    code: "auth_method",
    cause: "The provider wants a person to log in with a browser once",
    retry: "never",
  },
  // Microsoft 365 says this if only OAuth2 is allowed, and also in a real outage.
  {
    pattern: /Server Unavailable\. ?15/i,
    code: "auth_method",
    cause: "The server is unavailable for this way to log in; Microsoft 365 says so if it allows only OAuth2",
  },
  {
    pattern: /authenticated but not connected/i,
    code: "unavailable",
    cause:
      "The login was accepted but no mailbox opened: wrong mailbox name, missing full access or scope, or too many connections",
  },
  {
    pattern: /basic auth\w* is (disabled|blocked|not)/i,
    code: "auth_method",
    cause: "The server accepts no password on this connection",
    retry: "never",
  },
  {
    pattern: /LOGINDISABLED|Login is disabled|\[PRIVACYREQUIRED\]|plaintext auth\w* (disallowed|disabled)/i,
    code: "auth_method",
    cause: "The server accepts no password on a connection without TLS",
    fix: NEEDS_TLS,
    retry: "never",
  },
  {
    pattern: /No matching authentication method|Unsupported authentication mechanism/i,
    code: "auth_method",
    cause: "The server offers none of the ways to log in that these credentials allow",
    retry: "never",
  },
  {
    pattern: /Request is throttled|sent too fast|rate limit|\[THROTTLED\]|too many (requests|commands)/i,
    code: "throttled",
    cause: "The server asks to slow down",
  },
  // POP3 opens a maildrop for one session at a time (RFC 2449 section 8.1.1).
  {
    pattern:
      /\[IN-USE\]|(maildrop|mail drop|mailbox).{0,20}(already|is|being) .{0,20}(locked|in use|open)|(lock|busy).{0,20}(maildrop|mailbox)|(locked|used|opened) by another|another (session|connection|process|client)/i,
    at: "login",
    code: "unavailable",
    cause: "Another program has this mailbox open",
  },
  { pattern: /\[LOGIN-DELAY\]/i, code: "throttled", cause: "The server wants more time between logins" },
  {
    pattern: /(credentials|password|log-?in)\b.{0,20}\bor (IMAP|POP3?) is (disabled|not enabled)/i,
    code: "auth",
    cause: "The server refused user name or password, or has this protocol switched off for the account",
    fix: "Check user name and password, and in the provider's settings of the account that IMAP or POP3 is switched on.",
    retry: "never",
  },
  {
    pattern: /not enabled for IMAP|IMAP (access|service)? ?(is )?(disabled|not enabled)/i,
    code: "auth_method",
    cause: "The provider has IMAP switched off for this account",
    fix: "Switch IMAP on in the provider's settings of the account, or let its administrator do so.",
    retry: "never",
  },
  {
    pattern: /not enabled for POP|POP(3)? (access|service)? ?(is )?(disabled|not enabled)/i,
    code: "auth_method",
    cause: "The provider has POP3 switched off for this account",
    fix: "Switch POP3 on in the provider's settings of the account, or let its administrator do so.",
    retry: "never",
  },
  { pattern: /\[SYS\/TEMP\]/i, code: "unavailable", cause: "The server has a temporary problem" },
  {
    pattern: /\[SYS\/PERM\]/i,
    code: "unavailable",
    cause: "The server cannot open this mailbox until its operator fixes it",
    retry: "never",
  },
  {
    pattern:
      /\[UNAVAILABLE\]|\[INUSE\]|\[SERVERBUG\]|temporar(y|ily)|internal (server )?error|shutting down|system (is )?busy|maintenance|overload|out of service|service (is )?(currently )?(unavailable|not available)/i,
    code: "unavailable",
    cause: "The server has a temporary problem",
  },
  // Cyrus SASL says "generic failure" where its own database or service fails.
  {
    pattern:
      /generic failure|\b(backend|back-end|database|ldap|directory|sql)\b|(cannot|could not|unable to|failed to) (connect|contact|reach|open)|connection (refused|failed|timed out)|timed? ?out/i,
    at: "login",
    code: "unavailable",
    cause: "The server could not check the login",
  },
  { pattern: /\[LIMIT\]/i, code: "throttled", cause: "A limit of the server was reached" },
  { pattern: /\[OVERQUOTA\]/i, code: "unavailable", cause: "The mailbox is over its quota" },
  {
    pattern: /\[EXPIRED\]/i,
    code: "auth",
    cause: "The password has expired",
    fix: "Set a new password at the provider, then save the mailbox with it.",
    retry: "never",
  },
  {
    pattern: /\[(AUTHENTICATIONFAILED|AUTHORIZATIONFAILED)\]/i,
    code: "auth",
    cause: "The server refused user name or password",
    retry: "never",
  },
  // RFC 3206 section 4.
  { pattern: /\[AUTH\]/, code: "auth", cause: "The server refused user name or password", retry: "never" },
  {
    pattern: /\[CONTACTADMIN\]/i,
    code: "auth",
    cause: "The server's operator must unlock this account",
    fix: "Ask the server's operator to unlock the account, then save the mailbox again.",
    retry: "never",
  },
  {
    pattern: new RegExp(
      [
        "(invalid|bad|incorrect|wrong|unknown|unrecogni[sz]ed|no such) (credentials?|log-?in|user|account|password|passwd|mailbox name)",
        "(user|log-?in ?names?|account|password|passwd|passphrase|credentials?)( ?names?)?\\b.{0,30}\\b(incorrect|invalid|wrong|rejected|refused|mismatch|unknown|expired|not (valid|correct|accepted|match|found|recogni[sz]ed|known))",
        `^(?=.*${FAILED_LOGIN})(\\s*\\[[^[\\]]*\\])*(\\W*\\b(${NO_REASONS})\\b)+${FOR_WHOM}\\W*$`,
        "(account|user|mailbox) (is |has been )?(disabled|suspended|locked|blocked|closed|deactivated)",
      ].join("|"),
      "i",
    ),
    at: "login",
    code: "auth",
    cause: "The server refused user name or password",
    retry: "never",
  },
  {
    pattern: new RegExp(
      `(${CREDENTIALS}).{0,40}(${ARE_WRONG})|(${ARE_WRONG}).{0,40}(${CREDENTIALS})|${LOGIN_FAILED}`,
      "iu",
    ),
    at: "login",
    code: "auth",
    cause: "The server refused user name or password",
    retry: "never",
  },
  { pattern: /try again later/i, code: "unavailable", cause: "The server has a temporary problem" },
  {
    pattern: /\[ALERT\]/i,
    at: "login",
    code: "unavailable",
    cause: "The server has a message for the account's owner",
  },
  {
    pattern: /\[NONEXISTENT\]|\[TRYCREATE\]/i,
    at: "command",
    code: "folder",
    cause: "There is no such folder",
    retry: "never",
  },
];
