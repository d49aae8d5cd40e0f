"""A grammar that lets an answer cite only what the model was shown, and makes every line of it cite. Pure."""

from __future__ import annotations

from collections.abc import Sequence

REFUSAL = "The sources do not show this."

# Every line opens with the label of the source it rests on. The label comes first because a model that is about to
# end does not go back to cite, and because choosing the source first keeps the statement to it.
_RULES = r"""
root ::= refusal | line (gap line)*
line ::= "[" label "] " text
text ::= start (char | code) (char | code)*
start ::= [A-Z] | code
char ::= [^\[\]`\n]
code ::= "`" [^`\n]+ "`"
gap ::= "\n" "\n"?
"""


def citation_grammar(labels: Sequence[str]) -> str:
    """GBNF for an answer from sources with these labels.

    Format: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
    """
    choices = " | ".join(_literal(label) for label in labels)
    return f"{_RULES.strip()}\nlabel ::= {choices}\nrefusal ::= {_literal(REFUSAL)}\n"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
