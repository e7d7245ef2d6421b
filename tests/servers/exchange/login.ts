/** Who asks: basic, NTLM and bearer authentication as IIS does them in front of Exchange. */
import type { HttpRequest } from "./http.ts";
import { challengeMessage, messageType, proves, readAnswer } from "./ntlm.ts";
import type { Mailbox, Store } from "./store.ts";

export type Scheme = "basic" | "ntlm" | "bearer";

export type Login = { user: Mailbox; scheme: Scheme } | { challenge: string[]; tried: string | undefined };

export type LoginWorld = { store: Store; schemes: Scheme[]; tokens: Map<string, string> };

/** Reads the Authorization header; without a good one, what to ask for. */
export function logIn(world: LoginWorld, request: HttpRequest): Login {
  const [scheme = "", rest = ""] = (request.headers["authorization"] ?? "").split(/ (.*)/s);
  const kind = scheme.toLowerCase();
  if (kind === "basic" && world.schemes.includes("basic")) return byPassword(world, rest);
  if ((kind === "ntlm" || kind === "negotiate") && world.schemes.includes("ntlm"))
    return byNtlm(world, scheme, rest, request);
  const known = request.wire.memory.get("user") as Mailbox | undefined;
  if (known && scheme === "") return { user: known, scheme: "ntlm" };
  if (kind === "bearer" && world.schemes.includes("bearer")) return byToken(world, rest);
  return { challenge: challenges(world), tried: undefined };
}

function challenges({ schemes }: LoginWorld): string[] {
  const lines: Record<Scheme, string[]> = {
    ntlm: ["Negotiate", "NTLM"],
    basic: ['Basic realm="127.0.0.1"'],
    bearer: [
      'Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="", token_types="app_asserted_user_v1"',
    ],
  };
  const order: Scheme[] = ["ntlm", "basic", "bearer"];
  return order.filter((one) => schemes.includes(one)).flatMap((one) => lines[one]);
}

/** The mailbox with this login, which is DOMAIN\user, its address, or the user alone. */
export function userNamed(store: Store, login: string): Mailbox | undefined {
  const wanted = login.toLowerCase();
  return [...store.mailboxes.values()].find(
    (one) => one.address.toLowerCase() === wanted || one.login.toLowerCase() === wanted,
  );
}

function byPassword(world: LoginWorld, text: string): Login {
  const [login = "", password = ""] = Buffer.from(text, "base64").toString("utf8").split(/:(.*)/s);
  const user = userNamed(world.store, login);
  if (user && user.password === password) return { user, scheme: "basic" };
  return { challenge: challenges(world), tried: login };
}

/** The handshake belongs to the connection, and so does what it proved (as with IIS's authPersistNonNTLM left alone). */
function byNtlm(world: LoginWorld, scheme: string, text: string, { wire }: HttpRequest): Login {
  const message = Buffer.from(text, "base64");
  const challenge = wire.memory.get("challenge") as Buffer | undefined;
  wire.memory.delete("challenge");
  wire.memory.delete("user");
  const type = messageType(message);
  if (type === 1) {
    const next = challengeMessage("CORP");
    wire.memory.set("challenge", next.challenge);
    return { challenge: [`${scheme} ${next.message.toString("base64")}`], tried: undefined };
  }
  if (type !== 3 || !challenge) return { challenge: challenges(world), tried: undefined };
  const answer = readAnswer(message);
  const login = answer.domain ? `${answer.domain}\\${answer.user}` : answer.user;
  const user = userNamed(world.store, login) ?? userNamed(world.store, answer.user);
  if (!user || !proves(answer, challenge, user.password)) return { challenge: challenges(world), tried: login };
  wire.memory.set("user", user);
  return { user, scheme: "ntlm" };
}

function byToken(world: LoginWorld, token: string): Login {
  const user = userNamed(world.store, world.tokens.get(token) ?? "");
  return user ? { user, scheme: "bearer" } : { challenge: challenges(world), tried: "a token" };
}
