/**
 * Regular expressions of strangers, matched in time that grows with the text and never faster than that: a machine of states is walked
 * through the text once, instead of the runtime's matcher, which may try forever.
 */

/** Tells whether a text contains a match, whatever its case. */
export type Matcher = (text: string) => boolean;

type State =
  | { kind: "one"; fits: RegExp; next: number }
  | { kind: "fork"; ways: number[] }
  | { kind: "start" | "end"; next: number }
  | { kind: "match" };
/** Adds the states of a part in front of `next`, and tells where they begin. */
type Part = (next: number) => number;

const MOST_STATES = 2000;
const MOST_REPEATS = 100;
/** One character: an escape, a class, or itself. What these mean is left to the runtime. */
const ATOM = /\\[dDwWsS]|\\[^A-Za-z0-9]|\[\^?(?:\\[^]|[^\]\\])+\]|[^\\()[*+?{|]/y;
const QUANTIFIER = /(?:[*+?]|\{(\d{1,3})(,?)(\d{0,3})\})\??/y;

/**
 * The matcher of an expression: characters, classes, groups, alternatives, repeats, `^` and `$`. Throws an Error that says what is not
 * understood, look-around and back references among it.
 */
export function matcherOf(source: string): Matcher {
  const states: State[] = [{ kind: "match" }];
  const begin = parsed(source, states)(0);
  return (text) => matches(states, begin, [...text]);
}

function matches(states: State[], begin: number, text: string[]): boolean {
  let here = new Set<number>();
  for (let at = 0; at <= text.length; at++) {
    // A match may begin anywhere.
    here.add(begin);
    const reached = closure(states, here, { first: at === 0, last: at === text.length });
    if (reached.has(0)) return true;
    here = new Set();
    for (const index of reached) {
      const state = states[index];
      if (state?.kind === "one" && state.fits.test(text[at] ?? "")) here.add(state.next);
    }
  }
  return false;
}

/** All states that are reached without reading on. */
function closure(states: State[], from: Set<number>, at: { first: boolean; last: boolean }): Set<number> {
  const reached = new Set(from);
  for (const index of reached) {
    const state = states[index];
    if (state?.kind === "fork") for (const way of state.ways) reached.add(way);
    if (state?.kind === "start" && at.first) reached.add(state.next);
    if (state?.kind === "end" && at.last) reached.add(state.next);
  }
  return reached;
}

function parsed(source: string, states: State[]): Part {
  let at = 0;
  const add = (state: State): number => {
    if (states.push(state) > MOST_STATES) throw new Error("it is too large");
    return states.length - 1;
  };
  const takes = (text: string): boolean => {
    const found = source.startsWith(text, at);
    if (found) at += text.length;
    return found;
  };
  const next = (what: RegExp): RegExpExecArray | null => {
    what.lastIndex = at;
    const found = what.exec(source);
    at += found?.[0].length ?? 0;
    return found;
  };

  function alternatives(): Part {
    const ways = [sequence()];
    while (takes("|")) ways.push(sequence());
    return (after) =>
      ways.length === 1 ? (ways[0]?.(after) ?? after) : add({ kind: "fork", ways: ways.map((way) => way(after)) });
  }

  function sequence(): Part {
    const parts: Part[] = [];
    while (at < source.length && source[at] !== "|" && source[at] !== ")") parts.push(repeated(single()));
    return (after) => parts.reduceRight((following, part) => part(following), after);
  }

  function single(): Part {
    if (takes("^")) return (after) => add({ kind: "start", next: after });
    if (takes("$")) return (after) => add({ kind: "end", next: after });
    if (takes("(")) {
      if (!takes("?:") && source[at] === "?") throw new Error("it has a group of a special kind");
      const inner = alternatives();
      if (!takes(")")) throw new Error("a group does not end");
      return inner;
    }
    const atom = next(ATOM)?.[0];
    if (atom === undefined) throw new Error(`${source.slice(at, at + 2)} is not understood`);
    const fits = new RegExp(`^${atom}$`, "is");
    return (after) => add({ kind: "one", fits, next: after });
  }

  function repeated(part: Part): Part {
    const found = next(QUANTIFIER);
    if (!found) return part;
    const [all, least = "0", comma, most] = found;
    const often =
      (part_: Part, times: number): Part =>
      (after) => {
        let following = after;
        for (let left = times; left > 0; left -= 1) {
          const begin = part_(following);
          // A part of nothing adds no states, whose number ends everything else.
          if (begin === following) break;
          following = begin;
        }
        return following;
      };
    const optional: Part = (after) => add({ kind: "fork", ways: [part(after), after] });
    const endless: Part = (after) => {
      const fork: State = { kind: "fork", ways: [after] };
      const loop = add(fork);
      fork.ways.push(part(loop));
      return loop;
    };
    if (all.startsWith("*")) return endless;
    if (all.startsWith("?")) return optional;
    if (all.startsWith("+")) return (after) => part(endless(after));
    const [from, to] = [Number(least), comma === "" ? Number(least) : Number(most || MOST_REPEATS + 1)];
    if (from > MOST_REPEATS || (most && to > MOST_REPEATS)) throw new Error("it repeats too often");
    if (to > MOST_REPEATS) return (after) => often(part, from)(endless(after));
    return (after) => often(part, from)(often(optional, to - from)(after));
  }

  const whole = alternatives();
  if (at < source.length) throw new Error("a group ends that did not begin");
  return whole;
}
