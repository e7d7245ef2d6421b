/** The Exchange library: loaded when the first Exchange mailbox is opened, and never otherwise, since it costs a second and 50 MB. */

export type EwsLibrary = typeof import("ews-javascript-api");

/** The library; every call after the first gets the loaded one. */
export function ewsLibrary(): Promise<EwsLibrary> {
  return import("ews-javascript-api");
}
