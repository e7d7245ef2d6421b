/**
 * The command line: `bun run cli <command>`. It works over the API of a running service, so it needs no access to the
 * store. The exit code is 0 when all is well, 1 when the service refuses or something failed, 2 for a wrong command.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { applicationCommands } from "./commands/application.ts";
import type { Command } from "./commands/command.ts";
import { doctorCommands } from "./commands/doctor.ts";
import { deliveryCommands } from "./commands/deliveries.ts";
import { mailboxCommands } from "./commands/mailbox.ts";
import { moveCommands } from "./commands/move-to-graph.ts";
import { sendCommands } from "./commands/send.ts";
import { tailCommands } from "./commands/tail.ts";
import { tokenCommands } from "./commands/token.ts";
import { findService } from "./service.ts";

const COMMANDS: Record<string, Command> = {
  ...mailboxCommands,
  ...moveCommands,
  ...deliveryCommands,
  ...sendCommands,
  ...tokenCommands,
  ...applicationCommands,
  ...tailCommands,
  ...doctorCommands,
};

const COMMON_OPTIONS = {
  url: { type: "string" },
  token: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;
const COMMON_HELP = `  --url <address>   the service; or EMAIL_LISTENER_URL; by default the one on this machine, by PORT and BASE_PATH
  --token <token>   its token; or EMAIL_LISTENER_TOKEN; by default the first of API_TOKENS
  --json            prints the answer of the API
  --help            explains a command`;
const PROGRAM = "bun run cli";
const [FAILED, WRONG_COMMAND] = [1, 2];

/** A command line that cannot be run. Its message says why, and how the command is used. */
class UsageError extends Error {}

async function main(argv: string[], stop: AbortSignal): Promise<number> {
  const found = findCommand(argv);
  if (!found) {
    const asked = argv.length === 0 || argv.includes("--help") || argv.includes("-h");
    if (!asked) throw new UsageError(`There is no command ${argv.slice(0, 2).join(" ")}.\n${listCommands(argv[0])}`);
    console.log(listCommands(argv[0]));
    return 0;
  }
  const { command, rest } = found;
  const { values, positionals } = parseWords(command, rest);
  if (values["help"] === true) {
    console.log(explain(command));
    return 0;
  }
  const [least, most] = command.args;
  if (positionals.length < least || positionals.length > most)
    throw new UsageError(`Usage: ${PROGRAM} ${command.usage}`);
  const [url, token] = [values["url"], values["token"]].map((value) => (typeof value === "string" ? value : undefined));
  const service = findService({ url, token });
  const { json, text, failed = false } = await command.run({ service, args: positionals, values, print, stop });
  const output = values["json"] === true ? JSON.stringify(json, null, 2) : text;
  if (output) console.log(output);
  return failed ? FAILED : 0;
}

function print(line: string): void {
  console.log(line);
}

/** The command that the first one or two words name. */
function findCommand(argv: string[]): { command: Command; rest: string[] } | undefined {
  for (const words of [2, 1]) {
    const command = COMMANDS[argv.slice(0, words).join(" ")];
    if (command) return { command, rest: argv.slice(words) };
  }
  return undefined;
}

function parseWords(command: Command, args: string[]) {
  try {
    return parseArgs({ args, options: { ...command.options, ...COMMON_OPTIONS }, allowPositionals: true });
  } catch (error) {
    throw new UsageError(`${asProblem(error).message}\n${explain(command)}`);
  }
}

function explain({ usage, summary, example }: Command): string {
  return `${PROGRAM} ${usage}\n${summary}\n\nExample: ${PROGRAM} ${example}\n\n${COMMON_HELP}`;
}

/** All commands, or those that begin with this word if there are any. */
function listCommands(first: string | undefined): string {
  const all = Object.values(COMMANDS);
  const group = all.filter(({ usage }) => usage.split(" ")[0] === first);
  const lines = (group.length > 0 ? group : all).map(({ usage, summary }) => `  ${usage}\n      ${summary}`);
  return `${PROGRAM} <command> [options]\n\n${lines.join("\n")}\n\n${COMMON_HELP}`;
}

if (import.meta.main) {
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  try {
    process.exitCode = await main(process.argv.slice(2), stop.signal);
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(error.message);
      process.exitCode = WRONG_COMMAND;
    } else {
      const problem = error instanceof Problem ? error : asProblem(error);
      console.error([problem.message, problem.fix].filter((line) => line !== "").join("\n"));
      process.exitCode = FAILED;
    }
  }
}
