/**
 * Classifies why a delivery failed, by the text and the status code of a mail server. There are two tables; the text is
 * checked first.
 */
import type { BounceReason } from "../../../contract/received.ts";
import { findAddresses } from "./addresses.ts";
import { fromReplyCode } from "./status.ts";

type Rule = { reason: BounceReason; words: RegExp };

/** How much of a diagnostic is read. */
const MAX_DIAGNOSTIC = 2000;

/**
 * The first matching rule decides, so narrow rules come first. The text is in lower case, with white space as one
 * blank.
 */
const RULES: Rule[] = [
  { reason: "policy", words: /duplicate header|multiple .{0,40}headers|rfc ?5322 compliant|addresses in from/ },
  {
    reason: "spam",
    words:
      /(as|to|suspected|considered|likely|identified) (be )?spam|spam (classification|message|detected|content|score)/,
  },
  {
    reason: "mailbox_full",
    words:
      /quota|(mailbox|mail ?box|mailfolder|maildrop|inbox|mail storage)[^.]{0,30}(is |was )?full|full mailbox|boite[^.]{0,20}pleine|(not|in)[ -]?(enough|sufficient)[^.]{0,20}(space|storage)|does not have enough (disk )?space|no space left|exceed(ed|s|ing)?[^.]{0,25}(storage|disk space)|storage allocation|space has been used|local limit|too many messages|too much mail data|mailbox size limit|exceed[^.]{0,20}receiving limits|postfach[^.]{0,20}voll|buz[oó]n[^.]{0,20}lleno|over limit|mailbox exceeds|4\.2\.2|5\.2\.2/,
  },
  {
    reason: "too_large",
    words:
      /size limit|(message|mail|e-?mail)[^.]{0,20}(size|length|file)? ?(is )?too (big|large|long)|(message|mail|incoming)[^.]{0,20}size[^.]{0,40}exceed|exceed[^.]{0,40}(message|maximum|incoming|inbound|header)[^.]{0,15}(size|length)|exceed[^.]{0,30}size|max(imum)? (message )?size|length exceeds|line limit exceeded|taille (limite|maximale?)|toobig/,
  },
  {
    reason: "authentication",
    words:
      /\bspf\b|\bdkim\b|\bdmarc\b|sender policy framework|openspf|unauthenticated e?-?mail|authentication checks? failed|authentication information|not allowed to send mail\. ?_?401|domain authentication/,
  },
  {
    reason: "blocked",
    words:
      /black-?list|block-?list|blocked (using|by|for|from|due|-|see)|\bwas blocked\b|\brbl\b|dnsbl|spamhaus|spamcop|sorbs|barracudacentral|reputation|banned|invalid ip|mismatches client ip|frequency limited|ip (address )?(is )?(block|reject|listed|denied)|\bptr\b|reverse dns|reverse lookup|name lookup failed|(cannot|could not|unable to) (find|resolve) your|client host|your (ip|network|server|host|mta|sending)[^.]{0,40}(block|reject|denied|refus|listed|suspicious|spam)|helo command|ehlo|open proxy|dynamic ip|bad sender ip|access from your|not accept(ing)? (mail|connections|messages) from (your|this|dynamic|hosts)|unresolvable relay|mx records for|connection (was )?(dropped|reset)|go away|server access|user complaints|too many spam|sending spam|rate limit|too many (unwanted|errors)|: ?550 blocked|smtp error from remote (mail )?server after initial connection|transmission channel|no access from mail server|hosts? network not|isn't in my list of allowed rcpthosts \(#5\.7\.1\)|use the smtp server of your isp|sending mta|not currently accepting mail from your ip|4\.7\.1 .{0,30}greylist/,
  },
  {
    reason: "spam",
    words:
      /spam|\bbulk\b|unsolicited|\bvirus\b|malware|infected|phish|junk ?mail|content (filter|reject|denied|is not)|(message|mail) content|banned content|unacceptable content|message filtered|uribl|recurrent pattern|trojan/,
  },
  {
    reason: "mailbox_disabled",
    words:
      /(account|mailbox|mail box|user|recipient|address|e-?mail)[^.]{0,50}(disabled|suspend|inactiv|deactivat|frozen|locked|terminated|expired account|archived|discontinued|closed|no longer (accept|active|in use|avail|valid))|(inactive|disabled|suspended|deactivated|frozen|archived|locked|closed) (account|mailbox|user|recipient|address)|temporarily inactive|suspend the service|archiv[ée]e|extended inactivity|domain is disabled/,
  },
  {
    reason: "policy",
    words:
      /sender[^.]{0,40}(reject|denied|refused|invalid|not (allowed|exist|found|valid)|unknown|verif|address)|(from|envelope)[: ][^.]{0,40}(invalid|not owned|address)|mail from|\bfrom: header|invalid sender|duplicate header|relay(ing)? (access|denied|not)|(no|unable to|as a|not an open|prohibited) relay|relaying|permission to post|gateway user|batv|backscatter|local policy|policy (reasons|violation|reject)|(denied|rejected|blocked|refused) by[^.]{0,20}policy|organi[sz]ation policy|security polic|not subscribed|members-only|closed mailing list|authentication (is )?required|authrequired|notauthori[sz]ed|not authori[sz]ed|illegal attachment|attachment[^.]{0,40}(not|block|reject)|executable|rfc ?5322|non-?compliant|starttls|tls required|multiple (from|addresses)|restricted/,
  },
  {
    reason: "host_unknown",
    words:
      /(domain|host)[^.]{0,40}(does not exist|doesn't exist|not found|must exist|unknown|couldn't be found|invalid)|domain is not reachable|(unknown|no such|invalid) (host|domain)|bad destination system|name or service not known|name (service|server)[^.]{0,40}(not found|error)|null ?mx|no mx (record )?found|no smtp service|does(n't| not) accept (any )?mail|accepts no mail|unrout(e)?able (mail )?(domain|address)|no mx record|mail receiving disabled|no route for|dns records? for|name lookup failure|nxdomain|all relevant mx records|host \S{1,100} not found/,
  },
  {
    reason: "user_unknown",
    words:
      /(user|recipient|mailbox|mail box|account|address|addressee|destinataire|person|local part|alias|inbox|userid|customer|subscriber)[^.]{0,60}(unknown|not (be )?(found|exist|known|listed|valid|recogni[sz]ed|local|ok|present|an? (valid|active|known|local))|does(n't| not) (exist|have)|do(n't| not) exist|invalid|unavailable|unavaiable|not available|(could ?n.t|can.?not|could not) be found|has moved|moved to|undeliverable|incorrect|inconnu|no existe|invalide)|(unknown|invalid|no such|nonexistent|non-existent|no valid|bad|not a known|not a valid|undefined|incorrect|illegal|doubtful|no) (or |local )?(user|recipient|mailbox|mail ?box|account|address|addressee|person|e-?mail|local part|alias|destination|inbox|rcpt|one here|customer|subscriber)|(user|recipient|address)(_| )?(not ?found|unknown)|recipnotfound|recipientnotfound|badrcptto|(recipient|address)[^.]{0,12} rejected: (access denied|user|unknown|invalid|undeliverable)|all recipient addresses rejected|not (listed|our customer|a (known|valid) (user|recipient|mailbox))|no longer (here|works|employed|on server|available)|has been replaced|new (e-?mail )?address|no (one|mailbox) (here )?by that name|doesn't have an? .{0,60} account|utente|usuario|dicha persona|no account by|not have an account|can't accept user|who are you looking for|cuenta no existe|empf(ae|ä)nger|benutzer|nicht gefunden|ディレクトリには見つかりません|konto .{0,20}nicht|account unavailable|is not accepting any mail|delivery to this user|user not (on|exist)|is not (a )?(known|valid)|can't verify recipient|verification failed for|\bdestination address/,
  },
  {
    reason: "server_error",
    words:
      /\bloop(s|ing|ed)?\b|too many hops|hop count|command (died|failed|output)|mailer error|procmail|pipe to|configuration error|misconfigured|syntax error|protocol error|protocol violation|bad sequence|command not|unrecogni[sz]ed command|internal (server )?error|local error|can't create|write error|no mdb|mail system error|config error|not implemented|operating system error|transaction failed|exit (code|status)|x-unix|bare (lf|cr)|command rejected/,
  },
  {
    reason: "temporary",
    words:
      /timed? ?out|timeout|expired|try(ing)? (again|later)|too many (connection|concurrent|recipients|smtp|sessions)|trop de connexions|deferred|temporar|too long|queue|delayed|retr(y|ies)|giving up|days?\b|could(n't| not) (be )?connect|unable to connect|connect to|network|no route to host|not responding|did not respond|not reachable|connection|accept our requests|socket error|not accepting connections|unreachable|overload|busy|unavailable|system full|throttl|rate|slow|resources|greylist|lookup failure|maximum (connection|sending)|failed \d{1,4} attempts/,
  },
];

/** Words that name no cause themselves. They are checked only if the status code gives no reason either. */
const GENERIC_RULES: Rule[] = [
  {
    reason: "policy",
    words:
      /polic(y|ies)|not (permitted|allowed|accepted)|authenticat|access (is )?denied|permission|denied|prohibit|security|reject|refuse|unauthori[sz]ed|content|header|mime/,
  },
];

type StatusRule = { reason: BounceReason; status: RegExp };

/** RFC 3463, RFC 7372, RFC 7505 and the registry of enhanced status codes. */
const STATUS_RULES: StatusRule[] = [
  { reason: "user_unknown", status: /^\d\.1\.(0|1|3|4|6|9|10)$/ },
  { reason: "host_unknown", status: /^\d\.1\.2$|^5\.4\.4$|^5\.1\.10$/ },
  { reason: "policy", status: /^\d\.1\.[78]$/ },
  { reason: "mailbox_disabled", status: /^\d\.2\.1$/ },
  { reason: "mailbox_full", status: /^\d\.2\.2$/ },
  { reason: "too_large", status: /^\d\.(2\.3|3\.4)$/ },
  { reason: "temporary", status: /^4\.|^\d\.4\.[1257]$|^\d\.3\.[12]$/ },
  { reason: "server_error", status: /^\d\.(3|4|5)\./ },
  { reason: "blocked", status: /^\d\.7\.25$/ },
  { reason: "authentication", status: /^\d\.7\.2\d$/ },
  { reason: "policy", status: /^\d\.[67]\./ },
];

/** The reason of a failure. `unknown` if neither the text nor the status gives one. */
export function findReason(status: string | null, diagnostic: string | null): BounceReason {
  const words = plainWords((diagnostic ?? "").slice(0, MAX_DIAGNOSTIC));
  // The words of the server that refused count before the words of the reporting server.
  const inWords = (rules: Rule[]) => matchWords(rules, fromReplyCode(words)) ?? matchWords(rules, words);
  const inStatus = STATUS_RULES.find((rule) => rule.status.test(status ?? ""))?.reason;
  return inWords(RULES) ?? inStatus ?? inWords(GENERIC_RULES) ?? "unknown";
}

function matchWords(rules: Rule[], words: string): BounceReason | undefined {
  return rules.find((rule) => rule.words.test(words))?.reason;
}

// Words in addresses and links mean nothing: relay.example.com, blocked@example.com.
function plainWords(text: string): string {
  let plain = "";
  let at = 0;
  for (const { from, to } of findAddresses(text)) {
    plain += text.slice(at, from);
    at = to;
  }
  return (plain + text.slice(at))
    .toLowerCase()
    .replace(/(https?:\/\/[^\s/]*)\S*/g, "$1")
    .replace(/\s+/g, " ");
}
