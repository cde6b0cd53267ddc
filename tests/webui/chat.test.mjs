// A chat from its first token to its end, and everything that can be done with it. The model says
// what the user said.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, begin, browser, ended, open, say, shot, texts } from "./browser.mjs";

const { ECHO, SLOW, SCRATCH } = process.env;
const ANSWERS = ".message.assistant .markdown";
const last = (page) => page.locator(ANSWERS).last().innerText();
const CODE = "Here:\n\n```python\ndef f(x):\n    return x  # same\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n- **bold**\n- `code`";

test("an answer comes piece by piece and ends with its numbers", async () => {
  const { page, faults, foreign } = await browser();
  await open(page, SLOW);
  await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
  const text = "A sentence that takes a second or two to write. ".repeat(3).trim();
  await begin(page, text);
  await page.waitForFunction((n) => {
    const said = document.querySelector(".message.assistant .body > .markdown")?.textContent ?? "";
    return said.length > 10 && said.length < n;
  }, text.length - 20);
  assert.equal(await page.locator("#send").getAttribute("title"), "Stop (Esc)");
  assert.equal(await page.locator(".message.assistant").getAttribute("aria-busy"), "true");
  await ended(page);
  assert.equal(await last(page), text);
  assert.match((await texts(page, ".stats"))[0], /tokens\/s · \d+ tokens · prompt \d+ \(3 from cache\) · first after/);
  assert.match(await page.textContent("#composer-note"), /of 1,048,576 tokens of context/);
  assert.equal(await page.title(), `A sentence that takes a second or two to write. A sentence… – slotmux`);
  assert.deepEqual([faults, foreign], [[], []]);
});

test("stop ends an answer where it is; continue goes on from there", async () => {
  const { page, faults } = await browser();
  await open(page, SLOW);
  const text = "word ".repeat(60).trim();
  for (const stop of [() => page.click("#send"), () => page.press("#prompt", "Escape")]) {
    await begin(page, text);
    await page.waitForFunction(() => [...document.querySelectorAll(".markdown")].at(-2)?.isConnected &&
      document.querySelector(".message.last .markdown + *, .message.last .body").textContent.length > 12);
    await stop();
    await ended(page);
    const said = await page.locator(".message.last > .body > .markdown").innerText();
    assert.ok(said.length > 3 && said.length < text.length, said);
    assert.match(await page.locator(".message.last .note").innerText(), /Stopped/);
  }
  const before = await page.locator(".message.last > .body > .markdown").innerText();
  await page.locator(".message.last").getByRole("button", { name: "Continue" }).click();
  await ended(page);
  const after = await page.locator(".message.last > .body > .markdown").innerText();
  assert.ok(after.startsWith(before) && after.length > before.length);
  assert.equal(await page.locator(".message.last .note").count(), 0);
  assert.deepEqual(faults, []);
});

test("Markdown, code with a button that copies it", async () => {
  const { context, page, faults } = await browser({ permissions: ["clipboard-read", "clipboard-write"] });
  await open(page, ECHO);
  await page.fill("#prompt", CODE);
  await page.click("#send");
  await ended(page);
  const answer = page.locator(ANSWERS).last();
  assert.equal(await answer.locator("pre code").textContent(), "def f(x):\n    return x  # same");
  assert.deepEqual(await answer.locator(".hl-keyword").allTextContents(), ["def", "return"]);
  assert.equal(await answer.locator("td").nth(1).textContent(), "2");
  assert.equal(await answer.locator("li strong").textContent(), "bold");
  await answer.getByRole("button", { name: "Copy python" }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "def f(x):\n    return x  # same");
  await page.locator(".message.assistant").getByRole("button", { name: "Copy", exact: true }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), CODE);
  await shot(page, "chat-code");
  assert.equal(context.pages().length, 1);
  assert.deepEqual(faults, []);
});

test("a turn is edited, an answer regenerated; what was there stays a step away", async () => {
  const { page, faults } = await browser();
  await open(page, ECHO);
  await say(page, "first words");
  await say(page, "second words");
  await page.locator(".message.user").first().getByRole("button", { name: "Edit" }).click();
  await page.waitForSelector("textarea.edit:focus");
  await page.fill("textarea.edit", "other words");
  await page.press("textarea.edit", "Control+Enter");
  await ended(page);
  assert.deepEqual(await texts(page, ".said"), ["other words"]);
  assert.equal(await last(page), "other words");
  await page.getByRole("button", { name: "Earlier version" }).click();
  assert.deepEqual(await texts(page, ".said"), ["first words", "second words"]);
  await page.getByRole("button", { name: "Later version" }).click();
  await page.locator(".message.last").getByRole("button", { name: "Regenerate" }).click();
  await ended(page);
  assert.match(await page.locator(".message.last .versions").textContent(), /2\/2/);
  await page.locator(".message.last").getByRole("button", { name: "Edit" }).click();
  await page.fill("textarea.edit", "my own");
  await page.getByRole("button", { name: "Save" }).click();
  assert.equal(await last(page), "my own");
  assert.match(await page.locator(".message.last .note").innerText(), /Edited by you/);
  await page.locator(".message.user").last().getByRole("button", { name: "Edit" }).click();
  await page.press("textarea.edit", "Escape");
  assert.equal(await page.locator("textarea.edit").count(), 0);
  assert.deepEqual(faults, []);
});

test("several conversations, kept over a reload; renamed, deleted, saved and read back", async () => {
  const { page, faults } = await browser();
  await open(page, ECHO);
  await say(page, "about rivers");
  await page.click("#new");
  await say(page, "about clocks");
  await page.reload();
  await page.waitForSelector(".said");
  assert.deepEqual(await texts(page, ".said"), ["about clocks"], "the address says which");
  assert.deepEqual((await texts(page, ".line-title")).sort(), ["about clocks", "about rivers"]);
  await page.getByRole("link", { name: "about rivers" }).click();
  assert.deepEqual(await texts(page, ".said"), ["about rivers"]);
  await page.goBack();
  await page.waitForFunction(() => document.querySelector(".said").textContent === "about clocks");
  await page.click("#rename");
  await page.getByLabel("Title").fill("Time");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#title").textContent === "Time");
  const download = page.waitForEvent("download");
  await page.click("#export-all");
  const file = join(SCRATCH, "chats.json");
  await (await download).saveAs(file);
  assert.equal(JSON.parse(readFileSync(file, "utf8")).conversations.length, 2);
  await page.click("#delete");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".line-title").length === 1);
  await page.setInputFiles("#import-file", file);
  await page.waitForFunction(() => document.querySelectorAll(".line-title").length === 3);
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll(".line-title").length === 3);
  await page.setInputFiles("#import-file", { name: "x.json", mimeType: "application/json", buffer: Buffer.from("{}") });
  await page.waitForFunction(() => document.querySelector("#toast").textContent.includes("no conversations of slotmux"));
  assert.deepEqual(faults, []);
});

test("two answers at once; the one in the background is complete when it is looked at", async () => {
  const { page, faults } = await browser();
  await open(page, SLOW);
  await begin(page, "background ".repeat(40).trim());
  await page.waitForFunction(() => document.querySelector(".message.assistant .body > .markdown")?.textContent.length > 3);
  await page.click("#new");
  await page.waitForSelector('#conversations a[title^="background"] .dot');
  await say(page, "foreground");
  assert.equal(await last(page), "foreground");
  await page.waitForFunction(() => document.querySelectorAll(".dot").length === 0);
  await page.locator("#conversations a").filter({ hasText: "background" }).click();
  assert.equal(await last(page), "background ".repeat(40).trim());
  assert.deepEqual(faults, []);
});

test("thoughts are folded; calls are shown, and their results sent back", async () => {
  const { page, faults } = await browser();
  await open(page, ECHO);
  await say(page, "<think>Let me see.</think>\n\nSeen.");
  assert.equal(await page.locator(".message.assistant > .body > .markdown").innerText(), "Seen.");
  const thinking = page.locator(".message.last details.thinking");
  assert.equal(await thinking.getAttribute("open"), null);
  assert.match(await thinking.locator("summary").innerText(), /^Thought for/);
  await thinking.locator("summary").click();
  assert.equal(await thinking.locator(".markdown").innerText(), "Let me see.");

  await page.click("#settings");
  await page.getByLabel("Tools").fill("[{");
  assert.match(await page.locator("#set-tools-problem").innerText(), /no JSON/);
  const tool = { type: "function", function: { name: "now", parameters: { type: "object" } } };
  await page.getByLabel("Tools").fill(JSON.stringify([tool]));
  assert.equal(await page.locator("#set-tools-problem").innerText(), "");
  await page.getByRole("button", { name: "Done" }).click();
  await say(page, 'I look.\n<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>');
  assert.equal(await page.locator(".message.last .call code").innerText(), "now");
  assert.deepEqual(JSON.parse(await page.locator(".message.last .call pre").innerText()), { zone: "UTC" });
  await page.getByLabel("Result of now").fill("It is noon.");
  await shot(page, "chat-tool");
  await page.getByRole("button", { name: "Send results" }).click();
  await ended(page);
  assert.equal(await page.locator(".message.tool pre").innerText(), "It is noon.");
  assert.equal(await page.locator(".results").count(), 0);
  assert.deepEqual(faults, []);
});

test("settings reach the server, and wrong ones come back in words", async () => {
  const { page } = await browser();
  await open(page, ECHO);
  await page.click("#settings");
  await page.waitForSelector("dialog[open]");
  assert.equal(await page.getByLabel("Temperature").getAttribute("placeholder"), "0.8");
  await page.getByLabel("System prompt").fill("Be brief.");
  await page.getByLabel("Temperature").fill("0.25");
  await page.getByLabel("Most tokens").fill("7");
  await page.getByLabel("Further parameters").fill('{"min_tokens": 2}');
  await page.keyboard.press("Escape");
  const asked = page.waitForRequest((request) => request.method() === "POST");
  await say(page, "more than seven bytes");
  const body = (await asked).postDataJSON();
  assert.deepEqual(body.messages[0], { role: "system", content: "Be brief." });
  assert.deepEqual([body.temperature, body.max_tokens, body.min_tokens], [0.25, 7, 2]);
  assert.equal(await last(page), "more th");
  assert.match(await page.locator(".message.last .note").innerText(), /Cut off/);
  await page.click("#settings");
  await page.getByLabel("Further parameters").fill('{"nonsense": 1}');
  await page.keyboard.press("Escape");
  await say(page, "x");
  assert.match(await page.locator(".message.last .problem").innerText(), /nonsense/);
});

test("another tab sees what this one does", async () => {
  const { context, page, faults } = await browser();
  await open(page, ECHO);
  const other = await context.newPage();
  await open(other, ECHO);
  await say(page, "seen from both");
  await other.waitForFunction(() => document.querySelector(".line-title")?.textContent === "seen from both");
  assert.deepEqual(faults, []);
});

test("a stream is not read out piece by piece, its end is", async () => {
  const { page } = await browser();
  await open(page, SLOW);
  await page.evaluate(() => {
    globalThis.told = [];
    const region = document.querySelector("#status");
    new MutationObserver(() => region.textContent && told.push(region.textContent))
      .observe(region, { childList: true, characterData: true, subtree: true });
  });
  await say(page, "The whole of it, once.");
  await page.waitForFunction(() => told.length > 0);
  assert.deepEqual(await page.evaluate(() => told), ["Answer: The whole of it, once."]);
  const live = await page.locator("#messages, #messages *").evaluateAll((all) =>
    all.filter((element) => element.getAttribute("aria-live")).length);
  assert.equal(live, 0);
});

test("the keyboard is enough", async () => {
  const { page } = await browser();
  await open(page, ECHO);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "skip");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "prompt");
  await page.keyboard.type("by keys");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("alone");
  await page.keyboard.press("Enter");
  await ended(page);
  assert.equal(await page.locator(".said").innerText(), "by keys\nalone");
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt", "focus stays");
});

test("what grew piece by piece looks like what is shown at once", async () => {
  const { page, faults } = await browser();
  await open(page, ECHO);
  const text =
    "# Title\n\nA *b* `c` [d](http://e.test)\n\n- one\n- two\n\n  - deep\n\n1. x\n\n   y\n\n```py\nx = 'y'  # z\n```\n\n" +
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\n> q\n> r\n\n---\n\n[ref] and <b>html</b>\n\n[ref]: http://ref.test";
  await say(page, text);
  const markup = () => page.evaluate(() => document.querySelector(".message.assistant .body > .markdown").outerHTML);
  const grown = await markup();
  await page.reload();
  await page.waitForSelector(".message.assistant");
  assert.equal(grown, await markup());
  assert.match(grown, /href="http:\/\/ref.test/);
  assert.deepEqual(faults, []);
});
