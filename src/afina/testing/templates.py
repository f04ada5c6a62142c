"""Chat templates of the shapes that model families publish, and a byte-level tokenizer for each.

Written afresh and shorter than the published ones; what they write for the messages of the tests is the same: the
headers, the tokens that end a turn, the white space around them, what they refuse and what they rewrite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afina.testing.tokenizers import SpecialTokens, build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class ChatFamily:
    """A template, and the tokens that it counts on."""

    template: str
    specials: SpecialTokens
    """All are single tokens and special."""
    words: tuple[str, ...] = ()
    """Single tokens that aren't special, such as <think>."""


def _specials(*listed: str, bos: str = "", eos: str, pad: str = "", unk: str = "") -> SpecialTokens:
    """Specials of a tokenizer that puts `bos`, where there is one, in front of every text by itself."""
    roles = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": unk}
    start = f"{bos} " if bos else ""
    return SpecialTokens(
        listed, {role: token for role, token in roles.items() if token}, f"{start}$A", f"{start}$A {start}$B"
    )


_CHATML = _specials("<|endoftext|>", "<|im_start|>", "<|im_end|>", eos="<|im_end|>", pad="<|endoftext|>")
_LLAMA3 = _specials(
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    bos="<|begin_of_text|>", eos="<|eot_id|>",
)  # fmt: skip
_SENTENCES = _specials("<unk>", "<s>", "</s>", bos="<s>", eos="</s>", pad="</s>", unk="<unk>")
_MISTRAL = _specials(
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", bos="<s>", eos="</s>", unk="<unk>",
)  # fmt: skip
_GEMMA = _specials(
    "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>",
    bos="<bos>", eos="<eos>", pad="<pad>", unk="<unk>",
)  # fmt: skip
_PHI3 = _specials(
    "<unk>", "<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    eos="<|endoftext|>", pad="<|endoftext|>", unk="<unk>",
)  # fmt: skip
_DEEPSEEK = _specials(
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
    bos="<｜begin▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>", pad="<｜end▁of▁sentence｜>",
)  # fmt: skip
_GPT_OSS = _specials(
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>",
    eos="<|return|>", pad="<|endoftext|>",
)  # fmt: skip

_QWEN_TOOLS = r"""
{%- macro call_text(call) -%}
{{ '<tool_call>\n' + ({"name": call.function.name, "arguments": call.function.arguments} | tojson) + '\n</tool_call>' }}
{%- endmacro -%}
{%- macro system_text(words) -%}
{{ '<|im_start|>system\n' + words }}
{%- if tools %}{{ '\n\n# Tools\n\n<tools>' }}{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}
{{- '\n</tools>' }}{% endif %}{{ '<|im_end|>\n' }}
{%- endmacro -%}
{%- macro tool_text(content, before, after) -%}
{%- if before != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
{%- if after != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
{%- endmacro -%}
"""

QWEN2_5 = (
    _QWEN_TOOLS
    + r"""
{%- if messages[0].role == 'system' %}{{ system_text(messages[0].content) }}
{%- else %}{{ system_text('You are Qwen, created by Alibaba Cloud. You are a helpful assistant.') }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- tool_text(message.content, (loop.previtem | default({})).role, (loop.nextitem | default({})).role) }}
{%- elif message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant' }}{% if message.content %}{{ '\n' + message.content }}{% endif %}
{%- for call in message.tool_calls %}{{ '\n' + call_text(call) }}{% endfor %}{{ '<|im_end|>\n' }}
{%- elif not (message.role == 'system' and loop.first) %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
)

# Thinking is kept in the turns after the last question alone, and an empty one is written where there is none.
QWEN3 = (
    _QWEN_TOOLS
    + r"""
{%- if messages[0].role == 'system' %}{{ system_text(messages[0].content) }}
{%- elif tools %}{{ system_text('') }}{% endif %}
{%- set ns = namespace(query=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.query = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- tool_text(message.content, (loop.previtem | default({})).role, (loop.nextitem | default({})).role) }}
{%- elif message.role == 'assistant' %}
{%- set content, thought = message.content, message.reasoning_content or '' %}
{%- if not thought and '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}
{%- endif %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.index0 > ns.query and (loop.last or thought) %}
{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
{%- else %}{{ content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{%- if content or not loop.first %}{{ '\n' }}{% endif %}{{ call_text(call) }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif not (message.role == 'system' and loop.first) %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""
)

SMOLLM2 = r"""
{%- if messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

LLAMA3 = r"""
{%- macro header(role) %}{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}{% endmacro %}
{{- bos_token }}
{%- if tools %}{{ header('system') }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{{ '<|eot_id|>' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}{{ header('ipython') + (message.content | tojson) + '<|eot_id|>' }}
{%- elif message.tool_calls %}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('This model only supports single tool-calls at once!') }}
{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- header('assistant') + '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}<|eot_id|>' }}
{%- else %}{{ header(message.role) + message.content | trim + '<|eot_id|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ header('assistant') }}{% endif %}"""

_ALTERNATE = r"""
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}"""

# A start token in front of every question; the system's words go into the first one.
LLAMA2 = (
    r"""
{%- if messages[0].role == 'system' %}
{%- set start, rest = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n', messages[1:] %}
{%- else %}{% set start, rest = '', messages %}{% endif %}
{%- for message in rest %}"""
    + _ALTERNATE
    + r"""
{%- if message.role == 'user' %}
{{- bos_token + '[INST] ' + ((start if loop.first else '') + message.content) | trim + ' [/INST]' }}
{%- else %}{{ ' ' + message.content | trim + ' ' + eos_token }}{% endif %}
{%- endfor %}"""
)

# Knows no system, counts neither tool calls nor results as turns, and shows the tools before the last question.
MISTRAL = r"""
{{- bos_token }}
{%- set ns = namespace(turns=0, query=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.query = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '[TOOL_RESULTS] {"content": ' + (message.content | tojson) + '}[/TOOL_RESULTS]' }}
{%- elif message.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls %}{{ call.function | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}
{{- ']' + eos_token }}
{%- else %}
{%- if (message.role == 'user') != (ns.turns % 2 == 0) %}
{{- raise_exception('After the optional system message, conversation roles must alternate user/assistant') }}
{%- endif %}
{%- set ns.turns = ns.turns + 1 %}
{%- if message.role == 'user' %}
{%- if tools and loop.index0 == ns.query %}
{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
{%- endif %}
{{- '[INST] ' + message.content + '[/INST]' }}
{%- else %}{{ ' ' + message.content + eos_token }}{% endif %}
{%- endif %}
{%- endfor %}"""

GEMMA = (
    r"""
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}"""
    + _ALTERNATE
    + r"""
{%- set role = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""
)

# The end token closes the whole conversation; a turn ends with <|end|>.
PHI3 = r"""
{%- for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""

# The headers are no tokens but words.
ZEPHYR = r"""
{%- for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + eos_token + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""

DEEPSEEK = r"""
{{- bos_token }}
{%- for message in messages %}{% if message.role == 'system' %}{{ message.content }}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<｜User｜>' + message.content }}
{%- elif message.role == 'assistant' %}{{ '<｜Assistant｜>' + message.content + '<｜end▁of▁sentence｜>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""

# An answer ends the conversation with a token of its own, and its reasoning is dropped once others follow.
GPT_OSS = r"""
{%- macro write(head, text) %}{{ '<|start|>' + head + '<|message|>' + text }}{% endmacro %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if loop.last and message.thinking %}
{{- write('assistant<|channel|>analysis', message.thinking) + '<|end|>' }}
{%- endif %}
{{- write('assistant<|channel|>final', message.content) + ('<|return|>' if loop.last else '<|end|>') }}
{%- else %}{{ write(message.role, message.content) + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# {% generation %} around an answer: without the token that ends it, or with all that the turn writes.
_MARKED = r"""
{%- for message in messages %}
{%- if message.role == 'assistant' %}BEFORE{{ message.content }}AFTER
{%- else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
_OPEN, _CLOSE = r"{{- '<|im_start|>assistant\n' }}", r"{{- '<|im_end|>\n' }}"
MARKED = _MARKED.replace("BEFORE", _OPEN + "{% generation %}").replace("AFTER", "{% endgeneration %}" + _CLOSE)
MARKED_WIDELY = _MARKED.replace("BEFORE", "{% generation %}" + _OPEN).replace("AFTER", _CLOSE + "{% endgeneration %}")

_QWEN_WORDS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
CHAT_FAMILIES: dict[str, ChatFamily] = {
    "qwen2.5": ChatFamily(QWEN2_5, _CHATML, _QWEN_WORDS),
    "qwen3": ChatFamily(QWEN3, _CHATML, _QWEN_WORDS),
    "smollm2": ChatFamily(SMOLLM2, _CHATML),
    "llama-3": ChatFamily(LLAMA3, _LLAMA3),
    "llama-2": ChatFamily(LLAMA2, _SENTENCES),
    "mistral": ChatFamily(MISTRAL, _MISTRAL),
    "gemma": ChatFamily(GEMMA, _GEMMA),
    "phi-3": ChatFamily(PHI3, _PHI3),
    "zephyr": ChatFamily(ZEPHYR, _SENTENCES),
    "deepseek": ChatFamily(DEEPSEEK, _DEEPSEEK),
    "gpt-oss": ChatFamily(GPT_OSS, _GPT_OSS),
    "marked": ChatFamily(MARKED, _CHATML),
    "marked-widely": ChatFamily(MARKED_WIDELY, _CHATML),
}


def build_chat_tokenizer(name: str, *, model_max_length: int = 4096) -> PreTrainedTokenizerFast:
    """The byte-level tokenizer of a family of `CHAT_FAMILIES`, with its special tokens and its chat template."""
    from tokenizers import AddedToken

    family = CHAT_FAMILIES[name]
    tokenizer = build_tokenizer(family.specials, model_max_length=model_max_length)
    # Those without a role are in the vocabulary, but would be split into bytes.
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in family.specials.listed])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in family.words])
    tokenizer.chat_template = family.template
    return tokenizer
