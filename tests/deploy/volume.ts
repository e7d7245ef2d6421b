/** A volume of a pod: what the kubelet does to its files when a pod mounts it (`SetVolumeOwnership` in kubernetes/pkg/volume). */
import { chmod, lchown, lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";

const GROUP_MAY_WRITE = 0o660;
const GROUP_MAY_ENTER = 0o110;
const SETGID = 0o2000;

type PodSecurity = { fsGroup: number; fsGroupChangePolicy?: string };

/** Only root can give files to the group of the manifest; others use their own. */
const groupOf = ({ fsGroup }: PodSecurity) => (process.getuid?.() === 0 ? fsGroup : (process.getgid?.() ?? 0));

/** Gives the files of the volume to the pod's group, unless the policy says that the root is right already. */
export async function mountVolume(folder: string, security: PodSecurity): Promise<void> {
  const group = groupOf(security);
  if (security.fsGroupChangePolicy === "OnRootMismatch") {
    const { gid, mode } = await lstat(folder);
    const wanted = GROUP_MAY_WRITE | GROUP_MAY_ENTER | SETGID;
    if (gid === group && (mode & wanted) === wanted) return;
  }
  const names = await readdir(folder, { recursive: true });
  for (const path of [folder, ...names.map((name) => join(folder, name))]) {
    const found = await lstat(path);
    await lchown(path, found.uid, group);
    if (found.isSymbolicLink()) continue;
    await chmod(path, (found.mode & 0o7777) | GROUP_MAY_WRITE | (found.isDirectory() ? GROUP_MAY_ENTER | SETGID : 0));
  }
}
