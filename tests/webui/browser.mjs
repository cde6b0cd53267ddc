// A browser for tests: headless, with an empty profile, talking to nobody but the server.
import { mkdtempSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import assert from "node:assert/strict";

export const packages = createRequire(join(process.env.PACKAGES, "x.js"));
const { chromium } = packages("playwright-core");

export const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A context of its own; at the end nothing may have gone wrong in its pages, or elsewhere. */
export async function browser(options = {}) {
  const profile = mkdtempSync(join(tmpdir(), "page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    args: FLAGS,
    viewport: { width: 1280, height: 800 },
    ...options,
  });
  const faults = [];
  const foreign = [];
  context.on("weberror", (error) => faults.push(error.error().message));
  context.on("console", (message) => {
    if (message.type() === "error") faults.push(message.text());
  });
  context.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") foreign.push(request.url());
  });
  after(() => context.close());
  return { context, page: context.pages()[0] ?? (await context.newPage()), faults, foreign };
}

/** Goes there and waits until the page can be used. */
export async function open(page, url) {
  await page.goto(url);
  await page.waitForSelector("#send[title]", { state: "attached" });
}

/** Sends a turn and waits for the end of its answer. */
export async function say(page, text) {
  await begin(page, text);
  await ended(page);
}

export async function begin(page, text) {
  await page.fill("#prompt", text);
  await page.press("#prompt", "Enter");
}

export async function ended(page) {
  await page.waitForFunction(() => document.querySelector("#send").title.startsWith("Send"));
  await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));
}

export const texts = (page, selector) => page.locator(selector).allTextContents();

export async function shot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${name}.png`) });
}

export { assert };
