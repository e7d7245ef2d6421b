/** The files of the console: its style sheet, its script and its icon. Their URLs name their content, so a browser may keep them. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const FILES = {
  style: { name: "console.css", type: "text/css; charset=utf-8" },
  script: { name: "console.js", type: "text/javascript; charset=utf-8" },
  icon: { name: "icon.svg", type: "image/svg+xml" },
} as const;

export type AssetName = keyof typeof FILES;
export type Asset = { url: string; type: string; body: Uint8Array };
export type Assets = Record<AssetName, Asset> & {
  /** The file with this name in its URL; undefined if there is none, or if its content has changed. */
  find(urlName: string): Asset | undefined;
};

/** The path under the service's prefix where the files are served. */
export const ASSETS_PATH = "/assets";

/** Reads the files. Their URLs begin with `base`. */
export function consoleAssets(base: string): Assets {
  const read = ({ name, type }: (typeof FILES)[AssetName]): Asset => {
    const body = readFileSync(new URL(name, import.meta.url));
    const hash = createHash("sha256").update(body).digest("hex").slice(0, 16);
    const [stem, ending] = name.split(".");
    return { url: `${base}${ASSETS_PATH}/${stem}-${hash}.${ending}`, type, body };
  };
  const assets = { style: read(FILES.style), script: read(FILES.script), icon: read(FILES.icon) };
  const all = Object.values(assets);
  return { ...assets, find: (urlName) => all.find(({ url }) => url.endsWith(`/${urlName}`)) };
}
