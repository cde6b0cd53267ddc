// How much of a frame the page takes while answers stream into it. Numbers are printed; what is
// asserted is work, which does not depend on who else uses the machine: changes per frame and bytes.
import { test } from "node:test";
import { assert, begin, browser, ended, open } from "./browser.mjs";

const { SLOW } = process.env;

test("first paint", async () => {
  const { page } = await browser();
  const client = await page.context().newCDPSession(page);
  await client.send("Performance.enable");
  for (let i = 0; i < 3; i++) {
    await page.goto(SLOW);
    await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
    const [paint, ready, bytes] = await page.evaluate(() => [
      performance.getEntriesByName("first-contentful-paint")[0].startTime,
      performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
      performance.getEntriesByType("resource").reduce((n, entry) => n + entry.encodedBodySize, 0),
    ]);
    console.log(`first contentful paint ${paint.toFixed(0)} ms, script done ${ready.toFixed(0)} ms, ${bytes} bytes beside the document`);
    assert.ok(bytes < 100_000, "compressed");
  }
});

test("a frame has the changes of a frame", async () => {
  const { page, faults } = await browser();
  await open(page, SLOW);
  const client = await page.context().newCDPSession(page);
  // Time of the CPU: what others do on the machine does not count.
  await client.send("Performance.enable", { timeDomain: "threadTicks" });
  const text = `# Title\n\n${"A paragraph of some words that is followed by another. ".repeat(6)}\n\n`.repeat(3) + "```js\nlet a = 1;\nlet b = 2;\n```\n";
  for (let i = 0; i < 3; i++) {
    await page.click("#new");
    await begin(page, text);
  }
  await page.click("#new");
  await begin(page, text);
  await page.waitForSelector(".message.assistant .markdown h2");
  const before = await metrics(client);
  const seen = await page.evaluate(async () => {
    const frames = [];
    let changes = 0;
    new MutationObserver((records) => (changes += records.length)).observe(document.querySelector("#messages"), {
      childList: true, characterData: true, subtree: true,
    });
    const begin = performance.now();
    let last = begin;
    while (performance.now() - begin < 5000) {
      const now = await new Promise(requestAnimationFrame);
      frames.push([now - last, changes]);
      last = now;
      changes = 0;
    }
    return frames;
  });
  const after = await metrics(client);
  const gaps = seen.map(([gap]) => gap).sort((a, b) => a - b);
  const busy = (after.ThreadTime - before.ThreadTime) / seen.length;
  const script = (after.ScriptDuration - before.ScriptDuration) / seen.length;
  console.log(
    `${seen.length} frames in 5 s, median ${gaps[gaps.length >> 1].toFixed(1)} ms, p95 ` +
      `${gaps[Math.floor(gaps.length * 0.95)].toFixed(1)} ms; main thread ${(busy * 1000).toFixed(2)} ms a frame, ` +
      `script ${(script * 1000).toFixed(2)} ms`,
  );
  const changes = seen.map(([, n]) => n);
  assert.ok(changes.some((n) => n > 0));
  assert.ok(Math.max(...changes) < 60, `at most ${Math.max(...changes)} changes in a frame`);
  await page.reload(); // the rest is not waited for
  assert.deepEqual(faults, []);
});

async function metrics(client) {
  const { metrics } = await client.send("Performance.getMetrics");
  return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
}

test("a long conversation is as quick to grow as a short one", async () => {
  const { page } = await browser();
  await open(page, SLOW);
  const messages = Array.from({ length: 200 }, (_, i) => ({
    id: `m${i}`, parent: i ? `m${i - 1}` : null, role: i % 2 ? "assistant" : "user", at: i,
    content: `Turn ${i}.\n\n- one\n- two\n\n${"Some words. ".repeat(30)}`, finish: "stop",
  }));
  const conversation = { id: "x", title: "Long", created: 1, updated: 2, messages, leaf: "m199", settings: {} };
  const buffer = Buffer.from(JSON.stringify({ format: "slotmux-conversations", version: 1, conversations: [conversation] }));
  await page.setInputFiles("#import-file", { name: "x.json", mimeType: "application/json", buffer });
  await page.waitForFunction(() => document.querySelectorAll(".message").length === 200);
  await page.evaluate(() => {
    const touched = new Set();
    new MutationObserver((records) => {
      for (const { target } of records) {
        const element = target instanceof Element ? target : target.parentElement;
        touched.add(element.closest(".message")?.dataset.id);
      }
    }).observe(document.querySelector("#messages"), { childList: true, characterData: true, subtree: true });
    globalThis.touched = touched;
  });
  await begin(page, "some words that take a while");
  await ended(page);
  const changed = await page.evaluate(() => [...touched].filter(Boolean));
  assert.ok(changed.length && changed.length <= 3, `${changed.length} messages were touched`);
});
