/** Operations that change items: made, sent, updated, moved, deleted, and files added to drafts. */
import { randomUUID } from "node:crypto";
import { type Ask, answerEach, folderOf, idsIn, itemOf, type Operation } from "./ask.ts";
import { composed, type Draft, readFile, setProperty } from "./compose.ts";
import { peopleField, readHead, withField, withFiles } from "./letter.ts";
import { elementOf, itemId } from "./shape.ts";
import { EwsError, SoapFault } from "./soap.ts";
import { addItem, changed, copyItem, moveItem, removeItem } from "./items.ts";
import { changeKey, type Folder, folderNamed, type Item } from "./store.ts";
import { child, leaf, tag, textAt, type Xml, isTrue } from "./xml.ts";

const NO_ITEMS = "<m:Items/>";

function itemAnswer(item: Item): string {
  return tag("m:Items", {}, tag(`t:${elementOf(item.itemClass)}`, {}, itemId(item)));
}

/** The folder a request names for what it makes, or this one of the asking mailbox. */
function savedFolder(ask: Ask, otherwise: string): Folder {
  const named = child(ask.request, "SavedItemFolderId")?.children[0];
  const folder = named ? folderOf(ask, named) : folderNamed(ask.acting, otherwise);
  if (!folder) throw new EwsError("ErrorFolderNotFound");
  return folder;
}

const UNSENT = 8;
const DELIVERY_TIME = `${0x0e06}    SystemTime`;
const FLAGS = `${0x0e07}    Integer`;

function save(ask: Ask, draft: Draft, folder: Folder, isDraft: boolean): Item {
  const flags = draft.extended.get(FLAGS);
  const arrived = draft.extended.get(DELIVERY_TIME);
  const item = addItem(
    ask.world.store,
    folder,
    {
      raw: draft.raw,
      isRead: draft.isRead ?? true,
      isDraft: flags === undefined ? isDraft : (Number(flags) & UNSENT) !== 0,
      itemClass: draft.itemClass,
      categories: draft.categories,
      receivedAt: arrived === undefined ? undefined : new Date(arrived),
    },
    false,
  );
  for (const [key, value] of draft.extended) item.extended.set(key, value);
  item.files.push(...draft.files);
  return item;
}

/** The bytes as they leave: who sends, when and under which id is completed as the transport does. */
function ready(ask: Ask, raw: Buffer): Buffer {
  const head = readHead(raw);
  let done = raw;
  const add = (name: string, value: string | undefined) => {
    done = withField(done, name, value);
  };
  if (!head.from) add("From", ask.acting.address);
  if (!head.sent) add("Date", new Date().toUTCString().replace("GMT", "+0000"));
  if (!head.messageId) add("Message-ID", `<${randomUUID().replaceAll("-", "")}@exchange.example>`);
  return done;
}

/** Hands the message to the transport: to the mailboxes here at once, to everyone in the list of what was sent. */
function send(ask: Ask, raw: Buffer, savedTo: Folder | undefined): void {
  const { world, acting } = ask;
  if (raw.length > world.limits.messageBytes) throw new EwsError("ErrorMessageSizeExceeded");
  const head = readHead(raw);
  const sender = head.from?.address ?? acting.address;
  checkSender(ask, sender);
  const recipients = [...head.to, ...head.cc, ...head.bcc].map(({ address }) => address);
  if (recipients.length === 0 || recipients.some((one) => !/^[^@\s]+@[^@\s]+$/.test(one))) {
    throw new EwsError("ErrorInvalidRecipients", { message: "At least one recipient isn't valid." });
  }
  const leaving = withField(raw, "Bcc", undefined);
  world.sent.push({
    raw: leaving,
    sender,
    recipients,
    savedTo: savedTo?.distinguished ?? savedTo?.name,
    at: new Date(),
  });
  for (const address of new Set(recipients.map((one) => one.toLowerCase()))) {
    const mailbox = world.store.mailboxes.get(address);
    const inbox = mailbox && folderNamed(mailbox, "inbox");
    if (inbox) addItem(world.store, inbox, { raw: received(leaving) }, true);
  }
}

function checkSender({ world, acting }: Ask, sender: string): void {
  if (sender.toLowerCase() === acting.address.toLowerCase()) return;
  const mailbox = world.store.mailboxes.get(sender.toLowerCase());
  if (!mailbox?.delegates.has(acting.login) && !mailbox?.delegates.has(acting.address)) {
    throw new EwsError("ErrorSendAsDenied");
  }
}

function received(raw: Buffer): Buffer {
  const date = new Date().toUTCString().replace("GMT", "+0000");
  const line = `Received: from exchange.example by exchange.example with Microsoft SMTP Server; ${date}\r\n`;
  return Buffer.concat([Buffer.from(line), raw]);
}

function createOne(ask: Ask, element: Xml, disposition: string): string {
  const draft = composed(element);
  if (draft.raw.length > ask.world.limits.messageBytes) throw new EwsError("ErrorMessageSizeExceeded");
  if (disposition === "SaveOnly" || disposition === "") {
    return itemAnswer(save(ask, draft, savedFolder(ask, "drafts"), true));
  }
  const folder = disposition === "SendAndSaveCopy" ? savedFolder(ask, "sentitems") : undefined;
  const raw = ready(ask, withFiles(draft.raw, draft.files));
  send(ask, raw, folder);
  if (folder) save(ask, { ...draft, raw, files: [] }, folder, false);
  return NO_ITEMS;
}

const createItem: Operation = async (ask) => {
  const disposition = ask.request.attributes["MessageDisposition"] ?? "";
  const wishes = idsIn(ask.request, "Items");
  if (disposition === "" && wishes.some((one) => one.name === "Message")) {
    throw new SoapFault("ErrorMessageDispositionRequired", { message: "Message disposition is required." });
  }
  return answerEach("CreateItem", wishes, (one) => createOne(ask, one, disposition), NO_ITEMS);
};

/** Refuses ids whose change key is not that of the newest version. */
function fresh(item: Item, id: Xml | undefined): Item {
  const key = id?.attributes["ChangeKey"];
  if (key !== undefined && key !== changeKey(item)) throw new EwsError("ErrorIrresolvableConflict");
  return item;
}

const sendItem: Operation = async (ask) => {
  const saving = isTrue(ask.request.attributes["SaveItemToFolder"]);
  const one = (id: Xml) => {
    if (id.attributes["ChangeKey"] === undefined) throw new EwsError("ErrorChangeKeyRequired");
    const item = fresh(itemOf(ask, id), id);
    const folder = saving ? savedFolder(ask, "sentitems") : undefined;
    sendDraft(ask, item, folder);
    return "";
  };
  return answerEach("SendItem", idsIn(ask.request, "ItemIds"), one);
};

function sendDraft(ask: Ask, item: Item, folder: Folder | undefined): void {
  const raw = ready(ask, withFiles(item.raw, item.files));
  send(ask, raw, folder);
  if (!folder) return removeItem(ask.world.store, item);
  Object.assign(item, { raw, files: [], isDraft: false, isRead: true, head: readHead(raw) });
  return moveItem(ask.world.store, item, folder);
}

/** One SetItemField, AppendToItemField or DeleteItemField. */
function update(draft: Draft, one: Xml): void {
  const [field, element] = one.children;
  const name = (field?.attributes["FieldURI"] ?? "").replace(/^.*:/, "");
  const value = element?.children[0];
  if (field?.name === "ExtendedFieldURI") {
    if (value) setProperty(draft, "ExtendedProperty", value);
  } else if (one.name === "DeleteItemField") {
    setProperty(draft, name, undefined);
  } else if (one.name === "AppendToItemField" && name.endsWith("Recipients") && value) {
    const head = readHead(draft.raw);
    const before = { ToRecipients: head.to, CcRecipients: head.cc, BccRecipients: head.bcc }[name] ?? [];
    const added = value.children.map((person) => ({
      name: textAt(person, "Name") ?? "",
      address: textAt(person, "EmailAddress") ?? "",
    }));
    const header = { ToRecipients: "To", CcRecipients: "Cc", BccRecipients: "Bcc" }[name] ?? "To";
    draft.raw = withField(draft.raw, header, peopleField([...before, ...added]));
  } else if (value?.name === name) {
    setProperty(draft, name, value);
  } else {
    throw new EwsError("ErrorIncorrectUpdatePropertyCount");
  }
}

function updateOne(ask: Ask, change: Xml): string {
  const id = child(change, "ItemId");
  const item = itemOf(ask, id);
  const resolution = ask.request.attributes["ConflictResolution"];
  if (resolution !== "AlwaysOverwrite") fresh(item, id);
  const draft: Draft = { raw: item.raw, extended: item.extended, files: item.files, isRead: item.isRead };
  draft.categories = item.categories;
  const updates = child(change, "Updates")?.children ?? [];
  for (const one of updates) update(draft, one);
  const names = updates.map((one) => one.children[0]?.attributes["FieldURI"]);
  Object.assign(item, { raw: draft.raw, isRead: draft.isRead, categories: draft.categories });
  if (draft.itemClass) item.itemClass = draft.itemClass;
  changed(
    ask.world.store,
    item,
    names.every((name) => name === "message:IsRead"),
  );
  const disposition = ask.request.attributes["MessageDisposition"];
  if (disposition === "SendOnly") sendDraft(ask, item, undefined);
  if (disposition === "SendAndSaveCopy") sendDraft(ask, item, savedFolder(ask, "sentitems"));
  return itemAnswer(item) + tag("m:ConflictResults", {}, leaf("t:Count", 0));
}

const updateItem: Operation = async (ask) => {
  if (ask.request.attributes["MessageDisposition"] === undefined) {
    throw new SoapFault("ErrorMessageDispositionRequired", { message: "Message disposition is required." });
  }
  return answerEach("UpdateItem", idsIn(ask.request, "ItemChanges"), (one) => updateOne(ask, one), NO_ITEMS);
};

const deleteItem: Operation = async (ask) => {
  const type = ask.request.attributes["DeleteType"];
  const one = (id: Xml) => {
    const item = itemOf(ask, id);
    const name = { MoveToDeletedItems: "deleteditems", SoftDelete: "recoverableitemsdeletions" }[type ?? ""];
    const target = name === undefined ? undefined : folderNamed(item.folder.mailbox, name);
    if (!target || target === item.folder) removeItem(ask.world.store, item);
    else moveItem(ask.world.store, item, target);
    return "";
  };
  return answerEach("DeleteItem", idsIn(ask.request, "ItemIds"), one);
};

function toFolder(name: "MoveItem" | "CopyItem", work: (ask: Ask, item: Item, target: Folder) => Item): Operation {
  return async (ask) => {
    const one = (id: Xml) => {
      const target = folderOf(ask, child(ask.request, "ToFolderId")?.children[0]);
      const there = work(ask, itemOf(ask, id), target);
      const silent = textAt(ask.request, "ReturnNewItemIds") === "false" || there.folder.mailbox !== ask.acting;
      return silent ? NO_ITEMS : itemAnswer(there);
    };
    return answerEach(name, idsIn(ask.request, "ItemIds"), one, NO_ITEMS);
  };
}

const createAttachment: Operation = async (ask) => {
  const parent = child(ask.request, "ParentItemId");
  const one = (wish: Xml) => {
    const item = itemOf(ask, parent);
    const file = readFile(wish);
    if (file.content.length > ask.world.limits.messageBytes) throw new EwsError("ErrorAttachmentSizeLimitExceeded");
    item.files.push(file);
    changed(ask.world.store, item, false);
    const root = { Id: file.id, RootItemId: item.id, RootItemChangeKey: changeKey(item) };
    const attachment = tag("t:FileAttachment", {}, tag("t:AttachmentId", root));
    return tag("m:Attachments", {}, attachment);
  };
  return answerEach("CreateAttachment", idsIn(ask.request, "Attachments"), one, "<m:Attachments/>");
};

export const WRITE_OPERATIONS: Record<string, Operation> = {
  CreateItem: createItem,
  SendItem: sendItem,
  UpdateItem: updateItem,
  DeleteItem: deleteItem,
  MoveItem: toFolder("MoveItem", (ask, item, target) => {
    moveItem(ask.world.store, item, target);
    return item;
  }),
  CopyItem: toFolder("CopyItem", (ask, item, target) => copyItem(ask.world.store, item, target)),
  CreateAttachment: createAttachment,
};
