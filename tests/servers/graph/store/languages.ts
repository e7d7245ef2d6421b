/** The names that Exchange gives the folders of a mailbox in its owner's language. */

const ENGLISH = {
  msgfolderroot: "Top of Information Store",
  inbox: "Inbox",
  drafts: "Drafts",
  sentitems: "Sent Items",
  deleteditems: "Deleted Items",
  junkemail: "Junk Email",
  archive: "Archive",
  outbox: "Outbox",
  conversationhistory: "Conversation History",
  syncissues: "Sync Issues",
  conflicts: "Conflicts",
  localfailures: "Local Failures",
  serverfailures: "Server Failures",
  recoverableitemsdeletions: "Deletions",
  scheduled: "Scheduled",
  searchfolders: "Finder",
};

const NAMES = {
  en: ENGLISH,
  de: {
    ...ENGLISH,
    msgfolderroot: "Oberste Ebene des Informationsspeichers",
    inbox: "Posteingang",
    drafts: "Entwürfe",
    sentitems: "Gesendete Elemente",
    deleteditems: "Gelöschte Elemente",
    junkemail: "Junk-E-Mail",
    archive: "Archiv",
    outbox: "Postausgang",
    conversationhistory: "Aufgezeichnete Unterhaltungen",
    syncissues: "Synchronisierungsprobleme",
  },
  ru: {
    ...ENGLISH,
    msgfolderroot: "Корневой уровень хранилища",
    inbox: "Входящие",
    drafts: "Черновики",
    sentitems: "Отправленные",
    deleteditems: "Удаленные",
    junkemail: "Нежелательная почта",
    archive: "Архив",
    outbox: "Исходящие",
    conversationhistory: "Журнал бесед",
    syncissues: "Ошибки синхронизации",
  },
} satisfies Record<string, typeof ENGLISH>;

export type Language = keyof typeof NAMES;

export function namesIn(language: Language): typeof ENGLISH {
  return NAMES[language];
}
