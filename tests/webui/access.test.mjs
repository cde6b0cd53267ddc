// axe's rules on every view, light and dark, desktop and phone; nothing is wider than a phone.
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { assert, browser, open, packages, say, shot } from "./browser.mjs";

const { ECHO, DEMO } = process.env;
const AXE = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const ANSWER =
  "## A heading\n\nSome *text* with `code` and a [link](https://example.test/).\n\n```python\nx = 1  # one\n" +
  "y = 'two'\n```\n\n| name | size |\n|---|--:|\n| a | 1 |\n\n> quoted\n\n1. one\n2. two";

async function check(page, name) {
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html + " " + (n.any[0]?.message ?? "")).join("\n  ")}`);
  });
  assert.deepEqual(found, [], name);
  const width = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(width <= 0, `${name} is ${width} pixels too wide`);
}

for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    test(`${size}, ${colorScheme}`, async () => {
      const name = (view) => `${view}-${size}-${colorScheme}`;
      // The tests' own script has to get past the policy.
      const { page } = await browser({ viewport, colorScheme, bypassCSP: true, reducedMotion: "reduce" });
      await page.addInitScript(AXE);
      await open(page, ECHO);
      await page.waitForFunction(() => document.querySelector("#model").textContent === "echo");
      await check(page, name("empty"));
      await shot(page, name("empty"));
      await say(page, `<think>Hm.</think>${ANSWER}`);
      await page.locator("details.thinking summary").click();
      await check(page, name("chat"));
      await shot(page, name("chat"));
      await page.locator(".message.user").getByRole("button", { name: "Edit" }).click();
      await check(page, name("edit"));
      await page.keyboard.press("Escape");
      await page.click("#settings");
      await check(page, name("settings"));
      await shot(page, name("settings"));
      await page.keyboard.press("Escape");
      await page.click("#delete");
      await check(page, name("delete"));
      await page.keyboard.press("Escape");
      if (size === "phone") {
        await page.click("#menu-chat");
        await check(page, name("drawer"));
        await shot(page, name("drawer"));
        await page.keyboard.press("Escape");
        assert.equal(await page.evaluate(() => document.activeElement.id), "menu-chat");
      }
      await open(page, `${DEMO}/#board`);
      await page.waitForFunction(() => document.querySelectorAll(".slot").length === 8);
      await check(page, name("board"));
      await shot(page, name("board"));
    });
  }
}
