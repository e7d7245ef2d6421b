/** Checks of mailboxes: all of them at a glance, and one of them step by step. */
import type { PreflightStep } from "../../shared/mail/mail.ts";
import { type Check, countOf, type Finding, notRun } from "./check.ts";
import { standingOf, type Survey } from "./survey.ts";

export const subscriptionsCheck: Check = {
  title: "Subscriptions",
  seconds: 40,
  async run(call) {
    const survey = await call.survey();
    const { standings, total, seen, unwell } = survey;
    if (total === 0) return notRun("No mailbox is registered", "Register one: POST /api/v1/mailboxes.");
    const data = { total, standings, unwell };
    const warnings = [
      ...(seen < total ? [`Only the first ${seen} of ${total} mailboxes were looked at`] : []),
      ...(standings.throttled > 0
        ? [`${countOf(standings.throttled, "mailbox waits", "mailboxes wait")} because the mail server asked for it`]
        : []),
      ...(standings.starting > 0
        ? [`${countOf(standings.starting, "mailbox is", "mailboxes are")} just starting`]
        : []),
    ];
    const [first] = unwell;
    if (!first) return { status: "ok", detail: describeAll(survey), warnings, data };
    const bad = standings.notListening + standings.unverified;
    const cause = `${bad} of ${countOf(total, "mailbox", "mailboxes")} ${bad === 1 ? "is" : "are"} not listened to or not verified. ${first.address}: ${first.cause}`;
    return { status: "failed", cause, fix: first.fix, warnings, data };
  },
};

function describeAll({ standings: { listening, paused, starting, throttled }, total }: Survey): string {
  const others = Object.entries({ paused, starting, throttled }).flatMap(([name, n]) =>
    n > 0 ? [`${n} ${name}`] : [],
  );
  return [`${listening} of ${countOf(total, "mailbox", "mailboxes")} listened to`, ...others].join(", ");
}

export const mailboxCheck: Check = {
  title: "One mailbox",
  seconds: 70,
  async run({ mailbox: item, deps: { mail, config } }, signal) {
    if (!item) return NO_MAILBOX;
    const { mailbox, state } = item;
    const { ok, steps } = await mail.preflightStored(mailbox, signal);
    const standing = standingOf(item, config);
    const { status, since, lastVerifiedAt, problem } = state;
    const data = {
      mailbox: mailbox.id,
      address: mailbox.address,
      standing,
      state: { status, since, lastVerifiedAt },
      steps,
    };
    const failed = steps.find((step) => !step.ok);
    if (!ok && failed) return { status: "failed", ...describeStep(failed), data };
    if (standing === "notListening" || standing === "unverified") {
      const cause =
        problem?.cause ??
        `Every step passes, but the subscription is ${standing === "unverified" ? "not verified" : status} since ${since}`;
      return { status: "failed", cause, fix: problem?.fix ?? RESUME_FIX, data };
    }
    const warnings = standing === "paused" ? ["It is paused, so its mail waits on the mail server"] : [];
    return {
      status: "ok",
      detail: `${mailbox.address}: ${countOf(steps.length, "step")} passed, ${status} since ${since}`,
      warnings,
      data,
    };
  },
};

const NO_MAILBOX = notRun("It needs `mailbox`, the id of a registered mailbox");
const RESUME_FIX = "Wait a minute. If it stays, resume the mailbox: POST /api/v1/mailboxes/{id}/resume.";

function describeStep({ name, cause = "", fix }: PreflightStep): Pick<Finding, "cause" | "fix"> {
  return { cause: `${name}: ${cause}`, ...(fix !== undefined && { fix }) };
}
