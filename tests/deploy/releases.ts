/** What released versions wrote: see tests/releases/README.md. */
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";

export const RELEASED_KEY = `release:${Buffer.alloc(32, "0.1.0").toString("base64")}`;
export const RELEASED_SECRET = `whsec_${Buffer.alloc(32, "endpoint").toString("base64")}`;

/** A message as RabbitMQ had it. `queue` is its routing key, too. */
export type ReleasedTask = {
  queue: string;
  payload: string;
  properties: { type: string; timestamp: number; message_id: string; headers: object; content_type: string };
};

/** The file of a release, unpacked. */
export async function readRelease(name: string): Promise<Buffer> {
  return gunzipSync(await readFile(new URL(`../releases/${name}.gz`, import.meta.url)));
}

export async function readReleasedTasks(name: string): Promise<ReleasedTask[]> {
  return JSON.parse(await readFile(new URL(`../releases/${name}.tasks.json`, import.meta.url), "utf8"));
}
