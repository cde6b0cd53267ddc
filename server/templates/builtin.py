"""Chat templates for files that hold none, or only the name of one."""

CHATML = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

RWKV_WORLD = """\
{{- bos_token -}}
{%- for message in messages if message['role'] == 'system' -%}
    {%- if loop.last and message['content'] != '' -%}
        {{- 'System: ' + message['content'] + '\\n\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- for message in messages if message['content'] is not none -%}
    {%- if message['role'] == 'user' -%}
        {{- 'User: ' + message['content'] | trim + '\\n\\n' -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- 'Assistant: ' + message['content'].split('</think>')[-1] | trim + '\\n\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- 'Assistant:' -}}
    {%- if enable_thinking is defined -%}
        {{- ' <think>' if enable_thinking else ' <think>\\n</think>' -}}
    {%- endif -%}
{%- endif -%}
"""

# Names that files give instead of a template.
BY_NAME = {"chatml": CHATML, "rwkv-world": RWKV_WORLD}
