/** The answer to GetServerTimeZones: UTC alone, which is what every client needs. */
import { answer, success } from "./soap.ts";
import { tag } from "./xml.ts";

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

export const ZONES = answer("GetServerTimeZones", [
  success("GetServerTimeZones", tag("m:TimeZoneDefinitions", {}, zone)),
]);
