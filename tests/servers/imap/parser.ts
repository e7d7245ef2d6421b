/** Reads IMAP commands with their literals and takes them apart (RFC 3501 section 9, LITERAL+ of RFC 7888). */
import type { ByteReader } from "./reader.ts";

/** One argument of a command: an atom as it was typed, a quoted string or literal, or a parenthesised list. */
export type Argument =
  | { kind: "atom"; text: string }
  | { kind: "string"; bytes: Buffer }
  | { kind: "list"; entries: Argument[] };

/** A whole command; `line` is it without its literals. */
export type Command = { tag: string; name: string; args: Argument[]; line: string };

/** The answer to the client in place of the result: "NO …" or "BAD …". */
export class Refusal extends Error {}

type Piece = { text: string; literal?: Buffer };
type Cursor = { pieces: Piece[]; piece: number; at: number };

/** How literals are taken: `proceed` invites one that waits for it, `largest` bounds them all. */
export type Literals = { proceed: () => void; largest: () => number };

/**
 * Reads one command; undefined at the end of the connection. Throws a Refusal that starts with the tag when a literal
 * is too large, after having read past it where the client does not wait.
 */
export async function readCommand(reader: ByteReader, literals: Literals): Promise<Command | undefined> {
  const pieces: Piece[] = [];
  while (true) {
    const bytes = await reader.line();
    if (bytes === undefined) return undefined;
    const line = bytes.toString("latin1");
    const announced = /^(.*)\{(\d{1,10})(\+?)\}$/s.exec(line);
    if (!announced) {
      pieces.push({ text: line });
      return parseCommand(pieces);
    }
    const [, text = "", size, plus] = announced;
    if (Number(size) > literals.largest()) {
      // A client that does not wait sends its literal anyway: nothing to do but hang up.
      if (plus) return undefined;
      throw new Refusal(`${/^\S+/.exec(line)?.[0] ?? "*"} NO [TOOBIG] Literal too large`);
    }
    if (!plus) literals.proceed();
    const literal = await reader.bytes(Number(size));
    if (literal === undefined) return undefined;
    pieces.push({ text, literal });
  }
}

/** The text of an atom or string; a list has none. */
export function textOf(argument: Argument | undefined): string {
  if (argument?.kind === "atom") return argument.text;
  if (argument?.kind === "string") return argument.bytes.toString();
  throw new Refusal("BAD Expected a string");
}

/** The entries of a list; anything else counts as a list of itself. */
export function entriesOf(argument: Argument | undefined): Argument[] {
  if (argument === undefined) throw new Refusal("BAD Missing argument");
  return argument.kind === "list" ? argument.entries : [argument];
}

/** Whether the argument is this atom, in any case. */
export function isAtom(argument: Argument | undefined, text: string): boolean {
  return argument?.kind === "atom" && argument.text.toUpperCase() === text;
}

function parseCommand(pieces: Piece[]): Command {
  const line = pieces.map((piece) => (piece.literal ? `${piece.text}{${piece.literal.length}}` : piece.text)).join("");
  const [head = "", tag = "*", verb = ""] = /^(\S+) +(\S+) ?/.exec(pieces[0]?.text ?? "") ?? [];
  if (head === "") return { tag: /^\S+/.exec(line)?.[0] ?? "*", name: "", args: [], line };
  const cursor = { pieces, piece: 0, at: head.length };
  const args = parseArguments(cursor, false);
  const name = verb.toUpperCase();
  const [first, ...rest] = args;
  if (name === "UID" && first?.kind === "atom")
    return { tag, name: `UID ${first.text.toUpperCase()}`, args: rest, line };
  return { tag, name, args, line };
}

function parseArguments(cursor: Cursor, inList: boolean): Argument[] {
  const args: Argument[] = [];
  while (true) {
    const { text, literal } = cursor.pieces[cursor.piece] ?? { text: "" };
    const character = text[cursor.at];
    if (character === undefined) {
      if (literal) args.push({ kind: "string", bytes: literal });
      cursor.piece++;
      cursor.at = 0;
      if (cursor.piece < cursor.pieces.length) continue;
      return args;
    }
    if (character === " ") cursor.at++;
    else if (character === "(") {
      cursor.at++;
      args.push({ kind: "list", entries: parseArguments(cursor, true) });
    } else if (character === ")") {
      cursor.at++;
      if (inList) return args;
    } else if (character === '"') args.push(quotedString(cursor, text));
    else args.push(atom(cursor, text));
  }
}

function quotedString(cursor: Cursor, text: string): Argument {
  const quoted = /"((?:[^"\\]|\\.)*)"/y;
  quoted.lastIndex = cursor.at;
  const match = quoted.exec(text);
  cursor.at = match ? quoted.lastIndex : text.length;
  const content = (match?.[1] ?? "").replaceAll(/\\(.)/g, "$1");
  return { kind: "string", bytes: Buffer.from(content, "latin1") };
}

// Brackets belong to the atom with all that is in them: BODY.PEEK[HEADER.FIELDS (From To)]<0.100>
function atom(cursor: Cursor, text: string): Argument {
  const whole = /(?:[^ ()"[]|\[[^\]]*\]?)+/y;
  whole.lastIndex = cursor.at;
  const match = whole.exec(text)?.[0] ?? text.slice(cursor.at);
  cursor.at += match.length;
  return { kind: "atom", text: match };
}
