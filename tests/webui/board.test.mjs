// The board while eight clients stream from a real, hybrid, drafting model.
import { test } from "node:test";
import { assert, browser, open, say, shot, texts } from "./browser.mjs";

const { DEMO } = process.env;

/** Streams answers, one after another, until `signal` ends it; gives how many tokens came. */
async function client(name, signal) {
  let n = 0;
  while (!signal.aborted) {
    try {
      const response = await fetch(`${DEMO}/v1/chat/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Session-Id": name },
        body: JSON.stringify({
          messages: [{ role: "user", content: `Tell me a story. My codeword is ${name}.` }],
          stream: true, max_tokens: 1200, ignore_eos: true,
        }),
        signal,
      });
      for await (const piece of response.body.pipeThrough(new TextDecoderStream())) n += piece.split("data:").length - 1;
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
  return n;
}

/** Waits until the texts of `selector` together match: what the board shows changes every second. */
async function shows(page, selector, pattern) {
  const holds = ([selector, source]) =>
    new RegExp(source, "s").test([...document.querySelectorAll(selector)].map((e) => e.textContent).join("\n"));
  await page.waitForFunction(holds, [selector, pattern.source]).catch(async (error) => {
    throw new Error(`${pattern} is not in ${(await texts(page, selector)).join("\n")}`, { cause: error });
  });
}

test("a chat with the model itself", async () => {
  const { page, faults, foreign } = await browser();
  await open(page, DEMO);
  await say(page, "The codeword is lantern. What is the codeword?");
  assert.match((await texts(page, ".message.assistant .markdown")).at(-1), /lantern/i);
  assert.match((await texts(page, ".stats"))[0], /tokens\/s/);
  assert.deepEqual([faults, foreign], [[], []]);
});

test("eight clients: slots, queue, cells, states, drafts, plots", async () => {
  const { page, faults, foreign } = await browser();
  const ending = new AbortController();
  const clients = Array.from({ length: 8 }, (_, i) => client(`client-${i}`, ending.signal));
  try {
    await open(page, `${DEMO}/#board`);
    await page.waitForFunction(() => document.querySelectorAll('.slot:not([data-state="idle"])').length >= 6);
    assert.equal(await page.locator(".slot").count(), 8);
    await shows(page, ".tile", /Generated now[\d,]{2,}\S* tokens\/s.*Slots busy[5-8] of 8/);
    await shows(page, ".tile", /Between tokens[\d.]+ m?s 95 %: [\d.]+ m?s/);
    await shows(page, ".tile", /First token[\d.,]+ m?s 95 %: [\d.,]+ m?s/);
    await shows(page, ".slot", /generating.*Request\d+Whosesession [0-9a-f]{6}.*State1 row/);
    await shows(page, ".slot", /Drafts accepted\d+\s%/);
    await shows(page, ".panels .panel", /KV cells.*in use [\d,]+.*reusable prefixes [\d,]+.*free [\d,]+/);
    await shows(page, ".panels .panel", /Recurrent states.*running \d+.*checkpoints \d+/);
    await shows(page, ".panels .panel", /Reused[\d,]+, \d+\s%/);
    await shows(page, ".panels .panel", /Planned in all[\d.]+ MiB.*Resident now[\d.,]+ MiB/);
    await page.waitForTimeout(4000);
    const line = await page.locator(".plot .line.series-0").first().getAttribute("d");
    assert.ok(line.split("L").length > 4, line);
    assert.match(await page.locator(".plot").first().getAttribute("aria-label"), /Now: generated [\d.,]+ tokens\/s/);
    await page.locator("details.numbers summary").first().click();
    assert.match((await texts(page, ".numbers tbody tr")).join(), /0 to 10\d/);
    await page.locator(".plot").first().hover({ position: { x: 380, y: 60 } });
    await page.waitForFunction(() => /s ago|now/.test(document.querySelector(".readout").textContent));
    await page.locator("details.numbers summary").first().click();
    await page.mouse.move(0, 0);
    await shot(page, "board");
  } finally {
    ending.abort();
  }
  const counts = await Promise.all(clients);
  assert.ok(counts.every((n) => n > 0), `everybody was served: ${counts}`);
  await page.waitForFunction(() => document.querySelectorAll('.slot[data-state="idle"]').length === 8);
  assert.deepEqual([faults, foreign], [[], []]);
});

test("a page that is not looked at asks nothing", async () => {
  const { page } = await browser();
  let n = 0;
  page.on("request", (request) => (n += request.url().includes("/board?")));
  await open(page, `${DEMO}/#board`);
  await page.waitForFunction(() => document.querySelectorAll(".slot").length === 8);
  await page.click("#to-chat");
  await page.waitForTimeout(200);
  const before = n;
  assert.ok(before > 0);
  await page.waitForTimeout(2500);
  assert.equal(n, before);
});
