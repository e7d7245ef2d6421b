/**
 * The frame of the reference page, and the small part of Markdown that descriptions use. hono's `html` escapes every value that
 * it did not create.
 */
import { createHash } from "node:crypto";
import { html, raw } from "hono/html";

/** HTML whose values are escaped. */
export type Html = ReturnType<typeof html>;

/** Renders text between backquotes as code. It knows no other Markdown. */
export function inlineMarkdown(text: string): Html {
  return html`${text.split("`").map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : part))}`;
}

const STYLE = `
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6776;--line:#dde3ea;--paper:#fff;--tint:#f5f7fa;--mark:#0b66c3}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9f0;--soft:#98a4b3;--line:#2d3642;--paper:#12171e;--tint:#1a212a;--mark:#6cb2ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:60rem;padding:2.5rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,sans-serif}h1{font-size:1.8rem;margin:0 0 .25rem}h2{margin:2.5rem 0 .75rem;font-size:1.3rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
h3{margin:0;font-size:1rem;font-weight:600}a{color:var(--mark)}p{margin:.5rem 0}.soft{color:var(--soft)}
code,pre{font:.86em/1.5 ui-monospace,Menlo,Consolas,monospace}code{background:var(--tint);padding:.1em .3em;border-radius:4px}
pre{background:var(--tint);padding:.9rem;border-radius:8px;overflow:auto}pre code{padding:0;background:none}
table{border-collapse:collapse;width:100%;font-size:.92rem;margin:.5rem 0 1rem}th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:500;white-space:nowrap}details{border:1px solid var(--line);border-radius:8px;margin:.5rem 0;padding:.6rem .9rem;overflow-x:auto}summary{cursor:pointer}
.verb{display:inline-block;min-width:4.2rem;font:600 .8rem ui-monospace,monospace;color:var(--mark);text-transform:uppercase}
nav a{margin-right:1rem;display:inline-block}`;

const CSP = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** A whole page as an answer: one style sheet, allowed by its hash, no script, and nothing from elsewhere. */
export async function htmlPage(title: string, body: Html): Promise<Response> {
  const whole = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width,initial-scale=1" />
        <title>${title}</title>
        ${raw(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <main>${body}</main>
      </body>
    </html>`;
  return new Response(String(whole), {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": CSP,
      "cache-control": "no-store",
    },
  });
}
