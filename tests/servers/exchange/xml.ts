/** XML as the test server reads and writes it: a small tree with namespaces in, strings out. */
import { SaxesParser } from "saxes";

/** An element by its local name; `space` is the namespace's usual prefix (s, m, t, a), or the whole URI of another one. */
export type Xml = {
  name: string;
  space: string;
  attributes: Record<string, string>;
  children: Xml[];
  text: string;
};

export const SOAP = "http://schemas.xmlsoap.org/soap/envelope/";
export const MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages";
export const TYPES = "http://schemas.microsoft.com/exchange/services/2006/types";
export const AUTODISCOVER = "http://schemas.microsoft.com/exchange/2010/Autodiscover";

const SPACES: Record<string, string> = { [SOAP]: "s", [MESSAGES]: "m", [TYPES]: "t", [AUTODISCOVER]: "a" };

/** Reads a whole document; throws on anything that is not well-formed, and on names without a declared prefix. */
export function readXml(text: string): Xml {
  const parser = new SaxesParser({ xmlns: true });
  const top: Xml = { name: "", space: "", attributes: {}, children: [], text: "" };
  const open: Xml[] = [top];
  parser.on("error", (error) => {
    throw error;
  });
  parser.on("opentag", (opened) => {
    const attributes = Object.fromEntries(Object.values(opened.attributes).map((one) => [one.local, one.value]));
    const element: Xml = {
      name: opened.local,
      space: SPACES[opened.uri] ?? opened.uri,
      attributes,
      children: [],
      text: "",
    };
    open.at(-1)?.children.push(element);
    open.push(element);
  });
  parser.on("closetag", () => void open.pop());
  const add = (piece: string): void => {
    const element = open.at(-1);
    if (element) element.text += piece;
  };
  parser.on("text", add);
  parser.on("cdata", add);
  parser.write(text.replace(/^\uFEFF/, "")).close();
  const [root] = top.children;
  if (!root) throw new Error("no element");
  return root;
}

/** The first child of this name. */
export function child(element: Xml | undefined, name: string): Xml | undefined {
  return element?.children.find((one) => one.name === name);
}

/** The element at the end of this path of names. */
export function at(element: Xml | undefined, ...path: string[]): Xml | undefined {
  return path.reduce(child, element);
}

/** The text of the element at the end of this path. */
export function textAt(element: Xml | undefined, ...path: string[]): string | undefined {
  return at(element, ...path)?.text.trim();
}

/** A boolean of XML Schema. */
export function isTrue(text: string | undefined): boolean {
  return text === "true" || text === "1";
}

/** Text as it stands in an element or attribute. Exchange writes control characters as references, which XML 1.0 forbids. */
export function escape(text: string): string {
  return text.replace(/[&<>"\r]|(?![\t\n])\p{Cc}/gu, (one) => {
    const named = NAMED[one];
    return named ?? `&#x${one.charCodeAt(0).toString(16).toUpperCase()};`;
  });
}

const NAMED: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** An element whose content is XML already. */
export function tag(
  name: string,
  attributes: Record<string, string | number | undefined>,
  ...content: string[]
): string {
  const list = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escape(String(value))}"`)
    .join("");
  const inner = content.join("");
  return inner === "" ? `<${name}${list}/>` : `<${name}${list}>${inner}</${name}>`;
}

/** An element around a text. */
export function leaf(name: string, text: string | number | boolean): string {
  return tag(name, {}, escape(String(text)));
}
