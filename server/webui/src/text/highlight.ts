// Colours for code: comments, strings, numbers and the words that languages have in common.

export interface Span {
  kind: "" | "comment" | "string" | "number" | "keyword";
  text: string;
}

const KEYWORDS = new Set(
  `abstract and as assert async await break case catch class const continue def default defer del do
  elif else enum except export extends extern false False final finally fn for from func function
  global go if impl implements import in instanceof interface is lambda let match mod module mut
  namespace new nil None nonlocal not null or override package pass private protected pub public
  raise return self static struct super switch template this throw throws trait true True try type
  typedef typeof undefined union unless until use using var virtual void where while with yield
  bool boolean char double float int long short string unsigned then fi done esac echo local
  select SELECT FROM WHERE INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE JOIN LEFT INNER ON
  GROUP BY ORDER LIMIT AND OR NOT NULL AS`.split(/\s+/),
);
const HASH = new Set(
  ["python", "py", "bash", "sh", "shell", "zsh", "yaml", "yml", "toml", "ruby", "rb", "perl"].concat(
    ["makefile", "make", "dockerfile", "r", "julia", "elixir", "ini", "conf", "nginx"],
  ),
);
const DASH = new Set(["sql", "lua", "haskell", "hs", "ada"]);
const PLAIN = new Set(["", "text", "txt", "plain", "plaintext", "markdown", "md", "log", "diff"]);

const STRINGS = String.raw`"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|` +
  "`(?:\\\\.|[^`\\\\])*`?";
const REST = String.raw`(?<number>\b(?:0x[\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b)|(?<word>[A-Za-z_]\w*)`;

function patternOf(language: string): RegExp {
  let comment = String.raw`\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;
  if (HASH.has(language)) comment = String.raw`#[^\n]*`;
  else if (DASH.has(language)) comment = String.raw`--[^\n]*`;
  else if (["html", "xml", "svg"].includes(language)) comment = String.raw`<!--[\s\S]*?(?:-->|$)`;
  return new RegExp(`(?<comment>${comment})|(?<string>${STRINGS})|${REST}`, "g");
}

/** The pieces of a code in order; together they are `code`. */
export function highlight(code: string, language: string): Span[] {
  const name = language.toLowerCase();
  if (PLAIN.has(name)) return [{ kind: "", text: code }];
  const spans: Span[] = [];
  let end = 0;
  for (const match of code.matchAll(patternOf(name))) {
    const kind = kindOf(match);
    if (kind === "") continue;
    if (match.index > end) spans.push({ kind: "", text: code.slice(end, match.index) });
    spans.push({ kind, text: match[0] });
    end = match.index + match[0].length;
  }
  if (end < code.length) spans.push({ kind: "", text: code.slice(end) });
  return spans;
}

function kindOf(match: RegExpMatchArray): Span["kind"] {
  const groups = match.groups ?? {};
  if (groups["comment"] !== undefined) return "comment";
  if (groups["string"] !== undefined) return "string";
  if (groups["number"] !== undefined) return "number";
  return KEYWORDS.has(groups["word"] ?? "") ? "keyword" : "";
}
