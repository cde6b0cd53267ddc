// Conversations as a file, and back: what comes in is taken apart and checked, never trusted.

import { newId, NO_SETTINGS, type Conversation, type Message, type Settings } from "./conversation";

const FORMAT = "slotmux-conversations";
const VERSION = 1;
const ROLES = ["user", "assistant", "tool"];
const FINISHES = ["stop", "length", "tool_calls", "stopped", "error", "edited"];

export function exported(conversations: Conversation[]): string {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 2);
}

/** The conversations of a file, under new ids. Throws Error with what is wrong with it. */
export function imported(text: string): Conversation[] {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is no JSON.");
  }
  const { format, version, conversations } = record(file, "file");
  if (format !== FORMAT) throw new Error("The file holds no conversations of slotmux.");
  if (version !== VERSION) throw new Error("The file was written by another version of the page.");
  return list(conversations, "conversations").map(conversation);
}

function conversation(value: unknown): Conversation {
  const given = record(value, "conversation");
  const messages = list(given["messages"], "messages").map(message);
  const ids = new Set(messages.map(({ id }) => id));
  if (ids.size !== messages.length) throw new Error("Two messages have the same id.");
  const before = new Set<string | null>([null]);
  for (const { id, parent } of messages) {
    // A parent stands before its children: so there is no circle.
    if (!before.has(parent)) throw new Error("A message answers one that is not there.");
    before.add(id);
  }
  const leaf = given["leaf"];
  return {
    id: newId(),
    title: string(given["title"], "title").slice(0, 200),
    isNamed: given["isNamed"] === true,
    created: number(given["created"], "created"),
    updated: number(given["updated"], "updated"),
    messages,
    leaf: typeof leaf === "string" && ids.has(leaf) ? leaf : (messages.at(-1)?.id ?? null),
    settings: settings(given["settings"]),
  };
}

function message(value: unknown): Message {
  const given = record(value, "message");
  const role = given["role"] as Message["role"];
  if (!ROLES.includes(role)) throw new Error("A message has an unknown role.");
  const parent = given["parent"];
  const result: Message = {
    id: string(given["id"], "id"),
    parent: parent === null ? null : string(parent, "parent"),
    role,
    content: string(given["content"], "content"),
    at: number(given["at"], "at"),
  };
  for (const name of ["reasoning", "callId", "name", "error", "model"] as const) {
    if (given[name] !== undefined) result[name] = string(given[name], name);
  }
  const finish = given["finish"] as Message["finish"];
  if (finish !== undefined && FINISHES.includes(finish)) result.finish = finish;
  if (given["calls"] !== undefined) {
    result.calls = list(given["calls"], "calls").map((call) => {
      const { id, name, arguments: text } = record(call, "call");
      return { id: string(id, "id"), name: string(name, "name"), arguments: string(text, "arguments") };
    });
  }
  return result;
}

function settings(value: unknown): Settings {
  const given = value === undefined ? {} : record(value, "settings");
  const result = structuredClone(NO_SETTINGS);
  for (const name of ["model", "system", "stop", "tools", "extra"] as const) {
    if (given[name] !== undefined) result[name] = string(given[name], name);
  }
  const thinking = given["thinking"];
  if (thinking === "on" || thinking === "off") result.thinking = thinking;
  const effort = given["effort"];
  if (effort === "low" || effort === "medium" || effort === "high") result.effort = effort;
  const numbers = given["numbers"] === undefined ? {} : record(given["numbers"], "numbers");
  for (const [name, n] of Object.entries(numbers)) {
    if (/^[a-z_]{1,40}$/.test(name)) result.numbers[name] = number(n, name);
  }
  return result;
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`A ${name} is no object.`);
  }
  return value as Record<string, unknown>;
}

function list(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`The ${name} are no list.`);
  return value;
}

function string(value: unknown, name: string): string {
  if (typeof value !== "string") throw new Error(`The '${name}' of something is no text.`);
  return value;
}

function number(value: unknown, name: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new Error(`The '${name}' of something is no number.`);
  }
  return value;
}
