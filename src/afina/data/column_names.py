"""Names that columns of text and of labels usually have, in English and Spanish: lower case, no accents.

A column called `text` or `label` wins over every other; names of one tier are equals, and two equals are for
the user to choose between.
"""

from __future__ import annotations

import unicodedata


def _split_tiers(*tiers: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(tier.split()) for tier in tiers)


TEXT_TIERS = _split_tiers(
    "text texto",
    """
    sentence review review_text content message tweet body comment utterance document post sms email
    mail description query question frase oracion mensaje comentario resena contenido opinion
    descripcion pregunta consulta correo
    """,
    "title headline subject summary titulo titular asunto resumen",
)
LABEL_TIERS = _split_tiers(
    "label labels etiqueta etiquetas",
    """
    class category categories target sentiment intent topic rating score stars y emotion polarity tag
    tags is_spam spam similarity clase categoria categorias objetivo sentimiento intencion tema
    puntuacion nota estrellas valoracion emocion polaridad
    """,
)
PAIRS = _split_tiers(
    "sentence1 sentence2", "sentence_1 sentence_2", "sentence_a sentence_b", "sent1 sent2",
    "premise hypothesis", "question1 question2", "question_1 question_2", "text_a text_b",
    "text1 text2", "text_1 text_2", "text text_pair", "question context", "question passage",
    "question sentence", "question answer", "query document", "query passage", "query product_title",
    "premisa hipotesis", "frase1 frase2", "texto1 texto2", "texto_a texto_b", "pregunta contexto",
    "pregunta respuesta", "pregunta1 pregunta2", "consulta documento",
)  # fmt: skip


def normalize_name(name: str) -> str:
    """The name as the tables here spell it: `Reseña ` gives `resena`."""
    decomposed = unicodedata.normalize("NFKD", name.strip().casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).replace(" ", "_").replace("-", "_")
