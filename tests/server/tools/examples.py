"""What models of each family write when they call tools, and what that means."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMAS = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
    "now": {"type": "object", "properties": {}},
}
OSLO = ("get_weather", {"city": "Oslo", "days": 3})
ROME = ("get_weather", {"city": 'Ro"me\n'})
NOW = ("now", {})


@dataclass(frozen=True)
class Example:
    """``is_canonical``: written as a grammar leads to it, white space and order of names too."""

    format: str
    text: str
    calls: tuple = (OSLO,)
    content: str = ""
    is_canonical: bool = True


EXAMPLES = [
    Example(
        "hermes",
        'I look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n'
        '</tool_call>\n<tool_call>\n{"arguments": {"city": "Ro\\"me\\n"}, "name": "get_weather"}'
        "</tool_call>",
        (OSLO, ROME),
        "I look.",
        is_canonical=False,
    ),
    Example("hermes", '<tool_call>\n{"name": "now"}', (NOW,), is_canonical=False),
    Example(
        "hermes",
        'So:\n```json\n{\n  "name": "get_weather",\n  "arguments": {"city": "Oslo", "days": 3}\n}\n'
        '{"name": "now", "parameters": {}}\n```',
        (OSLO, NOW),
        "So:",
        is_canonical=False,
    ),
    Example("hermes", '{"name": "now", "arguments": {}}', (NOW,), is_canonical=False),
    # Templates of Qwen2.5 show doubled braces.
    Example(
        "hermes",
        '{{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}}',
        is_canonical=False,
    ),
    Example(
        "hermes",
        '<tool_call>\n{{"name": "now", "arguments": {}}}\n</tool_call>',
        (NOW,),
        is_canonical=False,
    ),
    Example("hermes", '{{"name": "now", "arguments": {}}', (NOW,), is_canonical=False),
    Example("hermes", '{"name": "Eva"}', (), '{"name": "Eva"}', is_canonical=False),
    Example(
        "hermes",
        'It is\n```json\n{"a": 1}\n```\n',
        (),
        'It is\n```json\n{"a": 1}\n```\n',
        is_canonical=False,
    ),
    Example(
        "hermes",
        '<tool_call>{"name":"get_weather","arguments":"{\\"city\\": \\"Oslo\\", \\"days\\": 3}"}',
        is_canonical=False,
    ),
    Example(
        "hermes",
        'Well.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n'
        '</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        (OSLO, NOW),
        "Well.",
    ),
    Example(
        "phi-4",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]'
        "<|/tool_call|>",
    ),
    Example(
        "gigachat",
        'function call<|role_sep|>\n{"name": "get_weather", "arguments": '
        '{"city": "Oslo", "days": 3}}',
    ),
    Example("lfm2", "<|tool_call_start|>[get_weather(city='Oslo', days=3)]<|tool_call_end|>"),
    Example("mistral-v11", '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo", "days": 3}'),
    Example(
        "deepseek-v4",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    ),
    Example(
        "muse",
        '<atem:function_calls>\n<atem:invoke name="get_weather">\n<atem:parameter name="city">Oslo'
        '</atem:parameter>\n<atem:parameter name="days">3</atem:parameter>\n</atem:invoke>\n'
        "</atem:function_calls>",
    ),
    Example(
        "nemotron",
        '<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}, '
        '{"name": "now", "arguments": {}}]</TOOLCALL>',
        (OSLO, NOW),
    ),
    Example(
        "minimax-m1",
        '<tool_calls>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n'
        '{"name": "now", "arguments": {}}\n</tool_calls>',
        (OSLO, NOW),
    ),
    Example(
        "tool-calls",
        '<tool_calls>[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}, '
        '"id": "x"}]</tool_calls>',
        is_canonical=False,
    ),
    Example(
        "tool-calls",
        '<tool_calls>[{"name": "now", "arguments": {}}, {"name": "get_weather", "arguments": '
        '{"city": "Oslo", "days": 3}}]</tool_calls>',
        (NOW, OSLO),
    ),
    Example(
        "granite-3",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]',
    ),
    Example(
        "mistral",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]',
    ),
    Example(
        "mistral-v11",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo", "days": 3}'
        "[TOOL_CALLS]now[CALL_ID]abc[ARGS]{}",
        (OSLO, NOW),
        is_canonical=False,
    ),
    Example(
        "command-r7b",
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        '{"city": "Oslo", "days": 3}}\n]<|END_ACTION|>',
    ),
    Example("llama-3", '{"name": "get_weather", "parameters": {"city": "Oslo", "days": 3}}'),
    Example(
        "llama-3", '<|python_tag|>{"name": "now", "parameters": {}}', (NOW,), is_canonical=False
    ),
    Example("llama-3", '{"city": "Oslo"}', (), '{"city": "Oslo"}', is_canonical=False),
    Example("gigachat-3.1", '<|function_call|>{"name": "now", "arguments": {}}', (NOW,)),
    Example(
        "firefunction",
        ' functools[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]',
    ),
    Example(
        "kimi-k2",
        "On it.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Oslo", "days": 3}<|tool_call_end|>'
        "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
        (OSLO, NOW),
        "On it.",
    ),
    Example(
        "deepseek-r1",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Oslo", "days": 3}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function'
        "<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        (OSLO, NOW),
    ),
    Example(
        "deepseek-v3.1",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "Oslo", "days": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ),
    Example("functionary-3.1", '<function=get_weather>{"city": "Oslo", "days": 3}</function>'),
    Example("functionary-3.2", '>>>get_weather\n{"city": "Oslo", "days": 3}'),
    Example(
        "solar",
        "<|tool_calls|><|tool_call:begin|>a1<|tool_call:name|>get_weather<|tool_call:args|>"
        '{"city": "Oslo", "days": 3}<|tool_call:end|><|calls|>',
    ),
    Example(
        "qwen-coder",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n"
        '<function=get_weather>\n<parameter=city>\nRo"me\n\n</parameter>\n</function>\n'
        "</tool_call>",
        (OSLO, ROME),
    ),
    Example("qwen-coder", "<tool_call>\n<function=now>\n</function>\n</tool_call>", (NOW,)),
    Example(
        "qwen-coder",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n3\n</parameter>\n"
        '<parameter=tags>\n["a", "b"]\n</parameter>\n</function>\n</tool_call>',
        (("get_weather", {"city": "3", "tags": ["a", "b"]}),),
    ),
    Example(
        "seed-oss",
        "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Oslo</parameter>\n"
        "<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
    ),
    Example(
        "glm",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>now\n"
        "</tool_call>",
        (OSLO, NOW),
    ),
    Example(
        "glm",
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value>"
        "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call>",
        is_canonical=False,
    ),
    Example(
        "minimax-m2",
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>'
        '\n<parameter name="days">3</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n'
        "</minimax:tool_call>",
        (OSLO, NOW),
    ),
    Example(
        "deepseek-v3.2",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">3'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    Example(
        "minicpm",
        '<function name="get_weather"><param name="city">Oslo</param><param name="days">3</param>'
        "</function>",
    ),
    Example(
        "hunyuan",
        "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n"
        "<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Oslo"
        "</arg_value:opensource>\n<arg_key:opensource>days</arg_key:opensource>\n"
        "<arg_value:opensource>3</arg_value:opensource>\n</tool_call:opensource>\n"
        "</tool_calls:opensource>",
    ),
    Example(
        "lfm2",
        "<|tool_call_start|>[get_weather(city='Oslo', days=3), "
        "get_weather(city='Ro\"me\\n'), now()]<|tool_call_end|>Done.",
        (OSLO, ROME, NOW),
        "Done.",
        is_canonical=False,
    ),
    Example(
        "gemma-4",
        '<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|><|tool_call>'
        'call:get_weather{city:<|"|>Ro"me\n<|"|>}<tool_call|><|tool_call>call:now{}<tool_call|>',
        (OSLO, ROME, NOW),
    ),
    Example(
        "gemma-4",
        '<|tool_call>call:get_weather{city:<|"|>A<|"|>,tags:[<|"|>x<|"|>,<|"|>y<|"|>]}<tool_call|>',
        (("get_weather", {"city": "A", "tags": ["x", "y"]}),),
    ),
    Example(
        "harmony",
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "Oslo", "days": 3}',
    ),
    Example(
        "harmony",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.get_weather"
        '<|channel|>commentary json<|message|>{"city":"Oslo","days":3}<|call|>',
        (OSLO,),
        "I look.",
        is_canonical=False,
    ),
]
