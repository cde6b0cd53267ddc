// Markdown to a plain tree of elements. marked finds the structure; no HTML is ever made or read:
// what a text has of it is shown as text. Links lead to http, https and mailto alone, and
// images are links, so that reading an answer tells nobody anything.

import { Lexer, type Token, type Tokens } from "marked";
import { decodeEntities } from "./entities";

export interface Element {
  tag: Tag;
  attributes?: Record<string, string>;
  children: Tree[];
}
export interface Code {
  tag: "code-block";
  language: string;
  text: string;
}
export type Tree = string | Element | Code;
type Tag =
  | "p" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "ul" | "ol" | "li" | "hr" | "table"
  | "thead" | "tbody" | "tr" | "th" | "td" | "strong" | "em" | "del" | "code" | "a" | "br"
  | "span";

const HEADINGS: Tag[] = ["h2", "h3", "h4", "h5", "h6", "h6"];
// Elements inside elements; browsers lay out no depth without an end.
const MOST_DEPTH = 40;
const BREAK = /^<br\s*\/?>$/i;

/** The tree of a whole text. */
export function parse(text: string): Tree[] {
  return lex(text).flatMap((token) => block(token, 0));
}

/** Tokens of blocks; a text that is nested beyond the lexer's depth is one plain paragraph. */
function lex(text: string): Token[] {
  try {
    return new Lexer({ gfm: true, breaks: true }).lex(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [{ type: "text", raw: text, text, escaped: false } as Tokens.Text];
  }
}

/**
 * A text that grows. What stands before its last block cannot change any more (but for links whose
 * addresses are told at the end, which `whole` sees): it is parsed once.
 */
export class Growing {
  private settled = 0; // characters that are parsed for good

  /** Trees that are complete since the last call, and those of the rest. `text` only grows. */
  push(text: string): { done: Tree[]; rest: Tree[] } {
    const tokens = lex(text.slice(this.settled));
    let last = tokens.length - 1;
    while (last > 0 && tokens[last]?.type === "space") last--;
    const done: Tree[] = [];
    // Until its first line is complete, the last block may still belong to the one before it.
    const isLineComplete = tokens.slice(last).some(({ raw }) => raw.includes("\n"));
    if (last > 0 && isLineComplete) {
      for (const token of tokens.splice(0, last)) {
        this.settled += token.raw.length;
        done.push(...block(token, 0));
      }
    }
    return { done, rest: tokens.flatMap((token) => block(token, 0)) };
  }

  /** Whether the text has to be parsed again as a whole once it is complete. */
  static needsWhole(text: string): boolean {
    return /^ {0,3}\[[^\]]+\]:/m.test(text);
  }
}

function block(token: Token, depth: number): Tree[] {
  if (depth > MOST_DEPTH) return [token.raw];
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading": {
      const { depth: level, tokens } = token as Tokens.Heading;
      return [element(HEADINGS[level - 1] ?? "h6", inlines(tokens, depth))];
    }
    case "paragraph":
      return [element("p", inlines((token as Tokens.Paragraph).tokens, depth))];
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return [element("p", tokens ? inlines(tokens, depth) : [text])];
    }
    case "code": {
      const { lang, text } = token as Tokens.Code;
      const language = /^[\w+#.-]{1,24}/.exec(lang ?? "")?.[0] ?? "";
      return [{ tag: "code-block", language, text }];
    }
    case "blockquote": {
      const { tokens } = token as Tokens.Blockquote;
      return [element("blockquote", tokens.flatMap((inner) => block(inner, depth + 1)))];
    }
    case "list":
      return [list(token as Tokens.List, depth + 1)];
    case "table":
      return [table(token as Tokens.Table, depth)];
    case "hr":
      return [element("hr")];
    default: // html, and whatever a later version of the lexer may find: as it was written
      return [element("p", [token.raw.trimEnd()])];
  }
}

function list(token: Tokens.List, depth: number): Element {
  const attributes: Record<string, string> = {};
  if (token.ordered && token.start !== 1) attributes["start"] = String(token.start);
  const items = token.items.map((item) => element("li", itemChildren(item, depth)));
  return element(token.ordered ? "ol" : "ul", items, attributes);
}

/** A tight item's text stands in it without a paragraph. */
function itemChildren(item: Tokens.ListItem, depth: number): Tree[] {
  const children: Tree[] = [];
  if (item.task) children.push(element("span", [item.checked ? "☑ " : "☐ "]));
  for (const token of item.tokens) {
    if (token.type === "checkbox") continue;
    if (token.type === "text" && !item.loose) {
      const { tokens, text } = token as Tokens.Text;
      children.push(...(tokens ? inlines(tokens, depth) : [text]));
    } else {
      children.push(...block(token, depth));
    }
  }
  return children;
}

function table(token: Tokens.Table, depth: number): Element {
  const row = (cells: Tokens.TableCell[], tag: "th" | "td") =>
    element(
      "tr",
      cells.map((cell) => {
        const attributes: Record<string, string> = cell.align ? { "data-align": cell.align } : {};
        if (tag === "th") attributes["scope"] = "col";
        return element(tag, inlines(cell.tokens, depth), attributes);
      }),
    );
  return element("table", [
    element("thead", [row(token.header, "th")]),
    element("tbody", token.rows.map((cells) => row(cells, "td"))),
  ]);
}

function inlines(tokens: Token[], depth: number): Tree[] {
  return tokens.flatMap((token) => inline(token, depth + 1));
}

function inline(token: Token, depth: number): Tree[] {
  if (depth > MOST_DEPTH) return [token.raw];
  switch (token.type) {
    case "text":
      if ((token as Tokens.Text).tokens) return inlines((token as Tokens.Text).tokens ?? [], depth);
      return [decodeEntities((token as Tokens.Text).text)];
    case "escape":
      return [(token as Tokens.Escape).text];
    case "strong":
      return [element("strong", inlines((token as Tokens.Strong).tokens, depth))];
    case "em":
      return [element("em", inlines((token as Tokens.Em).tokens, depth))];
    case "del":
      return [element("del", inlines((token as Tokens.Del).tokens, depth))];
    case "codespan":
      return [element("code", [(token as Tokens.Codespan).text])];
    case "br":
      return [element("br")];
    case "link": {
      const { href, tokens } = token as Tokens.Link;
      return [link(href, inlines(tokens, depth))];
    }
    case "image": {
      const { href, text } = token as Tokens.Image;
      return [link(href, [text || "image"])];
    }
    default:
      return BREAK.test(token.raw) ? [element("br")] : [token.raw];
  }
}

function link(href: string, children: Tree[]): Tree {
  const address = safeAddress(decodeEntities(href));
  if (address === null) return element("span", children);
  return element("a", children, {
    href: address,
    target: "_blank",
    rel: "noopener noreferrer nofollow",
    title: address,
  });
}

/** An address that may be followed, or null. */
export function safeAddress(href: string): string | null {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null; // relative: to what, a model cannot know
  }
}

function element(
  tag: Tag,
  children: Tree[] = [],
  attributes: Record<string, string> = {},
): Element {
  return Object.keys(attributes).length ? { tag, attributes, children } : { tag, children };
}
