/** What a runtime's test report says of each failed test: its name, and its error with stack or diff. */

/** Of one failure no more than this is shown; the whole of it stands further up in the log. */
const MOST_LINES = 60;
/** Of what is printed before a file breaks down, as Node tells it. */
const LINES_BEFORE = 30;
/** Bun's heading, between two rules, of what no test is to blame for: hooks, and a file that cannot be loaded. */
const BETWEEN = "# Unhandled error between tests";

/** Bun prints what a test printed, then its errors, then its `(fail)` line; the line after that says if it was a timeout. */
export function bunFailures(output: string): string[] {
  const failures: string[] = [];
  let block: string[] = [];
  const lines = output.split("\n");
  for (const [at, line] of lines.entries()) {
    if (line.startsWith("(fail) ")) {
      const after = lines[at + 1] ?? "";
      failures.push(bounded([line, ...(after.startsWith("  ^ ") ? [after] : []), ...block]));
    }
    const between = block.indexOf(BETWEEN);
    if (between >= 0 && between < block.length - 1 && /^-+$/.test(line)) {
      failures.push(bounded(["(between tests)", ...block.slice(between + 2)]));
      block = [];
    } else if (/^\((pass|fail|skip|todo)\) |^\S+\.test\.ts:$/.test(line)) block = [];
    else block.push(line);
  }
  return failures;
}

/** Node lists failures at its end; of a file that broke down it says only that, and why among what the file printed. */
export function nodeFailures(output: string): string[] {
  const [body = "", list = ""] = output.split(/^✖ failing tests:$/m);
  const said = body.split("\n");
  const strays = said.filter((line) => line.startsWith("ℹ Error: "));
  const failures = list
    .split(/^(?=test at )/m)
    .slice(1)
    .map((failure) => {
      const file = /^✖ (\S+\.test\.ts) \(/m.exec(failure)?.[1];
      const at = said.findIndex((line) => file !== undefined && line.startsWith(`✖ ${file} (`));
      return bounded([
        ...failure.trimEnd().split("\n"),
        ...said.slice(Math.max(0, at - LINES_BEFORE), Math.max(0, at)),
      ]);
    });
  return [...failures, ...strays];
}

/** Deno lists the errors between two headings. */
export function denoFailures(output: string): string[] {
  const list = output.split(/^ ERRORS\s*$/m)[1]?.split(/^ FAILURES\s*$/m)[0];
  return list === undefined
    ? []
    : list
        .trim()
        .split(/\n(?=\S.* => \S+:\d+:\d+$)/m)
        .map((failure) => bounded(failure.split("\n")));
}

/** For what has no report of its own: the end of what it printed. */
export function lastLines(output: string): string[] {
  return [output.trimEnd().split("\n").slice(-MOST_LINES).join("\n")];
}

/** The first line names the test; of the others the last ones are kept, where the error is. */
function bounded([name = "", ...lines]: string[]): string {
  const left = lines.length - MOST_LINES;
  return [name, ...(left > 0 ? [`  ... ${left} lines before`] : []), ...lines.slice(-MOST_LINES)].join("\n").trimEnd();
}
