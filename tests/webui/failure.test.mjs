// What goes wrong between the page and the server, and how that is told.
import { test } from "node:test";
import { assert, browser, ended, open, say } from "./browser.mjs";

const { ECHO } = process.env;
const last = (page) => page.locator(".message.assistant .body > .markdown").last().innerText();

test("while the model is loaded the page waits, and says so", async () => {
  const { page } = await browser();
  let n = 0;
  const error = { error: { message: "Loading model", code: "model_loading" } };
  await page.route("**/v1/models", (route) =>
    n++ < 2 ? route.fulfill({ status: 503, json: error }) : route.continue());
  await open(page, ECHO);
  await page.waitForFunction(() => document.querySelector("#model").textContent === "Loading model…");
  await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
});

test("without /props the chat works, too", async () => {
  const { page } = await browser();
  const error = { error: { message: "This endpoint is switched off (--props).", code: "endpoint_off" } };
  await page.route("**/props", (route) => route.fulfill({ status: 501, json: error }));
  await open(page, ECHO);
  await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
  await say(page, "hello");
  assert.equal(await last(page), "hello");
});

const EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"Half"}}]}\n\n';
const WRONG = {
  "an error in the stream": [
    { contentType: "text/event-stream", body: `${EVENT}data: {"error":{"message":"It went wrong."}}\n\n` },
    /It went wrong/, "Half",
  ],
  "a stream without an end": [{ contentType: "text/event-stream", body: EVENT }, /ended before the answer did/, "Half"],
  "a full queue": [
    { status: 429, headers: { "retry-after": "7" }, json: { error: { message: "The server is busy.", code: "queue_full" } } },
    /The server is busy\. It asks to try again in 7 s/, "",
  ],
  "a proxy's page": [{ status: 502, contentType: "text/html", body: "<h1>Bad gateway</h1>" }, /answered 502/, ""],
};
for (const [name, [response, words, said]] of Object.entries(WRONG)) {
  test(`${name} is told, and the turn can be tried again`, async () => {
    const { page } = await browser();
    let n = 0;
    await page.route("**/v1/chat/completions", (route) => (n++ ? route.continue() : route.fulfill(response)));
    await open(page, ECHO);
    await say(page, "try");
    assert.match(await page.locator(".message.last .problem").innerText(), words);
    assert.equal(await page.locator(".message.last > .body > .markdown").textContent(), said);
    await page.locator(".message.last").getByRole("button", { name: "Regenerate" }).click();
    await ended(page);
    assert.equal(await last(page), "try");
  });
}

test("behind a proxy's prefix everything is found", async () => {
  const { page, faults } = await browser();
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (!url.pathname.startsWith("/llm/")) return route.fulfill({ status: 404, body: "not behind the prefix" });
    url.pathname = url.pathname.slice("/llm".length);
    return route.continue({ url: url.href });
  });
  await open(page, `${ECHO}/llm/`);
  await say(page, "hello");
  assert.equal(await last(page), "hello");
  await page.click("#to-board");
  await page.waitForFunction(() => document.querySelectorAll(".slot").length === 8);
  assert.deepEqual(faults, []);
});

test("a server that is gone is told", async () => {
  const { page } = await browser();
  await open(page, ECHO);
  await page.context().setOffline(true);
  await say(page, "anybody?");
  assert.match(await page.locator(".message.last .problem").innerText(), /cannot be reached/);
});
