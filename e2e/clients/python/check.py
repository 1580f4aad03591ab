"""The official Python client against an engine with the scripted model. BASE_URL says where it is."""

import json
import os

import openai

client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key="secret", max_retries=0)
TEXT = "The quick brown fox"
HELLO = [{"role": "user", "content": "Hello!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}, "required": ["city"], "additionalProperties": False},
    },
}


def models():
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").id == "scripted"


def chat():
    raw = client.chat.completions.with_raw_response.create(model="scripted", messages=HELLO, max_tokens=19, temperature=0)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT, answer
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens > 0) == (19, True)
    assert raw.headers["x-request-id"] and raw.headers["traceresponse"].startswith("00-")


def stream():
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="scripted", messages=HELLO, max_completion_tokens=19, stream=True, stream_options=options
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == TEXT, text
    assert chunks[-1].usage.completion_tokens == 19


def several():
    answer = client.chat.completions.create(
        model="scripted", messages=HELLO, n=2, seed=7, stop=["fox"], logprobs=True, top_logprobs=2
    )
    assert [choice.message.content for choice in answer.choices] == ["The quick brown "] * 2, answer
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


def form():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "count": {"type": "integer", "maximum": 99}},
        "required": ["name", "count"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="scripted",
        messages=HELLO,
        max_tokens=300,
        response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}},
    )
    assert set(json.loads(answer.choices[0].message.content)) == {"name", "count"}, answer


def tools():
    turn = [{"role": "user", "content": "Weather in Oslo?"}]
    answer = client.chat.completions.create(
        model="scripted", messages=turn, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, temperature=0
    )
    choice = answer.choices[0]
    call = choice.message.tool_calls[0]
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "weather"), answer
    assert "city" in json.loads(call.function.arguments)
    turn += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
    ]
    answer = client.chat.completions.create(model="scripted", messages=turn, tools=[WEATHER], max_tokens=5)
    assert answer.choices[0].message.content

    said = '[say:<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>]'
    chunks = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": said}], tools=[WEATHER], stream=True
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert calls[0].function.name == "weather"
    assert json.loads("".join(call.function.arguments or "" for call in calls)) == {"city": "Oslo"}
    assert not any("tool_call" in (delta.content or "") for delta in deltas)


def completions():
    answer = client.completions.create(model="scripted", prompt=["a", "b"], max_tokens=3, echo=True)
    assert [choice.text for choice in answer.choices] == ["aThe", "bThe"], answer


def errors():
    def refused(kind, **wrong):
        try:
            client.chat.completions.create(**{"model": "scripted", "messages": HELLO, **wrong})
        except kind as error:
            return error
        raise AssertionError(f"{wrong} was taken")

    assert refused(openai.BadRequestError, temperature=9).param == "temperature"
    assert refused(openai.NotFoundError, model="another").code == "model_not_found"
    assert refused(openai.BadRequestError, max_tokens=10**6).code == "context_length_exceeded"
    assert refused(openai.InternalServerError, messages=[{"role": "user", "content": "[fail]"}]).code == "generation_error"
    assert refused(openai.BadRequestError, messages=[]).request_id
    try:
        client.embeddings.create(model="scripted", input="x")
    except openai.NotFoundError:
        return
    raise AssertionError("there are no embeddings")


for check in (models, chat, stream, several, form, tools, completions, errors):
    check()
    print(f"openai {openai.__version__}: {check.__name__}")
