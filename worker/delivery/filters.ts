/** A mailbox's own filters: which rule leaves a message out, as far as that can be told from what is known of it. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import type { FilterRule } from "../../shared/contract/picking.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";

/** A message before (`parsed` absent) and after its download. */
export type Seen = { ref: MessageRef; parsed?: ParsedMessage };

/** Undefined while it cannot be told. */
type Verdict = boolean | undefined;

const DAY_MS = 24 * 3_600_000;
const RULE_LENGTH = 300;

/** The rule that leaves the message out, in words for a person; undefined when none does, or none does for certain yet. */
export function leftOut({ filters }: Mailbox["receive"], seen: Seen): string | undefined {
  const excluded = filters?.exclude?.findIndex((rule) => matches(rule, seen) === true) ?? -1;
  if (excluded >= 0) return described(`exclude[${excluded}]`, filters?.exclude?.[excluded]);
  const only = filters?.only;
  return only?.every((rule) => matches(rule, seen) === false) ? described("only", only) : undefined;
}

function described(name: string, rule: unknown): string {
  return `${name} ${JSON.stringify(rule)}`.slice(0, RULE_LENGTH);
}

function matches(rule: FilterRule, { ref, parsed }: Seen): Verdict {
  const { largerThanBytes, smallerThanBytes, olderThanDays, hasAttachment, automatic } = rule;
  // Where the server has no date of its own for a message, the one before its download is when it was seen.
  const dated = parsed !== undefined || ref.key === undefined;
  const age = Date.now() - Date.parse(ref.receivedAt);
  const verdicts: Verdict[] = [
    whole(rule.folder, ref.folder),
    largerThanBytes === undefined || ref.size > largerThanBytes,
    smallerThanBytes === undefined || ref.size < smallerThanBytes,
    olderThanDays === undefined || (dated ? age > olderThanDays * DAY_MS : undefined),
    rule.from === undefined || (parsed && whole(rule.from, parsed.from?.address ?? "")),
    rule.subject === undefined || (parsed && whole(rule.subject, parsed.subject)),
    hasAttachment === undefined || (parsed && parsed.attachments.length > 0 === hasAttachment),
    automatic === undefined || (parsed && (parsed.automatic !== null) === automatic),
  ];
  if (verdicts.includes(false)) return false;
  return verdicts.includes(undefined) ? undefined : true;
}

function whole(patterns: FilterRule["from"], value: string): boolean {
  return (
    patterns === undefined || [patterns].flat().some((pattern) => globbed(pattern.toLowerCase(), value.toLowerCase()))
  );
}

/** `*` is any text, `?` any character; never slower than the product of both lengths. */
function globbed(pattern: string, value: string): boolean {
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
