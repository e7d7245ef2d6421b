/**
 * `bun run graph-clients`: runs foreign clients of Microsoft Graph against the fake Graph server of the tests. O365 is
 * light; with `--all` Microsoft's own msgraph-sdk runs too, which takes minutes and 400 MB the first time.
 */
import { check, type Client, pythonOf } from "../servers/graph/clients/check.ts";

const clients: Client[] = process.argv.includes("--all") ? ["O365", "msgraph-sdk"] : ["O365"];
for (const client of clients) console.log(await check(client, await pythonOf(client)));
