// Trees of Markdown in the document. A text that grows changes only what changed in it.

import { copyText, h, icon } from "../dom";
import { highlight } from "./highlight";
import { Growing, parse, type Code, type Tree } from "./markdown";

const SLOW_MS = 8; // half a frame
const REST = 5; // times as long as it took
const shown = new WeakMap<Node, Tree>();

/** The content of an answer, kept up to date frame by frame. */
export class Markdown {
  readonly element = h("div", { class: "markdown" });
  private growing = new Growing();
  private rest: Node[] = [];
  private text = "";
  private restUntil = 0; // a time

  /**
   * Shows `text`; what it does not share with the text before is parsed again. False where that
   * has to wait: a text that takes long to show is shown less often.
   */
  update(text: string, isComplete: boolean): boolean {
    const begin = performance.now();
    if (text === this.text && !isComplete) return true;
    if (begin < this.restUntil && !isComplete) return false;
    this.show(text, isComplete);
    const end = performance.now();
    if (end - begin > SLOW_MS) this.restUntil = end + REST * (end - begin);
    return true;
  }

  private show(text: string, isComplete: boolean): void {
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    if (isComplete && Growing.needsWhole(text)) {
      this.clear();
      this.text = text;
      this.settle(parse(text));
      return;
    }
    const { done, rest } = this.growing.push(text);
    this.settle(done);
    this.rest = patchAll(this.element, this.rest, rest, isComplete);
  }

  private clear(): void {
    this.element.replaceChildren();
    this.growing = new Growing();
    this.rest = [];
    this.text = "";
  }

  /** Shows trees that will not change, the first ones in place of what stands for them so far. */
  private settle(trees: Tree[]): void {
    const old = this.rest.splice(0, trees.length);
    trees.forEach((tree, i) => {
      const node = old[i];
      if (node !== undefined) patch(node, tree, true);
      else this.element.insertBefore(make(tree, true), this.rest[0] ?? null);
    });
  }
}

function patchAll(parent: Node, nodes: Node[], trees: Tree[], isDone: boolean): Node[] {
  const result = trees.map((tree, i) => {
    const node = nodes[i];
    return node === undefined ? parent.appendChild(make(tree, isDone)) : patch(node, tree, isDone);
  });
  for (const node of nodes.slice(trees.length)) node.parentNode?.removeChild(node);
  return result;
}

/** Makes `node` show `tree`, with as little change as there is; gives the node that does. */
function patch(node: Node, tree: Tree, isDone: boolean): Node {
  const old = shown.get(node);
  if (typeof tree === "string" && typeof old === "string") {
    if (old !== tree) grow(node as Text, old, tree);
  } else if (typeof tree === "object" && typeof old === "object" && isAlike(old, tree)) {
    if (tree.tag === "code-block") {
      showCode(node as HTMLElement, tree, isDone);
    } else {
      const inner = innerOf(node);
      patchAll(inner, [...inner.childNodes], tree.children, isDone);
    }
  } else {
    const made = make(tree, isDone);
    node.parentNode?.replaceChild(made, node);
    return made;
  }
  shown.set(node, tree);
  return node;
}

function grow(node: Text, old: string, text: string): void {
  if (text === old) return;
  if (text.startsWith(old)) node.appendData(text.slice(old.length));
  else node.data = text;
}

function isAlike(a: Exclude<Tree, string>, b: Exclude<Tree, string>): boolean {
  if (a.tag !== b.tag) return false;
  if (a.tag === "code-block") return a.language === (b as Code).language;
  const other = b as typeof a;
  return JSON.stringify(a.attributes) === JSON.stringify(other.attributes);
}

/** Where the children of a tree stand. */
function innerOf(node: Node): Node {
  const element = node as HTMLElement;
  return element.dataset["scrolls"] === undefined ? node : (element.firstElementChild as Node);
}

function make(tree: Tree, isDone: boolean): Node {
  let node: Node;
  if (typeof tree === "string") {
    node = document.createTextNode(tree);
  } else if (tree.tag === "code-block") {
    node = codeBlock(tree);
    showCode(node as HTMLElement, tree, isDone);
  } else {
    const element = document.createElement(tree.tag);
    for (const [name, value] of Object.entries(tree.attributes ?? {})) {
      element.setAttribute(name, value);
    }
    for (const child of tree.children) element.appendChild(make(child, isDone));
    // A wide table scrolls by itself, with the keyboard too.
    const scrolls = { class: "scrolls", "data-scrolls": "", tabindex: 0, role: "group" };
    node = tree.tag === "table" ? h("div", { ...scrolls, "aria-label": "Table" }, element) : element;
  }
  shown.set(node, tree);
  return node;
}

function codeBlock(tree: Code): HTMLElement {
  const code = h("code");
  const name = tree.language || "code";
  const button = h("button", { type: "button", class: "quiet" }, icon("copy"), "Copy");
  button.setAttribute("aria-label", `Copy ${name}`);
  button.addEventListener("click", () => {
    void copyText(code.textContent ?? "").then((isDone) => confirmCopy(button, isDone));
  });
  const pre = h("pre", { tabindex: 0, role: "group", "aria-label": `Code: ${name}` }, code);
  return h("div", { class: "code" }, h("div", { class: "code-head" }, h("span", {}, name), button), pre);
}

function confirmCopy(button: HTMLButtonElement, isDone: boolean): void {
  const label = button.lastChild as Text;
  label.data = isDone ? "Copied" : "Not allowed";
  setTimeout(() => (label.data = "Copy"), 1500);
}

function showCode(block: HTMLElement, tree: Code, isDone: boolean): void {
  const code = block.querySelector("code") as HTMLElement;
  if (isDone) {
    const spans = highlight(tree.text, tree.language);
    code.replaceChildren(
      ...spans.map(({ kind, text }) => (kind ? h("span", { class: `hl-${kind}` }, text) : text)),
    );
    return;
  }
  const only = code.firstChild;
  if (code.childNodes.length === 1 && only instanceof Text) grow(only, only.data, tree.text);
  else code.textContent = tree.text;
}
