/** A mailbox's own filters: which rule leaves a message out, as far as its known properties decide. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import type { FilterRule } from "../../shared/contract/picking.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import { clock } from "../../shared/time.ts";

/** A message before (`parsed` absent) and after its download. */
export type FilterInput = { ref: MessageRef; parsed?: ParsedMessage };

/** Undefined while it is not known. */
type MatchResult = boolean | undefined;

const DAY_MS = 24 * 3_600_000;
const MAX_RULE_LENGTH = 300;

/** The rule that leaves the message out, in words for a person. Undefined when no rule does, or none certainly yet. */
export function findExcludingRule({ filters }: Mailbox["receive"], message: FilterInput): string | undefined {
  const excluded = filters?.exclude?.findIndex((rule) => matches(rule, message) === true) ?? -1;
  if (excluded >= 0) return describeRule(`exclude[${excluded}]`, filters?.exclude?.[excluded]);
  const only = filters?.only;
  return only?.every((rule) => matches(rule, message) === false) ? describeRule("only", only) : undefined;
}

function describeRule(name: string, rule: unknown): string {
  return `${name} ${JSON.stringify(rule)}`.slice(0, MAX_RULE_LENGTH);
}

function matches(rule: FilterRule, { ref, parsed }: FilterInput): MatchResult {
  const { largerThanBytes, smallerThanBytes, olderThanDays, hasAttachment, automatic } = rule;
  // If the server has no date for a message, its date before the download is only when it was seen.
  const hasReliableDate = parsed !== undefined || ref.key === undefined;
  const age = clock.now() - Date.parse(ref.receivedAt);
  const results: MatchResult[] = [
    matchesAnyPattern(rule.folder, ref.folder),
    largerThanBytes === undefined || ref.size > largerThanBytes,
    smallerThanBytes === undefined || ref.size < smallerThanBytes,
    olderThanDays === undefined || (hasReliableDate ? age > olderThanDays * DAY_MS : undefined),
    rule.from === undefined || (parsed && matchesAnyPattern(rule.from, parsed.from?.address ?? "")),
    rule.subject === undefined || (parsed && matchesAnyPattern(rule.subject, parsed.subject)),
    hasAttachment === undefined || (parsed && parsed.attachments.length > 0 === hasAttachment),
    automatic === undefined || (parsed && (parsed.automatic !== null) === automatic),
  ];
  if (results.includes(false)) return false;
  return results.includes(undefined) ? undefined : true;
}

function matchesAnyPattern(patterns: FilterRule["from"], value: string): boolean {
  return (
    patterns === undefined ||
    [patterns].flat().some((pattern) => matchesGlob(pattern.toLowerCase(), value.toLowerCase()))
  );
}

/** `*` is any text, `?` any character. It takes at most the product of both lengths. */
function matchesGlob(pattern: string, value: string): boolean {
  let [at, p] = [0, 0];
  let [star, mark] = [-1, 0];
  while (at < value.length) {
    if (pattern[p] === "*") [star, mark] = [p++, at];
    else if (pattern[p] === "?" || pattern[p] === value[at]) [p, at] = [p + 1, at + 1];
    else if (star >= 0) [p, at] = [star + 1, ++mark];
    else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
