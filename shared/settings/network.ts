/** The settings that say where the service may connect to, and whom it asks for records: a part of settings.ts. */
import * as v from "valibot";
import { nameServerList, nat64Prefixes, portList } from "../setting-schemas.ts";

export const NETWORK_SETTINGS = {
  EGRESS_PRIVATE: {
    schema: v.picklist(["allow", "deny"]),
    default: "allow",
    about:
      "Whether mail hosts and endpoints may have private addresses and any port. Cloud metadata and the service's own servers are never allowed. Set `deny` where strangers register mailboxes.",
  },
  EGRESS_PORTS: {
    schema: portList,
    default: "",
    about:
      "Ports that `EGRESS_PRIVATE=deny` allows besides 25, 80, 110, 143, 443, 465, 587, 993, 995 and 2525, separated by commas.",
  },
  NAT64_PREFIXES: {
    schema: nat64Prefixes,
    default: "",
    about:
      "Prefixes of your own translators from IPv6 to IPv4, such as 2001:db8:64::/96, separated by commas. The IPv4 address inside decides.",
  },
  DNS_SERVERS: {
    schema: nameServerList,
    default: "",
    about:
      "Name servers that are asked for the MX and SRV records of a new mailbox's domain, such as 10.0.0.53 or 10.0.0.53:5353, separated by commas. By default those of the system.",
  },
} as const;
