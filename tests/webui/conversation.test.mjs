// Conversations as trees, what is asked of the server, and files.
import assert from "node:assert/strict";
import { test } from "node:test";

const { newConversation, add, path, versions, goTo, requestOf, openCalls, titleOf, exported, imported } =
  await import(process.env.PURE);

function talk() {
  const conversation = newConversation();
  const hi = add(conversation, null, { role: "user", content: "hi" });
  const answer = add(conversation, hi.id, { role: "assistant", content: "Hello.", finish: "stop" });
  return { conversation, hi, answer };
}
const contents = (conversation) => path(conversation).map(({ content }) => content);

test("an edit and a regeneration stand beside what was there", () => {
  const { conversation, hi, answer } = talk();
  add(conversation, hi.id, { role: "assistant", content: "Hey." });
  assert.deepEqual(contents(conversation), ["hi", "Hey."]);
  assert.equal(versions(conversation, answer).length, 2);
  const other = add(conversation, null, { role: "user", content: "ho" });
  add(conversation, other.id, { role: "assistant", content: "Ho." });
  assert.deepEqual(contents(conversation), ["ho", "Ho."]);
  goTo(conversation, hi);
  assert.deepEqual(contents(conversation), ["hi", "Hey."], "the latest answer of that turn");
  goTo(conversation, answer);
  assert.deepEqual(contents(conversation), ["hi", "Hello."]);
});

test("a request has the system prompt, the path and the settings, and nothing that is empty", () => {
  const { conversation, hi } = talk();
  assert.deepEqual(requestOf(conversation, hi.id), { messages: [{ role: "user", content: "hi" }] });
  Object.assign(conversation.settings, {
    system: "Be brief.", numbers: { temperature: 0, max_tokens: 5 }, thinking: "off", effort: "low",
    stop: "a\n\nb", tools: '[{"type": "function"}]', extra: '{"dry_multiplier": 0.8, "temperature": 1}',
  });
  assert.deepEqual(requestOf(conversation, hi.id), {
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "hi" }],
    temperature: 1, max_tokens: 5, enable_thinking: false, reasoning_effort: "low", stop: ["a", "b"],
    tools: [{ type: "function" }], dry_multiplier: 0.8,
  });
});

test("settings that are no JSON are told", () => {
  const { conversation, hi } = talk();
  conversation.settings.tools = "{";
  assert.throws(() => requestOf(conversation, hi.id), /tools of this chat are no JSON/);
  conversation.settings.tools = "{}";
  assert.throws(() => requestOf(conversation, hi.id), /have to be a JSON array/);
});

test("calls and results are sent as OpenAI has them", () => {
  const { conversation, answer } = talk();
  const ask = add(conversation, answer.id, { role: "user", content: "time?" });
  const calls = [{ id: "c1", name: "now", arguments: "{}" }];
  const called = add(conversation, ask.id, { role: "assistant", content: "", reasoning: "Hm.", calls });
  assert.deepEqual(openCalls(conversation, called), calls);
  const result = add(conversation, called.id, { role: "tool", content: "12", callId: "c1", name: "now" });
  assert.deepEqual(openCalls(conversation, called), []);
  assert.deepEqual(requestOf(conversation, result.id).messages.slice(-2), [
    { role: "assistant", content: "", reasoning_content: "Hm.",
      tool_calls: [{ id: "c1", type: "function", function: { name: "now", arguments: "{}" } }] },
    { role: "tool", tool_call_id: "c1", content: "12" },
  ]);
});

test("titles are the first words", () => {
  assert.equal(titleOf("  A \t b\nc"), "A b");
  assert.equal(titleOf(""), "New chat");
  const long = titleOf("word ".repeat(40));
  assert.ok(long.length <= 61 && long.endsWith("word…"), long);
  assert.ok(titleOf("x".repeat(500)).length <= 61);
});

test("a file brings back what it was made of", () => {
  const { conversation } = talk();
  conversation.settings.system = "S";
  const [back] = imported(exported([conversation]));
  assert.notEqual(back.id, conversation.id, "it may stand beside the old one");
  assert.deepEqual({ ...back, id: "" }, { ...conversation, id: "" });
});

const whole = (change) => {
  const file = JSON.parse(exported([talk().conversation]));
  change(file, file.conversations[0]);
  return JSON.stringify(file);
};

test("a file that is not right is refused in words", () => {
  const bad = [
    "", "[]", "null", "{}", '{"format":"x"}',
    whole((file) => (file.version = 2)),
    whole((file) => (file.conversations = {})),
    whole((_, c) => (c.title = 5)),
    whole((_, c) => (c.created = "now")),
    whole((_, c) => (c.messages[0].role = "system")),
    whole((_, c) => (c.messages[1].id = c.messages[0].id)),
    whole((_, c) => (c.messages[0].parent = c.messages[1].id)),
    whole((_, c) => (c.messages[1].parent = c.messages[1].id)),
    whole((_, c) => (c.messages[1].calls = [{ id: "x" }])),
    whole((_, c) => (c.settings.numbers = { temperature: "1" })),
  ];
  for (const text of bad) assert.throws(() => imported(text), (error) => error.message.length > 10, text);
});

test("what a file has besides is left out", () => {
  const [back] = imported(whole((_, c) => {
    c.evil = 1;
    c.messages[0].html = "<script>";
    c.leaf = "nowhere";
  }));
  assert.equal("evil" in back, false);
  assert.equal("html" in back.messages[0], false);
  assert.equal(back.leaf, back.messages.at(-1).id);
});
