/** `cli doctor`: everything that the service needs, checked now, with what to do about what is wrong. */
import { callService, type Json } from "../service.ts";
import { cleanLine } from "../table.ts";
import { type Call, type Command, type Output, textOf } from "./command.ts";

export const doctorCommands: Record<string, Command> = {
  doctor: {
    usage: "doctor [--check <names>] [--mailbox <id> [--test-mail]] [--address <url>]",
    summary:
      "Checks everything that the service needs, or what --check names (separated by commas). --mailbox also tries one mailbox, --test-mail sends it a mail. --address tries an address of the service as a CRM has it. The exit code is 0 only if all is well.",
    example: "doctor --mailbox help-desk --test-mail",
    args: [0, 0],
    options: {
      check: { type: "string" },
      mailbox: { type: "string" },
      "test-mail": { type: "boolean" },
      address: { type: "string" },
    },
    run: examine,
  },
};

function examine({ service, values }: Call): Promise<Output> {
  const checks = textOf(values, "check")
    ?.split(",")
    .map((name) => name.trim());
  const body = { checks, mailbox: textOf(values, "mailbox"), address: textOf(values, "address") };
  return runChecks(service, { ...body, testMail: values["test-mail"] === true });
}

/** As long as the slowest check takes. */
const CHECKS_MS = 180_000;

/** Runs checks. What is printed has one line for each, with its remedy. `failed` unless the service says that all is well. */
export async function runChecks(service: Call["service"], body: object): Promise<Output> {
  const answer = await callService(service, "POST", "/diagnostics/checks", { body, waitMs: CHECKS_MS });
  const checks = (Array.isArray(answer["checks"]) ? answer["checks"] : []) as Json[];
  const failed = answer["ok"] !== true;
  const verdict = failed ? "Not all is well." : "All that was checked is well.";
  return { json: answer, text: [...checks.flatMap(describe), verdict].join("\n"), failed };
}

const WORDS: Record<string, string> = { ok: "ok", failed: "FAILED", not_run: "not run" };
const NAME_WIDTH = 14;

function describe({ name, status, detail, cause, fix, warnings, data }: Json): string[] {
  const word = (WORDS[String(status)] ?? String(status)).padEnd(8);
  const found = status === "ok" ? detail : [cause, fix && `Remedy: ${String(fix)}`].filter(Boolean).join(". ");
  const line = `${word}${String(name).padEnd(NAME_WIDTH)}${cleanLine(String(found ?? ""))}`;
  const more = (Array.isArray(warnings) ? warnings : []).map(
    (text) => `        ${"".padEnd(NAME_WIDTH)}! ${cleanLine(String(text))}`,
  );
  return [line, ...listSteps(data), ...more];
}

/** The steps of a mailbox that was tried, and those of a mail that was followed. */
function listSteps(data: unknown): string[] {
  const steps = typeof data === "object" && data !== null && "steps" in data ? data.steps : [];
  return (Array.isArray(steps) ? (steps as Json[]) : []).map(({ name, ok, ms, cause, detail }) => {
    const word = ok === false ? "FAILED" : "ok";
    const text = cleanLine(String((ok === false ? cause : detail) ?? ""));
    return `        ${"".padEnd(NAME_WIDTH)}${word.padEnd(8)}${String(name).padEnd(NAME_WIDTH)}${String(ms)} ms  ${text}`.trimEnd();
  });
}
