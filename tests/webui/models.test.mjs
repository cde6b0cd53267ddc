// A server of several models, as far as the page meets it.
import { test } from "node:test";
import { assert, browser, open, say } from "./browser.mjs";

const { ECHO } = process.env;
const ENTRIES = [
  { id: "small", status: { value: "unloaded" } },
  { id: "echo", status: { value: "loaded" } },
];

test("the model is chosen for a chat, told to the server, and kept", async () => {
  const { page, faults } = await browser();
  const asked = [];
  await page.route("**/v1/models", (route) => route.fulfill({ json: { object: "list", data: ENTRIES } }));
  await page.route("**/props*", (route) => {
    asked.push(new URL(route.request().url()).search);
    return route.continue();
  });
  const models = [];
  await page.route("**/v1/chat/completions", (route) => {
    const body = route.request().postDataJSON();
    models.push(body.model);
    return route.continue({ postData: JSON.stringify({ ...body, model: "echo" }) });
  });
  await page.route("**/board?*", (route) => {
    asked.push(new URL(route.request().url()).search);
    return route.continue();
  });
  await open(page, ECHO);
  const choice = page.getByLabel("Model", { exact: true });
  await choice.waitFor();
  assert.equal(await choice.inputValue(), "echo", "what is loaded comes first");
  assert.deepEqual(await choice.locator("option").allTextContents(), ["echo", "small (not loaded)"]);
  await say(page, "one");
  await choice.selectOption("small");
  await say(page, "two");
  await page.click("#new");
  await say(page, "three");
  await page.getByRole("link", { name: "one" }).click();
  await choice.selectOption("echo");
  await say(page, "four");
  assert.deepEqual(models, ["echo", "small", "small", "echo"]);
  await page.reload();
  await page.waitForFunction(() => document.querySelector("#models").value === "echo");
  await page.getByRole("link", { name: "three" }).click();
  await page.waitForFunction(() => document.querySelector("#models").value === "small");
  await page.click("#to-board");
  await page.waitForFunction(() => document.querySelectorAll(".slot").length === 8);
  assert.ok(asked.includes("?model=echo&autoload=false"));
  assert.ok(asked.some((search) => /^\?since=\d+&model=small&autoload=false$/.test(search)));
  assert.deepEqual(faults, []);
});

test("where there is one model there is nothing to choose, whatever it is also called", async () => {
  const { page } = await browser();
  await page.route("**/v1/models", (route) => route.fulfill({ json: { data: [{ id: "echo" }, { id: "alias" }] } }));
  await open(page, ECHO);
  await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
  assert.equal(await page.locator("#models").isVisible(), false);
  const asked = page.waitForRequest((request) => request.method() === "POST");
  await say(page, "hello");
  assert.equal("model" in (await asked).postDataJSON(), false);
});
