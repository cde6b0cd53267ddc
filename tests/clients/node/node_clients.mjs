// OpenAI's package for node and the Vercel AI SDK: `node node_clients.mjs URL MODULES`, where MODULES
// is a folder with node_modules in it. Says "ok NAME" for each check, and fails with the first other.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/package.json`);
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: OpenAI } = await load("openai");
const { generateText, generateObject, streamText, stepCountIs, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { createOpenAI } = await load("@ai-sdk/openai");
const { z } = await load("zod");

const baseURL = `${url}/v1`;
const model = "coder";
const person = z.object({ name: z.string(), age: z.number().int() });
const ask = "Ada is 36 years old. Give name and age as JSON.";
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const compatible = createOpenAICompatible({
  name: "slotmux", baseURL, supportsStructuredOutputs: true, includeUsage: true,
})(model);
const responses = createOpenAI({ baseURL, apiKey: "none" }).responses(model);
const common = { temperature: 0, maxOutputTokens: 96, maxRetries: 0 };
const greet = tool({
  description: "Greets somebody by name.",
  inputSchema: z.object({ name: z.string() }),
  execute: async ({ name }) => `Hello ${name}!`,
});

const checks = {
  async openai_chat() {
    const body = { model, messages: [{ role: "user", content: "Say hello." }], temperature: 0 };
    const whole = await client.chat.completions.create({ ...body, max_tokens: 16 });
    let text = "";
    const stream = await client.chat.completions.create({ ...body, max_tokens: 16, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(text, whole.choices[0].message.content);
  },
  async openai_responses() {
    const body = { model, input: "Say hello.", temperature: 0, max_output_tokens: 16 };
    const whole = await client.responses.create(body);
    const streamed = await client.responses.stream(body).finalResponse();
    assert.ok(whole.output_text);
    assert.equal(streamed.output_text, whole.output_text);
  },
  async openai_errors() {
    const body = { model: "gpt-4o", messages: [{ role: "user", content: "x" }] };
    await assert.rejects(client.chat.completions.create(body), OpenAI.NotFoundError);
  },
};
for (const [name, given] of Object.entries({ compatible, responses })) {
  checks[`ai_text_${name}`] = async () => {
    const whole = await generateText({ model: given, prompt: "Say hello.", ...common });
    assert.ok(whole.text);
    const stream = streamText({ model: given, prompt: "Say hello.", ...common });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    assert.equal(text, whole.text);
    assert.ok((await stream.usage).outputTokens > 0);
  };
  checks[`ai_object_${name}`] = async () => {
    const { object } = await generateObject({ model: given, schema: person, prompt: ask, ...common });
    assert.deepEqual(object, { name: "Ada", age: 36 });
  };
  checks[`ai_tools_${name}`] = async () => {
    const { steps } = await generateText({
      model: given, tools: { greet }, toolChoice: "required", prompt: "Greet Ada.",
      stopWhen: stepCountIs(2), ...common,
    });
    assert.equal(steps.length, 2); // the second one was told what the tool gave
    assert.equal(steps[0].toolCalls[0].toolName, "greet");
    assert.match(steps[0].toolResults[0].output, /^Hello /);
  };
}
for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok ${name}`);
}
