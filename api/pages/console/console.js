// Renews the live parts of a page: it fetches the page again and swaps each part that changed, by its id. Without this
// script the page works the same, and a reload renews it.
const PERIOD_MS = 5_000;
const SILENT_MS = 40_000;
const FETCH_MS = 10_000;
const news = document.getElementById("news");
const policy = window.trustedTypes?.createPolicy("console", { createHTML: (text) => text });
let heardAt = Date.now();
let timer = 0;

// What tells a link, a button or a field from its neighbours, in this page and in the next.
function keyOf(element) {
  const { tagName, id, form, value } = element;
  return [tagName, id, element.getAttribute("href"), form?.getAttribute("action"), value].join("|");
}

function findLike(part, key) {
  return [...part.querySelectorAll("a,button,input,select,summary")].find((one) => keyOf(one) === key);
}

function isSelecting(part) {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function swap(next) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = next.getElementById(old.id);
    if (!fresh || fresh.outerHTML === old.outerHTML || isSelecting(old)) continue;
    const focused = old.contains(document.activeElement) ? keyOf(document.activeElement) : undefined;
    const part = document.importNode(fresh, true);
    for (const { name, value, checked } of old.querySelectorAll("input[type=checkbox]"))
      for (const one of part.querySelectorAll("input[type=checkbox]"))
        if (one.name === name && one.value === value) one.checked = checked;
    const again = focused === undefined ? undefined : findLike(part, focused);
    // A part whose focused element is gone stays until the focus leaves it.
    if (focused !== undefined && !again) continue;
    old.replaceWith(part);
    again?.focus({ preventScroll: true });
  }
}

// False when the login has ended.
async function renew() {
  const signal = AbortSignal.timeout(FETCH_MS);
  const headers = { "x-renewal": "1" };
  const response = await fetch(location.href, { headers, redirect: "manual", cache: "no-store", signal });
  if (response.type === "opaqueredirect") return false;
  if (!response.ok) return true;
  const text = await response.text();
  swap(new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html"));
  heardAt = Date.now();
  return true;
}

function say(text) {
  if (news.textContent !== text) news.textContent = text;
}

async function tick() {
  let isLoggedIn = true;
  if (!document.hidden) {
    // Without an answer the page says how old it is.
    isLoggedIn = await renew().catch(() => true);
    const silentMs = Date.now() - heardAt;
    say(silentMs < SILENT_MS ? "" : `No news for ${Math.round(silentMs / 1000)} s. What you see is as old as that.`);
  }
  if (isLoggedIn) timer = setTimeout(tick, PERIOD_MS);
  else say("Your login has ended. Reload the page to log in again.");
}

if (document.querySelector("#as-of[data-live]")) {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    clearTimeout(timer);
    void tick();
  });
  timer = setTimeout(tick, PERIOD_MS);
}
