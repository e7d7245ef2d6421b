/** Paths in all the forms that clients write. */

/** The parts of a path, decoded: `mailFolders('x')/messages/delta()` is mailFolders, x, messages, delta. */
export function partsOf(path: string): string[] {
  return path
    .split("/")
    .filter((one) => one !== "")
    .map((one) => decodeURIComponent(one))
    .flatMap((one) => {
      const [, name = one, key] = /^([A-Za-z]+)\((?:'(.*)')?\)$/.exec(one) ?? [];
      return key === undefined ? [name.replace(/^microsoft\.graph\./, "")] : [name, key.replaceAll("''", "'")];
    });
}
