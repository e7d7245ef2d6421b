/** Operations on folders: found, read, synchronized, made and removed. */
import { type Ask, answerEach, answerOne, folderOf, idsIn, type Operation } from "./ask.ts";
import { folderId, folderXml, readShape } from "./shape.ts";
import { EwsError } from "./soap.ts";
import { type Folder, moveFolderTo, newFolder, removeFolder } from "./store.ts";
import { readState, writeState } from "./sync.ts";
import { child, leaf, tag, textAt, type Xml } from "./xml.ts";

const NO_FOLDERS = "<m:Folders/>";

const getFolder: Operation = async (ask) => {
  const shape = readShape(child(ask.request, "FolderShape"));
  const one = (id: Xml) => tag("m:Folders", {}, folderXml(folderOf(ask, id), shape));
  return answerEach("GetFolder", idsIn(ask.request, "FolderIds"), one, NO_FOLDERS);
};

/** Those below the folder, a parent before its children. */
function below(folder: Folder, deep: boolean): Folder[] {
  const children = [...folder.mailbox.folders.values()].filter((one) => one.parent === folder);
  return children.flatMap((one) => (deep ? [one, ...below(one, true)] : [one]));
}

const findFolder: Operation = async (ask) => {
  const shape = readShape(child(ask.request, "FolderShape"));
  const deep = ask.request.attributes["Traversal"] === "Deep";
  const view = child(ask.request, "IndexedPageFolderView");
  const offset = Number(view?.attributes["Offset"] ?? 0);
  const most = Number(view?.attributes["MaxEntriesReturned"] ?? Number.POSITIVE_INFINITY);
  const one = (id: Xml) => {
    const all = below(folderOf(ask, id), deep);
    const page = all.slice(offset, offset + most);
    const attributes = {
      IndexedPagingOffset: offset + page.length,
      TotalItemsInView: all.length,
      IncludesLastItemInRange: String(offset + page.length >= all.length),
    };
    const folders = tag("t:Folders", {}, ...page.map((folder) => folderXml(folder, shape)));
    return tag("m:RootFolder", attributes, folders);
  };
  return answerEach("FindFolder", idsIn(ask.request, "ParentFolderIds"), one);
};

const createFolder: Operation = async (ask) => {
  const one = (wish: Xml) => {
    const parent = folderOf(ask, child(ask.request, "ParentFolderId")?.children[0]);
    const folder = newFolder(ask.world.store, parent.mailbox, {
      parent,
      name: textAt(wish, "DisplayName") ?? "",
      folderClass: textAt(wish, "FolderClass") ?? "IPF.Note",
    });
    return tag("m:Folders", {}, tag("t:Folder", {}, folderId("t:FolderId", folder)));
  };
  return answerEach("CreateFolder", idsIn(ask.request, "Folders"), one, NO_FOLDERS);
};

const deleteFolder: Operation = async (ask) => {
  const one = (id: Xml) => {
    const folder = folderOf(ask, id);
    if (folder.distinguished) throw new EwsError("ErrorDeleteDistinguishedFolder");
    removeFolder(ask.world.store, folder);
    return "";
  };
  return answerEach("DeleteFolder", idsIn(ask.request, "FolderIds"), one);
};

const moveFolder: Operation = async (ask) => {
  const one = (id: Xml) => {
    const folder = folderOf(ask, id);
    moveFolderTo(ask.world.store, folder, folderOf(ask, child(ask.request, "ToFolderId")?.children[0]));
    return tag("m:Folders", {}, tag("t:Folder", {}, folderId("t:FolderId", folder)));
  };
  return answerEach("MoveFolder", idsIn(ask.request, "FolderIds"), one, NO_FOLDERS);
};

type HierarchyState = { kind: "folders"; folder: string; generation: number; given: Record<string, number> };

const syncHierarchy: Operation = (ask) => answerOne("SyncFolderHierarchy", () => hierarchy(ask));

function hierarchy(ask: Ask): string {
  const shape = readShape(child(ask.request, "FolderShape"));
  const wished = child(ask.request, "SyncFolderId")?.children[0];
  const top = folderOf(ask, wished ?? DEFAULT_TOP);
  const generation = ask.world.generation;
  const fresh: HierarchyState = { kind: "folders", folder: top.id, generation, given: {} };
  const state = readState(textAt(ask.request, "SyncState"), fresh);
  const given = new Map(Object.entries(state.given));
  const changes: string[] = [];
  for (const folder of below(top, true)) {
    const before = given.get(String(folder.number));
    if (before === undefined) changes.push(tag("t:Create", {}, folderXml(folder, shape)));
    else if (before < folder.changed) changes.push(tag("t:Update", {}, folderXml(folder, shape)));
    given.set(String(folder.number), folder.changed);
  }
  for (const [number, id] of top.mailbox.goneFolders) {
    if (given.delete(String(number))) changes.push(tag("t:Delete", {}, tag("t:FolderId", { Id: id })));
  }
  return [
    leaf("m:SyncState", writeState({ ...state, given: Object.fromEntries(given) })),
    leaf("m:IncludesLastFolderInRange", true),
    tag("m:Changes", {}, ...changes),
  ].join("");
}

const DEFAULT_TOP: Xml = {
  name: "DistinguishedFolderId",
  space: "t",
  attributes: { Id: "msgfolderroot" },
  children: [],
  text: "",
};

export const FOLDER_OPERATIONS: Record<string, Operation> = {
  GetFolder: getFolder,
  FindFolder: findFolder,
  CreateFolder: createFolder,
  DeleteFolder: deleteFolder,
  MoveFolder: moveFolder,
  SyncFolderHierarchy: syncHierarchy,
};
