/**
 * How the service recognises itself behind an address: it sends a challenge there, and only a node of this installation
 * can answer it, because the answer is made with ENCRYPTION_KEYS.
 */
import { timingSafeEqual } from "node:crypto";
import * as v from "valibot";
import type { Probes } from "../deps.ts";

export const IDENTITY_PATH = "/api/v1/diagnostics/identity";

export const Challenge = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{16,64}$/, "must be 16 to 64 of A-Z a-z 0-9 _ -"));

/** `proof` depends on the challenge, the node and a key. It gives nothing of the key away. */
export const Identity = v.object({ service: v.literal("email-listener"), node: v.string(), proof: v.string() });
export type Identity = v.InferOutput<typeof Identity>;

export function proveIdentity({ marks, name }: Pick<Probes, "marks" | "name">, challenge: string): Identity {
  const [proof = ""] = marks(textToProve(name, challenge));
  return { service: "email-listener", node: name, proof };
}

/** Whether a node with a key of this installation gave this answer to this challenge. */
export function isOwnIdentity({ marks }: Pick<Probes, "marks">, challenge: string, { node, proof }: Identity): boolean {
  const given = Buffer.from(proof);
  return marks(textToProve(node, challenge)).some((mark) => {
    const expected = Buffer.from(mark);
    return expected.length === given.length && timingSafeEqual(expected, given);
  });
}

function textToProve(node: string, challenge: string): string {
  return `identity of a node|${challenge}|${node}`;
}
