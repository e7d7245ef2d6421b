/**
 * Cleans up after a test process that dies in whatever way: one shell waits for the end of its input, then kills the
 * process groups and removes the folders that its list says are left.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SCRIPT = `
without() { kept=; for one in $1; do [ "$one" = "$2" ] || kept="$kept $one"; done; }
groups=
folders=
cat >/dev/null
while read -r verb what; do
  case $verb in
    group) groups="$groups $what" ;;
    folder) folders="$folders $what" ;;
    ended) without "$groups" "$what"; groups=$kept ;;
    removed) without "$folders" "$what"; folders=$kept ;;
  esac
done <"$0"
for group in $groups; do kill -9 -"$group"; done
for folder in $folders; do rm -rf "$folder"; done
rm -f "$0"
`;

// The list of this test process; its guard is started with the first thing there is to guard.
const list = join(tmpdir(), `tests-guard-${randomUUID()}`);
let started = false;

/** Tells the guard what has begun (a process group, a folder) or is over; from then on it knows, whatever happens. */
export function tellGuard(verb: "group" | "folder" | "ended" | "removed", what: number | string): void {
  // A file, because bytes for a pipe may still wait in this process when it is killed.
  appendFileSync(list, `${verb} ${what}\n`);
  if (!started) startGuard();
  started = true;
}

function startGuard(): void {
  const child = spawn("/bin/sh", ["-c", SCRIPT, list], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  child.on("error", () => undefined);
  child.unref();
  const input = child.stdin as (typeof child.stdin & { unref?: () => void }) | null;
  input?.on("error", () => undefined);
  input?.unref?.();
}
