/** FindItem with its restrictions, sort orders and pages; GetItem and GetAttachment. */
import PostalMime from "postal-mime";
import { type Ask, answerEach, type Lie, checked, folderOf, idsIn, itemOf, type Operation } from "./ask.ts";
import { fileXml, filesOf, extendedKey, itemXml, readShape, VALUES } from "./shape.ts";
import { EwsError } from "./soap.ts";
import type { Item } from "./store.ts";
import { child, tag, type Xml, isTrue } from "./xml.ts";

type Value = string | number | boolean | undefined;

function valueOf(item: Item, field: Xml | undefined): Value {
  if (field?.name === "ExtendedFieldURI") return item.extended.get(extendedKey(field));
  const uri = field?.attributes["FieldURI"] ?? "";
  const read = VALUES[uri];
  if (!read) throw new EwsError("ErrorInvalidRestriction", { message: `The restriction is not valid: ${uri}` });
  const value = read(item);
  return value instanceof Date ? Math.floor(value.getTime() / 1000) : value;
}

/** The constant in the type of what it is compared with. */
function constantFor(value: Value, test: Xml): Value {
  const text = child(child(test, "FieldURIOrConstant"), "Constant")?.attributes["Value"] ?? "";
  if (typeof value === "number") return /^\d+$/.test(text) ? Number(text) : Math.floor(Date.parse(text) / 1000);
  return typeof value === "boolean" ? isTrue(text.toLowerCase()) : text;
}

type Compare = (value: string | number | boolean, constant: string | number | boolean) => boolean;

const COMPARISONS: Record<string, Compare> = {
  IsEqualTo: (value, constant) => folded(value) === folded(constant),
  IsNotEqualTo: (value, constant) => folded(value) !== folded(constant),
  IsGreaterThan: (value, constant) => value > constant,
  IsGreaterThanOrEqualTo: (value, constant) => value >= constant,
  IsLessThan: (value, constant) => value < constant,
  IsLessThanOrEqualTo: (value, constant) => value <= constant,
};

function folded(value: string | number | boolean): string {
  return String(value).toLowerCase();
}

/** Whether the item meets one element of a restriction. */
function meets(item: Item, test: Xml): boolean {
  const [field] = test.children;
  const compare = COMPARISONS[test.name];
  if (compare) {
    const value = valueOf(item, field);
    const constant = constantFor(value, test);
    return value !== undefined && constant !== undefined && compare(value, constant);
  }
  if (test.name === "And") return test.children.every((one) => meets(item, one));
  if (test.name === "Or") return test.children.some((one) => meets(item, one));
  if (test.name === "Not") return !test.children.some((one) => meets(item, one));
  if (test.name === "Exists") return valueOf(item, field) !== undefined;
  if (test.name === "Contains") return contains(item, test);
  throw new EwsError("ErrorUnsupportedPathForQuery", { message: `The restriction ${test.name} is not supported.` });
}

function contains(item: Item, test: Xml): boolean {
  const value = String(valueOf(item, test.children[0]) ?? "").toLowerCase();
  const constant = (child(test, "Constant")?.attributes["Value"] ?? "").toLowerCase();
  const mode = test.attributes["ContainmentMode"] ?? "FullString";
  if (mode === "FullString") return value.split("\n").includes(constant);
  return mode.startsWith("Prefix") ? value.startsWith(constant) : value.includes(constant);
}

function sorted(items: Item[], order: Xml | undefined): Item[] {
  const fields = order?.children ?? [];
  // Without an order the newest come first.
  if (fields.length === 0) return items.toSorted((a, b) => b.receivedAt.getTime() - a.receivedAt.getTime());
  return items.toSorted((a, b) => {
    for (const field of fields) {
      const [one = "", other = ""] = [valueOf(a, field.children[0]), valueOf(b, field.children[0])];
      const sign = one < other ? -1 : one > other ? 1 : 0;
      if (sign !== 0) return field.attributes["Order"] === "Descending" ? -sign : sign;
    }
    return a.number - b.number;
  });
}

async function found(ask: Ask, folder: Xml): Promise<string> {
  const { request } = ask;
  const shape = readShape(child(request, "ItemShape"));
  const view = child(request, "IndexedPageItemView");
  const offset = Number(view?.attributes["Offset"] ?? 0);
  const most = Math.min(Number(view?.attributes["MaxEntriesReturned"] ?? 1000), 1000);
  const test = child(request, "Restriction")?.children[0];
  const inside = [...folderOf(ask, folder).items.values()];
  const all = sorted(
    inside.filter((item) => !test || meets(item, test)),
    child(request, "SortOrder"),
  );
  const fromEnd = view?.attributes["BasePoint"] === "End";
  const start = fromEnd ? Math.max(all.length - offset - most, 0) : offset;
  const page = all.slice(start, start + most);
  const attributes = {
    IndexedPagingOffset: offset + page.length,
    TotalItemsInView: all.length,
    IncludesLastItemInRange: String(offset + page.length >= all.length),
  };
  const items: string[] = [];
  for (const item of page) items.push(await itemXml(item, shape, true));
  return tag("m:RootFolder", attributes, tag("t:Items", {}, ...items));
}

const findItem: Operation = async (ask) => {
  return answerEach("FindItem", idsIn(ask.request, "ParentFolderIds"), (id) => found(ask, id));
};

const getItem: Operation = async (ask) => {
  const shape = readShape(child(ask.request, "ItemShape"));
  const { store, withoutMime, lieAbout } = ask.world;
  const lies = new Map<string, Lie | undefined>();
  for (const { attributes } of shape.mime ? idsIn(ask.request, "ItemIds") : []) {
    const item = store.items.get(attributes["Id"] ?? "");
    if (item) lies.set(item.id, lieAbout(item, "content"));
  }
  const one = async (id: Xml) => {
    const item = itemOf(ask, id);
    const lie = lies.get(item.id);
    if (typeof lie === "object") throw new EwsError(lie.code);
    const mime = shape.mime && lie !== "empty" && !withoutMime.has(item.id);
    return tag("m:Items", {}, await itemXml(item, { ...shape, mime }));
  };
  const wanted = idsIn(ask.request, "ItemIds").filter(
    ({ attributes }) => lies.get(attributes["Id"] ?? "") !== "left out",
  );
  return answerEach("GetItem", wanted, one, "<m:Items/>");
};

const getAttachment: Operation = async (ask) => {
  const one = async (wish: Xml) => {
    const id = wish.attributes["Id"] ?? "";
    const { items } = ask.world.store;
    // Ids of files in the message begin with the message's own, see `filesOf`.
    const item =
      items.get(`${id.slice(0, -10)}=`) ??
      [...items.values()].find(({ files }) => files.some((file) => file.id === id));
    if (item) checked(ask.acting, item.folder.mailbox);
    const inside = item ? filesOf(item, await PostalMime.parse(item.raw)) : [];
    const file = inside.find((candidate) => candidate.id === id);
    if (!file) throw new EwsError("ErrorItemNotFound");
    return tag("m:Attachments", {}, fileXml(file, true));
  };
  return answerEach("GetAttachment", idsIn(ask.request, "AttachmentIds"), one, "<m:Attachments/>");
};

export const FIND_OPERATIONS: Record<string, Operation> = {
  FindItem: findItem,
  GetItem: getItem,
  GetAttachment: getAttachment,
};
