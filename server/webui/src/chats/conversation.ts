// A conversation is a tree: an edited turn and a regenerated answer stand beside what was there
// before. What is shown is the path from the root to its leaf.

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}
export interface Stats {
  nPrompt: number; // all tokens of the prompt
  nCached: number; // of them reused
  nGenerated: number;
  perSecond: number;
  firstMs: number; // to the first text, as seen here
  thinkMs?: number;
  draftRate?: number;
}
export type Role = "user" | "assistant" | "tool";
export type Finish = "stop" | "length" | "tool_calls" | "stopped" | "error" | "edited";
export interface Message {
  id: string;
  parent: string | null;
  role: Role;
  content: string;
  at: number; // milliseconds since 1970
  reasoning?: string;
  calls?: ToolCall[];
  callId?: string; // of the call that a tool's message answers
  name?: string; // of its function
  finish?: Finish;
  error?: string;
  stats?: Stats;
  model?: string;
}
export interface Settings {
  model: string; // where there are several; empty: the first
  system: string;
  numbers: Record<string, number>; // by the API's name; what is not here is left to the server
  thinking: "" | "on" | "off";
  effort: "" | "low" | "medium" | "high";
  stop: string; // one a line
  tools: string; // a JSON array, or empty
  extra: string; // a JSON object of further parameters, or empty
}
export interface Conversation {
  id: string;
  title: string;
  isNamed: boolean; // by the user
  created: number;
  updated: number;
  messages: Message[];
  leaf: string | null;
  settings: Settings;
}

export const NO_SETTINGS: Settings = {
  model: "", system: "", numbers: {}, thinking: "", effort: "", stop: "", tools: "", extra: "",
};
const TITLE_CHARS = 60;

export function newId(): string {
  return crypto.getRandomValues(new Uint32Array(4)).reduce((id, n) => id + n.toString(36), "");
}

export function newConversation(settings: Settings = NO_SETTINGS): Conversation {
  const now = Date.now();
  return {
    id: newId(), title: "New chat", isNamed: false, created: now, updated: now, messages: [],
    leaf: null, settings: structuredClone(settings),
  };
}

/** The messages that are shown, in order. */
export function path(conversation: Conversation): Message[] {
  const byId = new Map(conversation.messages.map((message) => [message.id, message]));
  const found: Message[] = [];
  for (let id = conversation.leaf; id !== null; ) {
    const message = byId.get(id);
    if (message === undefined) break;
    found.push(message);
    id = message.parent;
  }
  return found.reverse();
}

/** A message and those that stand in its place on other paths, oldest first. */
export function versions(conversation: Conversation, message: Message): Message[] {
  const isAlike = (other: Message) => other.parent === message.parent && other.role === message.role;
  return conversation.messages.filter(isAlike);
}

/** Adds a message behind `parent` and goes there. */
export function add(
  conversation: Conversation,
  parent: string | null,
  fields: Omit<Message, "id" | "parent" | "at">,
): Message {
  const message: Message = { id: newId(), parent, at: Date.now(), ...fields };
  conversation.messages.push(message);
  conversation.leaf = message.id;
  conversation.updated = message.at;
  if (!conversation.isNamed && message.role === "user" && parent === null) {
    conversation.title = titleOf(message.content);
  }
  return message;
}

/** Shows `message` and what came last behind it. */
export function goTo(conversation: Conversation, message: Message): void {
  let leaf = message;
  for (;;) {
    const next = conversation.messages.findLast((other) => other.parent === leaf.id);
    if (next === undefined) break;
    leaf = next;
  }
  conversation.leaf = leaf.id;
}

export function titleOf(text: string): string {
  const line = text.trim().split("\n")[0]?.replace(/\s+/g, " ") ?? "";
  if (line.length <= TITLE_CHARS) return line || "New chat";
  const cut = line.slice(0, TITLE_CHARS);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), TITLE_CHARS / 2))}…`;
}

/** Names of the functions whose calls behind `message` wait for a result. */
export function openCalls(conversation: Conversation, message: Message): ToolCall[] {
  if (!message.calls?.length || conversation.leaf !== message.id) return [];
  return message.calls;
}

/** What is asked of the server: the path to `parent`, then an answer, of `model` unless it is
 * empty. Throws where settings are no JSON. */
export function requestOf(
  conversation: Conversation,
  parent: string | null,
  model = "",
): Record<string, unknown> {
  const { settings } = conversation;
  const messages: Record<string, unknown>[] = [];
  if (settings.system.trim()) messages.push({ role: "system", content: settings.system });
  for (const message of path({ ...conversation, leaf: parent })) messages.push(asSent(message));
  const body: Record<string, unknown> = { messages, ...settings.numbers };
  if (model) body["model"] = model;
  const stop = settings.stop.split("\n").filter((line) => line !== "");
  if (stop.length) body["stop"] = stop;
  if (settings.thinking) body["enable_thinking"] = settings.thinking === "on";
  if (settings.effort) body["reasoning_effort"] = settings.effort;
  const tools = parsed(settings.tools, "tools", Array.isArray);
  if (tools !== undefined) body["tools"] = tools;
  return Object.assign(body, parsed(settings.extra, "further parameters", isObject));
}

function asSent(message: Message): Record<string, unknown> {
  if (message.role === "tool") {
    return { role: "tool", tool_call_id: message.callId, content: message.content };
  }
  const sent: Record<string, unknown> = { role: message.role, content: message.content };
  if (message.reasoning) sent["reasoning_content"] = message.reasoning;
  if (message.calls?.length) {
    sent["tool_calls"] = message.calls.map(({ id, name, arguments: text }) => ({
      id, type: "function", function: { name, arguments: text },
    }));
  }
  return sent;
}

/** The value of a setting that is written as JSON; undefined if it is empty. Throws SyntaxError. */
export function parsed(text: string, name: string, isRight: (value: unknown) => boolean): unknown {
  if (!text.trim()) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`The ${name} of this chat are no JSON: ${(error as Error).message}`);
  }
  if (isRight(value)) return value;
  throw new SyntaxError(`The ${name} of this chat have to be a JSON ${isRight === isObject ? "object" : "array"}.`);
}

export function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
