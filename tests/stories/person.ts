/** A person with a browser that keeps cookies, who opens a link for consent and follows it through the provider. */

/** Where the browser arrived: the page, or the address outside of the service that it was sent to. */
export type Arrival = { status: number; text: string; location: string | null };

export type Person = {
  /** Opens the link at a node, and goes on to the provider. Resolves with the way back that the provider sent. */
  goToProvider(link: string, node: string): Promise<string>;
  /** Comes back to a node. */
  comeBack(way: string, node: string): Promise<Arrival>;
  /** The whole way. */
  follow(link: string, node: string, last?: string): Promise<Arrival>;
  /** Opens a page of the service. */
  open(address: string, node: string): Promise<Arrival>;
};

/** The service is reached under `publicUrl`, which stands for the node in hand. */
export function newPerson(publicUrl: string): Person {
  let cookie = "";
  const open = async (address: string, node: string): Promise<Arrival> => {
    const { pathname, search } = new URL(address, publicUrl);
    const headers: Record<string, string> = cookie === "" ? {} : { cookie };
    const response = await fetch(node + pathname + search, { redirect: "manual", headers });
    cookie = response.headers.get("set-cookie")?.split(";")[0] ?? cookie;
    return { status: response.status, text: await response.text(), location: response.headers.get("location") };
  };
  const goToProvider = async (link: string, node: string) => {
    const invitation = await open(link, node);
    const [, start] = /href="([^"]*\/start\?link=[^"]*)"/.exec(invitation.text) ?? [];
    if (start === undefined) throw new Error(`No way to the provider: ${invitation.status} ${invitation.text}`);
    const { location } = await open(start, node);
    const back = (await fetch(location ?? "", { redirect: "manual" })).headers.get("location");
    if (back === null) throw new Error(`The provider did not send anybody back from ${location}`);
    return back;
  };
  return {
    open,
    goToProvider,
    comeBack: open,
    follow: async (link, node, last = node) => open(await goToProvider(link, node), last),
  };
}
