/** Writes down what this process says with mail servers, for the mailboxes whose record is on. */
import { randomBytes } from "node:crypto";
import { asProblem } from "../contract/problem.ts";
import { hideGiven } from "../evidence/evidence.ts";
import type { OpenTap } from "../mail/net/tap.ts";
import type { Documents } from "../store/documents.ts";
import type { Emit } from "../telemetry/events.ts";
import { clock } from "../time.ts";
import { appendRecord, listRecords } from "./stored.ts";

export type Recorder = {
  openTap: OpenTap;
  /** Writes what is not written yet. */
  close(): Promise<void>;
};

/** So late a connection may notice that its record is on. Only connections that say something ask. */
const KNOWN_FOR_MS = 2_000;
const FLUSH_MS = 1_000;
/** Between two writes of one mailbox. */
const MAX_PENDING = 64 * 1024;
const LONGEST_LINE = 1_000;
/** So much of a line is looked through for secrets before it is cut. */
const LONGEST_READ = 4_000;

type Pending = { text: string; leftOut: number };

export function createRecorder(store: { documents: Documents }, node: string, emit: Emit): Recorder {
  let until = new Map<string, number>();
  let knownUntil = 0;
  const pending = new Map<string, Pending>();
  let cancelFlush: (() => void) | undefined;
  let flushing = Promise.resolve();

  const report = (error: unknown) => {
    const { code, message } = asProblem(error);
    emit({ kind: "service.failed", what: "the record of a mailbox", failure: { code, cause: message } });
  };
  const refresh = () => {
    knownUntil = clock.monotonic() + KNOWN_FOR_MS;
    listRecords(store).then(
      (items) => (until = new Map(items.map((one) => [one.mailbox, Date.parse(one.until)]))),
      // While the store is away, what was known goes on.
      () => undefined,
    );
  };
  const isOn = (id: string) => {
    if (clock.monotonic() >= knownUntil) refresh();
    return (until.get(id) ?? 0) > clock.now();
  };
  const flush = async () => {
    cancelFlush = undefined;
    const taken = [...pending];
    pending.clear();
    for (const [mailbox, { text, leftOut }] of taken) {
      const note = leftOut > 0 ? `[${leftOut} lines were left out]\n` : "";
      await appendRecord(store, mailbox, text + note).catch(report);
    }
  };
  const add = (mailbox: string, toLine: () => string) => {
    const entry = pending.get(mailbox) ?? { text: "", leftOut: 0 };
    pending.set(mailbox, entry);
    if (entry.text.length > MAX_PENDING) entry.leftOut += 1;
    else entry.text += `${toLine()}\n`;
    cancelFlush ??= clock.wakeAfter(FLUSH_MS, () => (flushing = flushing.then(flush)));
  };

  return {
    openTap({ id }, protocol, secrets) {
      const name = `${protocol}-${randomBytes(2).toString("hex")}`;
      // The next lines find out.
      isOn(id);
      return {
        isOn: () => isOn(id),
        line(from, text) {
          if (!isOn(id)) return;
          const at = new Date(clock.now()).toISOString();
          for (const one of text.slice(0, LONGEST_READ).split(/\r?\n/))
            add(id, () => {
              const shown = hideGiven(one.toWellFormed(), { secrets }).replaceAll(/\p{C}/gu, " ");
              return `${at} ${node} ${name} ${from}: ${shown.slice(0, LONGEST_LINE)}`;
            });
        },
      };
    },
    async close() {
      cancelFlush?.();
      await (flushing = flushing.then(flush));
    },
  };
}
