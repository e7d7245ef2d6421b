/** Prints the bill of materials of the packages that the image has. The Dockerfile runs it where they are installed. */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { readPackages } from "./packages.ts";
import { makeSbom } from "./sbom.ts";

const { all } = readPackages(fileURLToPath(new URL("../..", import.meta.url)));
const inImage = all.filter(({ atRunTime, installed }) => atRunTime && installed !== undefined);
process.stdout.write(`${JSON.stringify(makeSbom(inImage), undefined, 2)}\n`);
