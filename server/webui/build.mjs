// Makes server/assets/page from this folder: one script, one style, one document, one icon.
// What the bundle contains of others is in LICENSES.txt.
//   node build.mjs [--out FOLDER] [--module FILE]
// --module: also the parts that need no browser, for `node --test`.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const packages = join(here, "../../.cache/webui/node_modules");
const { build } = createRequire(join(packages, "x.js"))("esbuild");

function option(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
}

const common = {
  bundle: true,
  minify: true,
  charset: "utf8",
  target: ["chrome123", "firefox120", "safari17.5"],
  nodePaths: [packages],
  tsconfigRaw: "{}", // its paths are for the type checker
  absWorkingDir: here,
  write: false,
  logLevel: "warning",
};

async function bundled(entry, more = {}) {
  const made = await build({ ...common, entryPoints: [entry], ...more });
  return Buffer.from(made.outputFiles[0].contents);
}

/** What marked is allowed to be used under, as it has to come along. */
async function licence() {
  const text = await readFile(join(packages, "marked/LICENSE"), "utf8");
  return text.slice(text.indexOf("## Marked"));
}

const { version: marked } = JSON.parse(await readFile(join(packages, "marked/package.json"), "utf8"));
const banner = `/*! Contains marked ${marked}, Copyright (c) 2011-2018 Christopher Jeffrey, 2018+ MarkedJS, MIT License: see LICENSES.txt. */\n`;
const script = Buffer.concat([
  Buffer.from(banner),
  await bundled("src/main.ts", { format: "iife", legalComments: "none" }),
]);
const style = await bundled("src/style.css");
const icon = await readFile(join(here, "src/icon.svg"));

const version = (body) => createHash("sha256").update(body).digest("hex").slice(0, 12);
const document = (await readFile(join(here, "src/index.html"), "utf8"))
  .replace("app.js", `app.js?v=${version(script)}`)
  .replace("style.css", `style.css?v=${version(style)}`)
  .replaceAll("icon.svg", `icon.svg?v=${version(icon)}`);

const out = option("--out", join(here, "../assets/page"));
await mkdir(out, { recursive: true });
for (const [name, body] of [
  ["app.js", script],
  ["style.css", style],
  ["icon.svg", icon],
  ["index.html", document],
  ["LICENSES.txt", await licence()],
]) {
  await writeFile(join(out, name), body);
}

const forTests = option("--module", "");
if (forTests) {
  const body = await bundled("src/pure.ts", { format: "esm", minify: false });
  await mkdir(dirname(forTests), { recursive: true });
  await writeFile(forTests, body);
}
