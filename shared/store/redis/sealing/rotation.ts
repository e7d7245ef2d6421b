/** How everything in Redis comes under the first key, while nodes work. */
import * as v from "valibot";
import { Problem } from "../../../contract/problem.ts";
import { createRotation, type Rotation, type RotationOptions } from "../../rotation.ts";
import { isOldForm, keyIdOf, type MailboxSealing } from "../../mailbox-sealing.ts";
import type { Vault } from "../../vault.ts";
import { resealStoredApplications } from "../access/applications.ts";
import { resealStoredTokens } from "../access/tokens.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { listOf, recordOf, textOf, textOrNull, textsOf } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";
import type { RedisRegistry } from "../registry.ts";
import type { Canaries } from "./canaries.ts";
import { type MessagePlace, resealDataKey, sealOldMessage } from "./messages.ts";

type RotateDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  registry: RedisRegistry;
  vault: Vault;
  sealing: MailboxSealing;
  canaries: Canaries;
};
type Look = RotateDeps & { everything: boolean; rotation: Rotation; onProgress: () => void };

/** While nodes encrypt with an old key again and again, that key stays in use. */
const MAX_LOOKS = 5;

/**
 * Seals everything with the first key and in the present form. It may be interrupted at any time and run again, and by
 * several processes at once. First it checks that every key in use is available, and throws `config` naming a missing one.
 * The form of 0.1 is left as soon as no node of 0.1 is alive.
 */
export async function rotateKeys(deps: RotateDeps, options: RotationOptions = {}): Promise<Rotation> {
  const { everything = false, usedByOthers = [], onProgress } = options;
  await deps.canaries.learn();
  await leaveOldForm(deps);
  const rotation = createRotation();
  const look = { ...deps, everything, rotation, onProgress: () => onProgress?.(rotation) };
  const others = await changeTags(look, (tag) => !usedByOthers.includes(keyIdOf(tag)), resealEverything);
  const otherKeys = [...new Set(others.map(keyIdOf))].filter((id) => id !== deps.vault.sealingKeyId);
  return { ...rotation, otherKeys };
}

/**
 * Called from time to time: checks the keys, and throws `config` naming a missing one. If mailboxes in the form of 0.1 are
 * left, and no node of 0.1 is, it seals them anew.
 */
export async function checkKeys(deps: RotateDeps): Promise<void> {
  await deps.canaries.learn();
  const { sealing } = deps;
  if (!sealing.acceptsOldForm) return;
  await leaveOldForm(deps);
  if (isOldForm(sealing.tag)) return;
  const rotation = createRotation();
  const look = { ...deps, everything: false, rotation, onProgress: () => undefined };
  await changeTags(look, isOldForm, async (one) => (await resealMailboxes(one, isOldForm)) + (await resealAccess(one)));
}

async function leaveOldForm({ redis, keys, sealing }: RotateDeps): Promise<void> {
  if (!isOldForm(sealing.tag)) return;
  const nodes = textsOf(await redis.send("hvals", [`${keys.globalPrefix}nodes`]));
  if (!nodes.some((about) => /"version":"0\.[01]\./.test(about))) sealing.leaveOldForm();
}

/**
 * Lets `reseal` look until nothing is left under the tags that `mayLeave`, and deletes their canaries. Returns the tags
 * that are left besides the present one.
 */
async function changeTags(
  look: Look,
  mayLeave: (tag: string) => boolean,
  reseal: (look: Look) => Promise<number>,
): Promise<string[]> {
  const { canaries, sealing, rotation, everything } = look;
  const listOthers = async () => (await canaries.learn()).filter((tag) => tag !== sealing.tag);
  // This comes first, so that a node that starts meanwhile and cannot open it refuses to start.
  await canaries.announce();
  for (let n = 0; n < MAX_LOOKS; n++) {
    const leaving = (await listOthers()).filter(mayLeave);
    if (leaving.length === 0 && (!everything || n > 0)) break;
    await canaries.beginLeaving(leaving);
    // What a node writes under such a tag from now on announces the tag again.
    rotation.unreadable = 0;
    if ((await reseal(look)) > 0) continue;
    await canaries.endLeaving(leaving);
    break;
  }
  return listOthers();
}

/** Returns how many mailboxes, tokens, applications and messages were not as they should be. */
async function resealEverything(look: Look): Promise<number> {
  return (
    (await resealMailboxes(look, () => true)) +
    (await resealAccess(look)) +
    (await resealMessages(look, listDeliveries(look))) +
    (await resealMessages(look, listSendings(look)))
  );
}

/** Tokens and applications. */
async function resealAccess(look: Look): Promise<number> {
  const [tokens, applications] = [await resealStoredTokens(look), await resealStoredApplications(look)];
  look.rotation.tokens += tokens.resealed;
  look.rotation.applications += applications.resealed;
  look.rotation.unreadable += tokens.unreadable + applications.unreadable;
  look.onProgress();
  return tokens.resealed + applications.resealed;
}

const PAGE_SIZE = 500;

/** `isOld` says which tags are sealed anew, the present one excepted. */
async function resealMailboxes(look: Look, isOld: (tag: string) => boolean): Promise<number> {
  let resealed = 0;
  for (let from = "-"; ;) {
    const ids = await look.registry.listMembers("ids", { from, to: "+", limit: PAGE_SIZE });
    for (const id of ids) resealed += Number(await resealMailbox(look, id, isOld));
    const last = ids.at(-1);
    if (ids.length < PAGE_SIZE || last === undefined) return resealed;
    from = `(${last}`;
  }
}

/** Replaces nothing when somebody changed the mailbox meanwhile. */
const RESEAL = redisScript(`
  local mailbox = KEYS[1] .. 'mailbox'
  if redis.call('HGET', mailbox, 'doc') ~= ARGV[1] then return 0 end
  redis.call('HSET', mailbox, 'doc', ARGV[2], 'key', ARGV[3])
  return 1`);

async function resealMailbox(look: Look, id: string, isOld: (tag: string) => boolean): Promise<boolean> {
  const { redis, keys, sealing, everything, rotation, onProgress } = look;
  const prefix = keys.mailboxPrefix(id);
  const [doc, tag] = listOf(await redis.send("hmget", [`${prefix}mailbox`, "doc", "key"])).map(textOrNull);
  if (typeof doc !== "string") return false;
  const isPresent = tag === sealing.tag;
  if (isPresent ? !(everything && doc.includes(OLD_SECRET)) : !isOld(tag ?? "")) return false;
  const sealed = sealing.seal(sealing.open(doc));
  // A secret that no key decrypts stays as it is.
  if (isPresent && sealed.doc.includes(OLD_SECRET)) return false;
  await redis.run(RESEAL, prefix, [doc, sealed.doc, sealed.canary.tag]);
  rotation.mailboxes += 1;
  onProgress();
  return true;
}

/** A secret without a data key in a stored mailbox. */
const OLD_SECRET = '"enc:1:';

/** Messages that are handled at the same time. */
const MESSAGES_AT_ONCE = 50;

async function resealMessages(look: Look, pages: AsyncIterable<MessagePlace[]>): Promise<number> {
  const { redis, vault, everything, rotation, onProgress } = look;
  let resealed = 0;
  for await (const page of pages) {
    for (let from = 0; from < page.length; from += MESSAGES_AT_ONCE) {
      const places = page.slice(from, from + MESSAGES_AT_ONCE);
      const found = await Promise.all(places.map((place) => resealOrKeep(redis, place, vault)));
      rotation.unreadable += found.filter((one) => one === undefined).length;
      resealed += found.filter(Boolean).length;
      rotation.messages += found.filter(Boolean).length;
      // One after the other, because each may be large.
      for (const place of everything ? places : []) {
        if (!(await sealOldMessage(redis, place, vault))) continue;
        rotation.messages += 1;
        resealed += 1;
      }
      onProgress();
    }
  }
  return resealed;
}

/** Undefined when no key decrypts the message's data key. */
async function resealOrKeep(redis: RedisConnection, place: MessagePlace, vault: Vault): Promise<boolean | undefined> {
  try {
    return await resealDataKey(redis, place, vault);
  } catch (error) {
    if (error instanceof Problem && error.code === "config") return undefined;
    throw error;
  }
}

/** What is needed here of an entry of the index of deliveries: its mailbox, and how many bytes are spooled. */
const IndexEntry = v.object({ m: v.string(), b: v.number() });

/** Every delivery whose bytes are in the spool, and perhaps some others. */
async function* listDeliveries({ redis, keys }: Look): AsyncGenerator<MessagePlace[]> {
  for await (const entries of scanHash(redis, `${keys.globalPrefix}deliveries`)) {
    yield entries.flatMap(([id, entry]): MessagePlace[] => {
      const { m, b } = v.parse(IndexEntry, JSON.parse(entry));
      return b > 0 ? [{ prefix: keys.mailboxPrefix(m), kind: "raw:", id }] : [];
    });
  }
}

/** Every outgoing message whose bytes are stored, and perhaps some others. */
async function* listSendings({ redis, keys }: Look): AsyncGenerator<MessagePlace[]> {
  for await (const entries of scanHash(redis, `${keys.globalPrefix}outbox:sizes`)) {
    const ids = entries.map(([id]) => id);
    if (ids.length === 0) continue;
    const mailboxes = listOf(await redis.send("hmget", [`${keys.globalPrefix}outbox`, ...ids])).map(textOrNull);
    yield ids.flatMap((id, n): MessagePlace[] => {
      const mailbox = mailboxes[n];
      return mailbox ? [{ prefix: keys.mailboxPrefix(mailbox), kind: "outbox:raw:", id }] : [];
    });
  }
}

/** All entries that are in the hash during the whole scan, some of them twice. */
async function* scanHash(redis: RedisConnection, key: string): AsyncGenerator<[name: string, value: string][]> {
  let cursor = "0";
  do {
    const [next, entries] = listOf(await redis.send("hscan", [key, cursor, "count", PAGE_SIZE]));
    yield recordOf(entries);
    cursor = textOf(next);
  } while (cursor !== "0");
}
