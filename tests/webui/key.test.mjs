// A server that wants an API key.
import { test } from "node:test";
import { assert, browser, ended, open, shot, texts } from "./browser.mjs";

const { KEYED } = process.env;
const kept = (page) =>
  page.evaluate(() => [sessionStorage.getItem("slotmux.key"), localStorage.getItem("slotmux.key")]);

test("the key is asked for, tried, and kept for the tab alone", async () => {
  const { page, foreign } = await browser();
  await open(page, KEYED);
  const dialog = page.getByRole("dialog", { name: "API key" });
  await dialog.waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "key-input");
  assert.equal(await page.locator("dialog").count(), 1, "one dialogue for all who ask");
  await page.getByLabel("Key", { exact: true }).fill("sk-wrong");
  await page.keyboard.press("Enter");
  await page.getByText("The server does not know this key.").waitFor();
  await shot(page, "key");
  await page.getByLabel("Key", { exact: true }).fill("sk-page");
  await page.getByRole("button", { name: "Use key" }).click();
  await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
  assert.deepEqual(await kept(page), ["sk-page", null]);
  await page.fill("#prompt", "hello");
  await page.press("#prompt", "Enter");
  await ended(page);
  assert.deepEqual(await texts(page, ".message.assistant .markdown").then((all) => all.at(-1)), "hello");
  await page.click("#to-board");
  await page.waitForFunction(() => document.querySelectorAll(".slot").length === 8);
  assert.doesNotMatch(await page.evaluate(() => document.documentElement.outerHTML), /sk-page/);
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll(".slot").length === 8);
  assert.equal(await page.locator("dialog").count(), 0);
  assert.deepEqual(foreign, []);
});

test("it is remembered where the user says so", async () => {
  const { context, page } = await browser();
  await open(page, KEYED);
  await page.getByLabel("Key", { exact: true }).fill("sk-page");
  await page.getByLabel("Remember it on this device").check();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
  assert.deepEqual(await kept(page), [null, "sk-page"]);
  const other = await context.newPage();
  await open(other, KEYED);
  await other.waitForFunction(() => document.querySelector("#model").textContent === "echo");
});

test("without one the page says what is wrong, and asks again", async () => {
  const { page } = await browser();
  await open(page, KEYED);
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.fill("#prompt", "hello");
  await page.press("#prompt", "Enter");
  await page.getByRole("dialog", { name: "API key" }).waitFor();
  await page.keyboard.press("Escape");
  await ended(page);
  assert.match((await texts(page, ".message.last .problem"))[0], /API key/);
});
