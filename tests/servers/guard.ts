/**
 * Cleans up after a test process that dies in whatever way: one shell, told of every process group and folder, waits
 * for the end of its input, then kills the groups and removes the folders that are left.
 */
import { type ChildProcess, spawn } from "node:child_process";

const SCRIPT = `
without() { kept=; for one in $1; do [ "$one" = "$2" ] || kept="$kept $one"; done; }
groups=
folders=
while read -r verb what; do
  case $verb in
    group) groups="$groups $what" ;;
    folder) folders="$folders $what" ;;
    ended) without "$groups" "$what"; groups=$kept ;;
    removed) without "$folders" "$what"; folders=$kept ;;
  esac
done
for group in $groups; do kill -9 -"$group"; done
for folder in $folders; do rm -rf "$folder"; done
`;

// One for the test process, started with the first thing there is to guard.
let guard: ChildProcess | undefined;

/** Tells the guard what has begun (a process group, a folder) or is over. */
export function tellGuard(verb: "group" | "folder" | "ended" | "removed", what: number | string): void {
  guard ??= startGuard();
  guard.stdin?.write(`${verb} ${what}\n`);
}

function startGuard(): ChildProcess {
  const child = spawn("/bin/sh", ["-c", SCRIPT], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  child.on("error", () => undefined);
  child.unref();
  const input = child.stdin as (typeof child.stdin & { unref?: () => void }) | null;
  input?.on("error", () => undefined);
  input?.unref?.();
  return child;
}
