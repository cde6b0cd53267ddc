// Markdown, its pieces and its colours, without a browser.
import assert from "node:assert/strict";
import { test } from "node:test";

const { parse, Growing, safeAddress, decodeEntities, highlight, EventReader, scale, steps, decades } =
  await import(process.env.PURE);

const TAGS = new Set(
  `p h2 h3 h4 h5 h6 blockquote ul ol li hr table thead tbody tr th td strong em del code a br span
  code-block`.split(/\s+/),
);
const ATTRIBUTES = new Set(["href", "target", "rel", "title", "start", "scope", "data-align"]);

function* elements(trees) {
  for (const tree of trees) {
    if (typeof tree === "string") continue;
    yield tree;
    yield* elements(tree.children ?? []);
  }
}

const textOf = (trees) =>
  trees.map((tree) => (typeof tree === "string" ? tree : (tree.text ?? textOf(tree.children)))).join("");

test("blocks and inlines become what they should", () => {
  assert.deepEqual(parse("# A *b* `c`"), [
    { tag: "h2", children: ["A ", { tag: "em", children: ["b"] }, " ", { tag: "code", children: ["c"] }] },
  ]);
  assert.deepEqual(parse("```py x\na\n```"), [{ tag: "code-block", language: "py", text: "a" }]);
  assert.deepEqual(parse("3. a\n4. b"), [
    { tag: "ol", attributes: { start: "3" }, children: [
      { tag: "li", children: ["a"] }, { tag: "li", children: ["b"] },
    ] },
  ]);
  assert.deepEqual(parse("a &lt; b<br>c"), [{ tag: "p", children: ["a < b", { tag: "br", children: [] }, "c"] }]);
  const [table] = parse("| a | b |\n|---|--:|\n| 1 | 2 |");
  assert.equal(table.tag, "table");
  assert.equal(table.children[1].children[0].children[1].attributes["data-align"], "right");
});

const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)>",
  "[a](javascript:alert(1))",
  "[a](JaVaScRiPt:alert(1))",
  "[a](&#106;avascript:alert(1))",
  "[a](java\tscript:alert(1))",
  "[a](data:text/html,<script>alert(1)</script>)",
  "[a](vbscript:x)",
  "![a](javascript:alert(1))",
  '[a](http://x" onmouseover="alert(1))',
  '[a](http://x "t\\" onclick=alert(1) x=\\"")',
  "<a href='javascript:alert(1)'>x</a>",
  "`<b>`",
  "```html\n<script>alert(1)</script>\n```",
  "```\"><script>alert(1)</script>\nx\n```",
  "<iframe srcdoc='<script>alert(1)</script>'>",
  "<style>*{display:none}</style>",
  "<form action=http://evil.test><input name=key></form>",
  "[x]: javascript:alert(1)\n\n[x]",
  "<http://a.test/><javascript:alert(1)>",
  "a](javascript:alert(1)) | b\n---|---\n[c](javascript:alert(1)) | <img src=x onerror=alert(1)>",
];

test("nothing but known elements with known attributes, whatever is written", () => {
  for (const text of HOSTILE) {
    for (const element of elements(parse(text))) {
      assert.ok(TAGS.has(element.tag), element.tag);
      for (const [name, value] of Object.entries(element.attributes ?? {})) {
        assert.ok(ATTRIBUTES.has(name), name);
        if (name === "href") assert.match(value, /^(https?|mailto):/, text);
      }
    }
  }
  assert.equal(textOf(parse("<b>bold</b>")), "<b>bold</b>");
});

test("addresses: http, https, mailto, absolute", () => {
  assert.equal(safeAddress("https://a.test/b?c#d"), "https://a.test/b?c#d");
  assert.equal(safeAddress("mailto:a@b.test"), "mailto:a@b.test");
  for (const bad of ["/v1/models", "x", "//evil.test", "file:///etc/passwd", "blob:http://a/x", "javascript:1"]) {
    assert.equal(safeAddress(bad), null, bad);
  }
});

const depthOf = (trees) => 1 + Math.max(0, ...trees.map((tree) => (tree.children ? depthOf(tree.children) : 0)));

test("what is nested too deeply is shown as it is", () => {
  for (const text of [`${">".repeat(2000)}x`, `${"- ".repeat(1000)}x`, `${"*_".repeat(500)}x${"_*".repeat(500)}`]) {
    const trees = parse(text);
    assert.ok(depthOf(trees) < 100);
    assert.ok(textOf(trees).includes("x"));
  }
  const text = `${">".repeat(50_000)}x`;
  assert.equal(textOf(parse(text)).includes("x"), true);
});

const GROWING = [
  "# T\n\nA paragraph\nof lines.\n\n- a\n- b\n\n  more of b\n\n1. x\n2. y\n\n   z\n\nend\n",
  "x\n===\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nafter\n\n> q\n> r\nlazy\n\n---\n\nend",
  "```py\nx = 1\n\ny = 2\n```\nafter\n~~~\nopen\n\nstill\n",
  "- a\n\n- b\n\n    code\n\n-\n\nx\n\n* * *\n\n1) a\n\n2) b\n",
  "    indented\n\n    more\n\ntext\n\n<div>\nhtml\n\n</div>\n\n**b** _e_ `c` ~~d~~ [l](http://a.test)\n",
  "a\n\n\n\n\nb\n# h\n## i\ntext\n- l\n# j\n",
];

test("a text that grows is shown like the same text at once, at every length", () => {
  for (const text of GROWING) {
    const growing = new Growing();
    const done = [];
    for (let n = 1; n <= text.length; n++) {
      const more = growing.push(text.slice(0, n));
      done.push(...more.done);
      assert.deepEqual([...done, ...more.rest], parse(text.slice(0, n)), JSON.stringify(text.slice(0, n)));
    }
  }
});

test("what is complete is not parsed again", () => {
  const growing = new Growing();
  let text = "";
  let most = 0;
  for (let i = 0; i < 200; i++) {
    text += `Paragraph ${i}.\n\n`;
    most = Math.max(most, growing.push(text).rest.length);
  }
  assert.ok(most <= 2, `${most} blocks are still open`);
});

test("links whose addresses come later need a second look", () => {
  assert.equal(Growing.needsWhole("[a]\n\n[a]: http://b.test\n"), true);
  assert.equal(Growing.needsWhole("[a] b\n"), false);
});

test("character references", () => {
  assert.equal(decodeEntities("&amp;lt; &#65; &#x1F600; &nope; &#0; &#xD800; &"), "&lt; A 😀 &nope; \ufffd \ufffd &");
});

test("colours leave a code as it is", () => {
  const codes = [
    ["python", "def f(x):  # c\n    return 'a\\'b' + \"\"\"d\ne\"\"\" + 0x1F\n"],
    ["js", "const a = `b` // c\n/* d\n*/ let e = 1.5e3;"],
    ["sql", "SELECT * FROM t -- c\nWHERE a = 'b'"],
    ["", "def nothing"],
    ["html", "<!-- c --><a href='x'>"],
    ["c", "/* open"],
  ];
  for (const [language, code] of codes) {
    assert.equal(highlight(code, language).map(({ text }) => text).join(""), code);
  }
  const kinds = highlight("def f(): return 1  # c", "python").map(({ kind, text }) => kind && `${kind}:${text}`);
  assert.deepEqual(kinds.filter(Boolean), ["keyword:def", "keyword:return", "number:1", "comment:# c"]);
});

test("colours take time in proportion to the code", () => {
  for (const code of ["'".repeat(200_000), "/*".repeat(100_000), '"""'.repeat(70_000), "`\\".repeat(100_000)]) {
    assert.equal(highlight(code, "js").map(({ text }) => text).join("").length, code.length);
  }
});

test("events come whole out of any pieces", () => {
  const stream = 'data: {"a":1}\n\n: ping\n\ndata: b\r\n\r\ndata:c\n\n';
  for (let size = 1; size <= stream.length; size++) {
    const reader = new EventReader();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...reader.push(stream.slice(at, at + size)));
    assert.deepEqual(found, ['{"a":1}', "b", "c"], `pieces of ${size}`);
  }
});

test("axes have round numbers", () => {
  assert.deepEqual([0, 0.3, 1, 1.1, 3, 7, 41, 1464].map((n) => scale(n)), [1, 1, 1, 2, 3, 8, 50, 2000]);
  assert.deepEqual(steps(50), [10, 20, 30, 40, 50]);
  assert.deepEqual(steps(20), [5, 10, 15, 20]);
  assert.deepEqual(steps(3000), [1000, 2000, 3000]);
  for (let n = 1; n < 5000; n += 7) assert.ok(scale(n) >= n && scale(n) <= 2 * n, String(n));
  assert.deepEqual(decades(3, 800), [1, 10, 100, 1000]);
  assert.deepEqual(decades(1, 1), [1, 10]);
});
