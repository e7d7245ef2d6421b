/**
 * Every regular expression of the sources runs over texts made to cost: long runs of each sign and word that it names, with an end that
 * does not fit. Eight times the text may cost little more than eight times the time, because most of them read what strangers write.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseSync, Visitor } from "oxc-parser";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Characters of the shorter text, how much longer the other one is, and by how much its time may grow. */
const [SHORT, LONGER, GROWTH] = [2000, 8, 24];
/** Times below are not measured, in milliseconds of the processor. */
const NOTHING = 4;
/** A shorter text that costs this much ends the search: the longer one might take hours. */
const UNBEARABLE = 400;
const SIGNS = [..." \t\n\r\0aA0=\"'<>()[]{}@,;:.-_/\\%#?!&*+|~$^"];

type Expression = { source: string; flags: string; where: string };

function expressionsIn(file: string): Expression[] {
  const code = readFileSync(join(root, file), "utf8");
  const found: Expression[] = [];
  const visitor = new Visitor({
    Literal(node) {
      if (!("regex" in node)) return;
      const { pattern: source, flags } = node.regex;
      found.push({ source, flags, where: `${file}:${code.slice(0, node.start).split("\n").length}` });
    },
  });
  visitor.visit(parseSync(file, code).program);
  return found;
}

/** What is repeated: each sign that the expression names, or all where it names classes, and its words, alone and in pairs. */
function unitsOf({ source }: Expression): string[] {
  const words = (source.match(/[A-Za-z][A-Za-z-]+/g) ?? []).filter((word) => word.length > 2).slice(0, 4);
  const named = SIGNS.filter((sign) => source.includes(sign) || /\s/.test(sign));
  const signs = [...new Set([...named, "a", "0", "!"])];
  const first = signs.slice(0, 5);
  const pairs = first.flatMap((one) => first.filter((other) => other !== one).map((other) => one + other));
  const mixed = signs.flatMap((sign) => [`${sign}a`, `${sign} a`]);
  return [...signs, ...words, ...words.flatMap((word) => first.map((sign) => word + sign)), ...pairs, ...mixed];
}

function run(expression: RegExp, text: string): void {
  expression.lastIndex = 0;
  if (expression.global) text.replace(expression, "");
  else expression.exec(text);
}

/** One run, in milliseconds of the processor. */
function costOf(expression: RegExp, text: string): number {
  const before = process.cpuUsage();
  run(expression, text);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** The least of three runs; the first that costs no more than `enough` ends it. */
function leastCostOf(expression: RegExp, text: string, enough: number): number {
  let least = Infinity;
  for (let time = 0; time < 3 && least > enough; time++) least = Math.min(least, costOf(expression, text));
  return least;
}

/** The text over which the expression takes more than linear time, undefined where none does. */
function findSlow(expression: Expression): string | undefined {
  const pattern = new RegExp(expression.source, expression.flags);
  const words = (expression.source.match(/[A-Za-z<"][A-Za-z<"=-]+/g) ?? []).slice(0, 1);
  for (const unit of unitsOf(expression)) {
    for (const before of ["", ...words]) {
      for (const end of ["\0", "\n\0"]) {
        const text = (length: number) => before + unit.repeat(Math.ceil(length / unit.length)) + end;
        const short = text(SHORT);
        if (leastCostOf(pattern, short, NOTHING) > UNBEARABLE) return `${JSON.stringify(before + unit)} repeated`;
        const long = text(SHORT * LONGER);
        const first = costOf(pattern, long);
        if (first <= NOTHING) continue;
        const small = leastCostOf(pattern, short, NOTHING);
        const limit = Math.max(small, NOTHING / LONGER) * GROWTH;
        const large = first <= limit ? first : leastCostOf(pattern, long, limit);
        if (large > limit)
          return `${JSON.stringify(before + unit)} repeated: ${small} ms, ${LONGER} times as long: ${large} ms`;
      }
    }
  }
  return undefined;
}

describe("Every expression of the sources takes linear time", () => {
  for (const top of ["shared", "worker", "api"]) {
    test(`in ${top}/`, () => {
      const files = readdirSync(join(root, top), { recursive: true, encoding: "utf8" }).filter((name) =>
        name.endsWith(".ts"),
      );
      const all = files.flatMap((name) => expressionsIn(join(top, name)));
      const unique = [...new Map(all.map((one) => [`/${one.source}/${one.flags}`, one])).values()];
      assert.ok(unique.length > 10, `${unique.length} found`);
      const slow = unique.flatMap((one) => {
        const why = findSlow(one);
        return why === undefined ? [] : [`${one.where} /${one.source}/${one.flags} ${why}`];
      });
      assert.deepEqual(slow, []);
    });
  }
});
