/** A run as a table for people, and what it must keep to. */
import type { Outcome, Recovery } from "./chaos.ts";

/** The sentences that do not hold; none when all is well. */
export function broken({ result, sendings, parkedTasks }: Outcome): string[] {
  const { unfinished, twice, untaken, unreported, early } = sendings;
  const { sent, delivered, parked, duplicates, repeats, missing } = result;
  return [
    delivered + parked < sent && `${sent - delivered - parked} messages are lost: ${missing.slice(0, 10).join(", ")}`,
    duplicates > 0 && `${duplicates} messages came under more than one delivery id`,
    parkedTasks.length > 0 &&
      `${parkedTasks.length} tasks are parked, although nothing failed for good: ${parkedTasks.join("; ")}`,
    unfinished.length > 0 && `${unfinished.length} accepted messages have no end: ${some(unfinished)}`,
    twice.length > 0 && `the mail server got ${twice.length} messages twice: ${some(twice)}`,
    untaken.length > 0 && `${untaken.length} messages are marked as sent and were not taken: ${some(untaken)}`,
    unreported.length > 0 && `the endpoint did not hear of ${unreported.length} messages: ${some(unreported)}`,
    early.length > 0 && `${early.length} messages were sent before their time: ${some(early)}`,
    repeats >= sent / 100 && `${repeats} of ${sent} messages were accepted again under the same id: 1 % or more`,
  ].filter((sentence) => sentence !== false);
}

const some = (names: string[]) => names.slice(0, 10).join(", ");

export function table(outcome: Outcome, title: string): string {
  const { sent, delivered, parked, duplicates, repeats, medianMs, worstMs } = outcome.result;
  const rows: [string, string | number][] = [
    ["sent", sent],
    ["delivered", delivered],
    ["parked", parked],
    ["under several delivery ids", duplicates],
    ["accepted again under the same id", `${repeats} (${((100 * repeats) / Math.max(1, sent)).toFixed(2)} %)`],
    ["median latency", `${medianMs} ms`],
    ["worst latency", `${worstMs} ms`],
    ["requests to send that were accepted", outcome.sendings.accepted],
    ["of them sent", outcome.sendings.sent],
    ["of them unknown", outcome.sendings.unknown],
  ];
  const faults = [...Map.groupBy(outcome.recoveries, ({ fault }) => fault)].map(recoveryRow);
  const lines = [`## ${title}`, "", "| | |", "| --- | --- |", ...rows.map(([name, value]) => `| ${name} | ${value} |`)];
  const recovery = ["", "| fault | times | recovered after, at worst |", "| --- | --- | --- |", ...faults.toSorted()];
  return [...lines, ...recovery].join("\n");
}

function recoveryRow([fault, all]: [string, Recovery[]]): string {
  const times = all.map(({ recoveredMs }) => recoveredMs);
  const worst = times.includes(null) ? "more than 60 s" : `${Math.max(...times.map(Number))} ms`;
  return `| ${fault} | ${all.length} | ${worst} |`;
}
