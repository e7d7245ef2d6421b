/** How one server tells untruths: by chance while it lies, and for good about some of its messages. Repeatable by its seed. */
import type { Random } from "../chaos/random.ts";
import type { StoredFolder, StoredMessage } from "./imap-server.ts";

/** What the server does about a message for good; such a message can only be parked. */
export type Grudge = "cut" | "hang" | "refuse" | "omit" | "empty" | "short";
const GRUDGES: readonly Grudge[] = ["cut", "hang", "refuse", "omit", "empty", "short"];

export type Traits = {
  idle: boolean;
  /** A folder that is listed and not opened. */
  locked: string | undefined;
  uidValidity: boolean;
  uidNext: "told" | "absent" | "ahead";
  sizes: "true" | "zero" | "absent" | "more";
  dates: "true" | "past" | "future" | "none" | "any";
};

export type Rows = { now: Buffer[]; late: Buffer[]; cut?: number };

export type Liar = {
  readonly traits: Traits;
  startLying(): void;
  /** From then on it tells the truth about all but its grudges. */
  stopLying(): void;
  grudgeAgainst(content: string): void;
  hasGrudge(content: string): boolean;
  fateOf(command: string): "hang" | "refuse" | "cut" | undefined;
  numbersOf(folder: StoredFolder): { uidValidity: number | undefined; uidNext: number | undefined };
  dateOf(message: StoredMessage): number | undefined;
  hidesFromSearch(message: StoredMessage): boolean;
  rowsOf(message: StoredMessage, sequence: number, items: string): Rows | "cut" | "hang" | "refuse";
};

/** Each message is lied about so often at most: a server that lies for ever cannot be told from one that is right. */
const MOST_LIES = 2;
const DAY_MS = 86_400_000;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export function createLiar(random: Random, traits: Traits): Liar {
  const told = new Map<string, number>();
  const grudges = new Map<string, Grudge>();
  const dates = new Map<string, number | undefined>();
  let lying = false;
  /** Whether to lie this time about this. */
  const lies = (about: string, chance: number): boolean => {
    const times = told.get(about) ?? 0;
    if (!lying || times >= MOST_LIES || random.next() >= chance) return false;
    told.set(about, times + 1);
    return true;
  };
  const dateOf = ({ content, receivedAt }: StoredMessage) => {
    if (traits.dates === "true") return receivedAt;
    if (!dates.has(content)) dates.set(content, chooseDate(random, traits.dates, receivedAt));
    return dates.get(content);
  };

  return {
    traits,
    startLying: () => void (lying = true),
    stopLying: () => void (lying = false),
    grudgeAgainst: (content) => void grudges.set(content, random.pick(GRUDGES)),
    hasGrudge: (content) => grudges.has(content),
    fateOf: (command) =>
      lies(`command ${command}`, 0.02) ? random.pick(["hang", "refuse", "cut"] as const) : undefined,
    numbersOf: ({ uidValidity, uidNext }) => ({
      uidValidity: traits.uidValidity ? uidValidity : undefined,
      uidNext: traits.uidNext === "absent" ? undefined : traits.uidNext === "ahead" && lying ? uidNext + 1 : uidNext,
    }),
    dateOf,
    hidesFromSearch: ({ content }) => lies(`search ${content}`, 0.15),
    rowsOf(message, sequence, items) {
      const { content } = message;
      const isContent = /BODY(\.PEEK)?\[/i.test(items);
      const grudge = isContent ? grudges.get(content) : undefined;
      if (grudge === "cut" || grudge === "hang" || grudge === "refuse") return grudge;
      if (grudge === "omit" || lies(`omit ${isContent} ${content}`, 0.15)) return { now: [], late: [] };
      if (isContent && lies(`refuse ${content}`, 0.05)) return "refuse";
      if (isContent && lies(`cut ${content}`, 0.05)) return "cut";
      const damage = grudge ?? (lies(`damage ${content}`, 0.15) ? random.pick(DAMAGES) : undefined);
      const row = writeRow(message, { sequence, items, date: dateOf(message), size: sizeOf(message, traits), damage });
      if (isContent && lies(`within ${content}`, 0.05))
        return { now: [row], late: [], cut: random.whole(0, row.length - 1) };
      if (lies(`late ${content}`, 0.05)) return { now: [], late: [row] };
      return lies(`double ${content}`, 0.1) ? { now: [row, row], late: [] } : { now: [row], late: [] };
    },
  };
}

const DAMAGES = ["empty", "short", "announced short", "nameless", "bare"] as const;
type Damage = (typeof DAMAGES)[number] | "omit";

function sizeOf({ raw }: StoredMessage, { sizes }: Traits): number | undefined {
  if (sizes === "absent") return undefined;
  return sizes === "zero" ? 0 : raw.length + (sizes === "more" ? 7 : 0);
}

function writeRow(
  { uid, raw }: StoredMessage,
  row: {
    sequence: number;
    items: string;
    date: number | undefined;
    size: number | undefined;
    damage: Damage | undefined;
  },
): Buffer {
  const { sequence, items, date, size, damage } = row;
  const parts = damage === "nameless" ? [] : [`UID ${uid}`];
  if (/FLAGS/i.test(items)) parts.push("FLAGS ()");
  if (/INTERNALDATE/i.test(items)) parts.push(`INTERNALDATE ${date === undefined ? "NIL" : `"${imapDate(date)}"`}`);
  if (/RFC822\.SIZE/i.test(items) && size !== undefined) parts.push(`RFC822.SIZE ${size}`);
  const section = /BODY(?:\.PEEK)?\[\](?:<(\d+)\.(\d+)>)?/i.exec(items);
  if (!section || damage === "bare") return Buffer.from(`* ${sequence} FETCH (${parts.join(" ")})\r\n`);
  const [, from, count] = section;
  const whole = from === undefined ? raw : raw.subarray(Number(from), Number(from) + Number(count));
  const given =
    damage === "empty" ? whole.subarray(0, 0) : damage === "short" ? whole.subarray(0, raw.length - 30) : whole;
  const announced = damage === "announced short" ? Math.max(0, given.length - 30) : given.length;
  const name = from === undefined ? "BODY[]" : `BODY[]<${from}>`;
  const head = `* ${sequence} FETCH (${[...parts, `${name} {${announced}}`].join(" ")}\r\n`;
  return Buffer.concat([Buffer.from(head), given, Buffer.from(")\r\n")]);
}

function chooseDate(random: Random, dates: Traits["dates"], receivedAt: number): number | undefined {
  const kind = dates === "any" ? random.pick(["true", "past", "future", "none"] as const) : dates;
  if (kind === "none") return undefined;
  const days = kind === "true" ? 0 : random.whole(1, 4000);
  return receivedAt + (kind === "past" ? -days : days) * DAY_MS;
}

function imapDate(time: number): string {
  const date = new Date(time);
  const day = String(date.getUTCDate()).padStart(2, " ");
  return `${day}-${MONTHS[date.getUTCMonth()]}-${date.getUTCFullYear()} ${date.toISOString().slice(11, 19)} +0000`;
}
