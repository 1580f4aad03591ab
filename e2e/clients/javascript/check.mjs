// The official JavaScript client against an engine with the scripted model. BASE_URL says where it is.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "secret", maxRetries: 0 });
const model = "scripted";
const messages = [{ role: "user", content: "Hello!" }];
const text = "The quick brown fox";
const parameters = { type: "object", properties: { city: { type: "string", maxLength: 16 } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", parameters } }];

const checks = {
  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    assert.deepEqual(ids, [model]);
  },
  async chat() {
    const { data, response } = await client.chat.completions.create({ model, messages, max_tokens: 19 }).withResponse();
    assert.equal(data.choices[0].message.content, text);
    assert.equal(data.usage.completion_tokens, 19);
    assert.match(response.headers.get("traceresponse"), /^00-[0-9a-f]{32}-/);
  },
  async stream() {
    const wanted = { model, messages, max_tokens: 19, stream: true, stream_options: { include_usage: true } };
    let said = "";
    let usage;
    for await (const chunk of await client.chat.completions.create(wanted)) {
      said += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.deepEqual([said, usage.completion_tokens], [text, 19]);
  },
  async a_stream_that_is_left() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const _ of stream) break;
  },
  async tools() {
    const wanted = { model, messages, tools, tool_choice: "required", parallel_tool_calls: false, temperature: 0 };
    const answer = await client.chat.completions.create(wanted);
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "weather");
    assert.ok("city" in JSON.parse(call.function.arguments));
  },
  async completions() {
    const answer = await client.completions.create({ model, prompt: ["a", "b"], max_tokens: 3 });
    assert.deepEqual(answer.choices.map((choice) => choice.text), ["The", "The"]);
  },
  async errors() {
    const wrong = client.chat.completions.create({ model, messages, temperature: 9 });
    await assert.rejects(wrong, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
    const unknown = client.chat.completions.create({ model: "another", messages });
    await assert.rejects(unknown, OpenAI.NotFoundError);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`openai for JavaScript: ${name}`);
}
