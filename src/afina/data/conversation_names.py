"""Usual names of the columns that a language model learns from, in English and Spanish, normalised."""

from __future__ import annotations

MESSAGES = (
    ("messages", "mensajes"),
    ("conversations", "conversation", "conversaciones", "conversacion", "dialog", "dialogue", "dialogo", "chat"),
)
# What is answered, with the usual name of its answer; the other names of answers are tried after that one.
ASKED = {
    "instruction": "output", "instruccion": "salida", "prompt": "completion", "question": "answer",
    "pregunta": "respuesta", "query": "response", "consulta": "respuesta", "input": "output", "entrada": "salida",
}  # fmt: skip
# As often names of other things: only texts are taken for these, and only where no column is called a text.
RARELY_ASKED = {
    "inputs": "targets", "input_text": "target_text", "source": "target", "source_text": "target_text",
    "user": "assistant", "human": "assistant", "usuario": "asistente", "problem": "solution", "problema": "solucion",
    "article": "highlights", "document": "summary", "dialogue": "summary", "articulo": "resumen",
    "documento": "resumen",
}  # fmt: skip
ANSWERS = ("completion", "output", "response", "answer", "salida", "respuesta")
RARE_ANSWERS = (
    "targets",
    "target_text",
    "target",
    "assistant",
    "asistente",
    "solution",
    "highlights",
    "summary",
    "resumen",
)
INSTRUCTIONS = ("instruction", "instruccion")
BESIDE = {
    "input": ("input", "context", "entrada", "contexto"),
    "system": ("system", "system_prompt", "system_message", "sistema"),
}
TOOLS = ("tools", "functions", "herramientas")
EARLIER = ("history", "historial")
TEXTS = ("text", "texto", "content", "contenido")
# Of the longest texts only.
RARE_TEXTS = ("body", "cuerpo", "document", "documento", "article", "articulo", "story", "page", "markdown", "code")
