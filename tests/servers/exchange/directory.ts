/** What clients ask before mail: GetServerTimeZones (UTC alone, which every client needs) and ResolveNames. */
import { answerOne, type Operation } from "./ask.ts";
import { mailboxXml } from "./shape.ts";
import { EwsError } from "./soap.ts";
import { tag, textAt } from "./xml.ts";

const zone = tag(
  "t:TimeZoneDefinition",
  { Id: "UTC", Name: "(UTC) Coordinated Universal Time" },
  tag(
    "t:Periods",
    {},
    tag("t:Period", { Bias: "PT0S", Name: "Standard", Id: "trule:Microsoft/Registry/UTC/1-Standard" }),
  ),
  tag(
    "t:TransitionsGroups",
    {},
    tag(
      "t:TransitionsGroup",
      { Id: "0" },
      tag("t:Transition", {}, tag("t:To", { Kind: "Period" }, "trule:Microsoft/Registry/UTC/1-Standard")),
    ),
  ),
  tag("t:Transitions", {}, tag("t:Transition", {}, tag("t:To", { Kind: "Group" }, "0"))),
);

const getServerTimeZones: Operation = () =>
  answerOne("GetServerTimeZones", () => tag("m:TimeZoneDefinitions", {}, zone));

/** The mailboxes whose address begins with the entry. */
const resolveNames: Operation = ({ world, request }) =>
  answerOne("ResolveNames", () => {
    const entry = (textAt(request, "UnresolvedEntry") ?? "").toLowerCase().replace(/^smtp:/, "");
    const found = [...world.store.mailboxes.values()].filter((one) => one.address.toLowerCase().startsWith(entry));
    if (found.length === 0) throw new EwsError("ErrorNameResolutionNoResults", { message: "No results were found." });
    const list = found.map(({ address }) =>
      tag("t:Resolution", {}, mailboxXml("t:Mailbox", { name: address.replace(/@.*/, ""), address })),
    );
    const attributes = { TotalItemsInView: list.length, IncludesLastItemInRange: "true" };
    return tag("m:ResolutionSet", attributes, ...list);
  });

export const DIRECTORY_OPERATIONS: Record<string, Operation> = {
  GetServerTimeZones: getServerTimeZones,
  ResolveNames: resolveNames,
};
