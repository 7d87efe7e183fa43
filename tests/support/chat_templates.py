"""Chat templates with the constructs of public model families, written for the tests."""

from __future__ import annotations

TEMPLATES = {
    # ChatML: a loop, string addition, the generation prompt
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # Llama 2: a system message folded into the first question, loop.index0, raise_exception on wrong turns
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
        "{% set messages = messages[1:] %}{% else %}{% set system = false %}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Turns must alternate user/assistant') }}{% endif %}"
        "{% if loop.index0 == 0 and system != false %}"
        "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    # Llama 3: set in a loop, the trim filter, bos only before the first
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
    ),
    # Llama 3.1: tests of definedness, defaults, tools, strftime_now only if there, block control on lines
    "llama3.1": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%Y") %}
    {%- else %}
        {%- set date_string = "2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|h|>system<|/h|>\\n\\n" }}
{{- "Year: " + date_string + "\\n\\n" + system_message + "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|h|>' + message['role'] + '<|/h|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", ' + '"parameters": ' }}{{- call.arguments | tojson }}{{- "}<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|h|>assistant<|/h|>\\n\\n' }}
{%- endif %}
""",
    # Mistral: slices, namespaces, and refusal of roles out of order
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("roles must alternate") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
""",
    # Qwen 2.5: a default system message, tojson of tools, or-conditions, loop.first
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    # Qwen 3: a switch from chat_template_kwargs, reversed slices, split, strip, namespaces in loops
    "qwen3": """{%- set ns = namespace(multi=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and message.content is string and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.multi = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    # Gemma: no system message, renamed roles, an inline if
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Turns must alternate') }}{% endif %}"
        "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
        "{{ '<start>' + role + '\n' + message['content'] | trim + '<end>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start>model\n'}}{% endif %}"
    ),
    # Gemma 3: content that is text or parts, sequence tests, a filter of loops
    "gemma3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {{ '<start>' + message['role'] + '\\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] if item['type'] == 'text' -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start>model\\n' }}
{%- endif -%}
""",
    # Phi 3: no newline control at all, so that trim_blocks shows
    "phi3": """{% for message in messages %}
{% if message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}
{% elif message['role'] == 'user' %}
  {{ '<|user|>\n' + message['content'] + '<|end|>\n' }}
{% elif message['role'] == 'assistant' %}
    {% generation %}
{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}
    {% endgeneration %}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{% else %}
{{ eos_token }}
{% endif %}
""",
    # Zephyr and SmolLM: block set, nested conditions, replace, a macro
    "smollm": """{%- macro turn(role, text) -%}
{{ '<|' ~ role ~ '|>\\n' ~ text | replace('\\t', ' ') ~ eos_token }}
{%- endmacro -%}
{% for message in messages %}
    {%- if loop.first and message['role'] != 'system' -%}
        {{ turn('system', 'Help.') }}
    {%- endif -%}
    {%- set body %}{{ message['content'] }}{% endset -%}
    {{ turn(message['role'], body) }}
{%- endfor -%}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}""",
    # DeepSeek: loop controls, items(), select filters, string methods
    "deepseek": """{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages | selectattr('role', 'equalto', 'system') -%}
    {%- set ns.system = ns.system ~ message['content'] -%}
{%- endfor -%}
{{- ns.system -}}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}{%- continue -%}{%- endif -%}
    {%- if message['role'] == 'stop' -%}{%- break -%}{%- endif -%}
    {{- '<｜' ~ message['role'].upper() ~ '｜>' ~ message['content'] -}}
    {%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜ASSISTANT｜>' -}}{%- endif -%}
""",
    # Command R: tojson with arguments, safe, dicts written in the template, join and map
    "command-r": """{{ bos_token }}{% for message in messages %}<|TURN|>{{ message.role | upper }}: {{ message.content | string | trim }}<|END|>{% endfor %}
{{ {"roles": messages | map(attribute='role') | list, "umlaut": "ä<&>"} | tojson(indent=2) }}
{{ messages | map(attribute='role') | unique | sort | join(', ') }}
{% if documents %}{{ documents | length }}{% endif -%}
""",
}

CHATS = {
    "one": [{"role": "user", "content": "Hi <there> & 'you'\n"}],
    "system": [
        {"role": "system", "content": "  Be short. "},
        {"role": "user", "content": "A\tb?"},
    ],
    "turns": [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nzwei ä 日本"},
        {"role": "user", "content": "3"},
    ],
    "answered": [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
    ],
    "wrong turns": [{"role": "assistant", "content": "2"}, {"role": "assistant", "content": "2"}],
    "empty": [{"role": "user", "content": ""}],
}
SETTINGS = [{}, {"enable_thinking": False}, {"add_generation_prompt": False}]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
