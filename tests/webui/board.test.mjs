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
          stream: true, max_tokens: 200, ignore_eos: true,
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
    await page.waitForFunction(() => {
      const tile = [...document.querySelectorAll(".tile")].find((t) => t.textContent.startsWith("Generated now"));
      return parseFloat(tile.querySelector("dd").textContent.replace(",", "")) > 5;
    });
    await page.waitForTimeout(6000);
    const tiles = (await texts(page, ".tile")).join("\n");
    assert.match(tiles, /Slots busy[5-8] of 8/);
    assert.match(tiles, /Between tokens[\d.]+ m?s 95 %: [\d.]+ m?s/);
    assert.match(tiles, /First token[\d.,]+ m?s 95 %: [\d.,]+ m?s/);
    const slots = (await texts(page, ".slot")).join("\n");
    assert.match(slots, /generating/);
    assert.match(slots, /Request\d+Whosesession [0-9a-f]{6}/);
    assert.match(slots, /State1 row/);
    assert.match(slots, /Drafts accepted\d+\s%/);
    const panels = (await texts(page, ".panels .panel")).join("\n");
    assert.match(panels, /KV cells.*in use [\d,]+.*reusable prefixes [\d,]+.*free [\d,]+/s);
    assert.match(panels, /Recurrent states.*running \d+.*checkpoints \d+/s);
    assert.match(panels, /Reused[\d,]+, \d+\s%/);
    assert.match(panels, /Planned in all[\d.]+ MiB.*Resident now[\d.,]+ MiB/s);
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
