/** URLs as people write them: an IPv6 address may stand without the brackets that it needs in a URL (RFC 3986). */

const isIpv6 = (text: string) => /^[0-9a-f:.]{2,45}$/i.test(text) && URL.canParse(`http://[${text}]/`);

/**
 * A host, perhaps with a port, where an IPv6 address has brackets. A decimal group of two to five digits after a whole
 * address is a port: `::1:6379` is port 6379 of `::1`. Any other text stays as it is.
 */
export function bracketIpv6(hostAndPort: string): string {
  const [, address = "", port = ""] = /^(.*[^:]):(\d{2,5})$/.exec(hostAndPort) ?? [];
  if (isIpv6(address)) return `[${address}]:${port}`;
  return isIpv6(hostAndPort) ? `[${hostAndPort}]` : hostAndPort;
}

/** `bracketIpv6` for the host of a URL. */
export function bracketUrl(url: string): string {
  return url.replace(
    /^([a-z][a-z0-9+.-]*:\/\/(?:[^@/?#]*@)?)([^@/?#[\]]+)/i,
    (_, before: string, hostAndPort: string) => before + bracketIpv6(hostAndPort),
  );
}
