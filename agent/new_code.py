"""Code asked for as such, by `agent write --new` and by questions such as "write a function that ..."."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent import writing
from agent.loading import Background
from chains import generate
from chains.types import Answer
from indexers.errors import UsageError
from indexers.filters import EVERYTHING, Filter

if TYPE_CHECKING:
    from agent.chosen_model import ChosenModel
    from agent.workspace import Workspace
    from indexers.types import Hit


_SHORT = {"shell": "bash", "js": "javascript", "ts": "typescript", "c++": "cpp", "golang": "go"}
_IN = re.compile(
    r"(?:\bin\s+|(?<![\w+#]))(python|bash|shell|javascript|js|typescript|ts|go|golang|rust|ruby|java|kotlin|php|sql|lua"
    r"|perl|swift|scala|c\+\+|c)(?=\s+(?:functions?|class|methods?|script|code|helper|program|module|snippet|tests?"
    r"|query|struct|trait|package)\b|[,.]|\s*$)",
    re.IGNORECASE,
)


def stream(
    workspace: Workspace,
    model: ChosenModel,
    request: str,
    *,
    only: Filter = EVERYTHING,
    context_tokens: int | None = None,
    max_tokens: int | None = None,
    fenced: bool = False,
) -> Iterator[str | Answer]:
    """Pieces of new code, then the answer that cites what it reuses; see `chains.generate.new_code`."""
    settings = writing.write_settings(workspace, context_tokens=context_tokens, max_tokens=max_tokens)
    hits, language = _found(workspace, model, request, only)
    with workspace.guarded():
        for item in generate.new_code(
            request,
            hits,
            model.llm,
            language=language,
            context_tokens=settings.context_tokens,
            max_tokens=settings.max_tokens,
            definitions_of=workspace.names().definitions_of,
            fenced=fenced,
        ):
            if isinstance(item, Answer):
                yield replace(item, model=model.label(), index=workspace.freshness())
            else:
                yield item
    workspace.go_on_behind()


def prompt(
    workspace: Workspace,
    model: ChosenModel,
    request: str,
    *,
    only: Filter = EVERYTHING,
    context_tokens: int | None = None,
    max_tokens: int | None = None,
) -> str:
    """The prompt as the model would read it, control tokens shown, without running the model."""
    settings = writing.write_settings(workspace, context_tokens=context_tokens, max_tokens=max_tokens)
    hits, language = _found(workspace, model, request, only)
    asked = generate.asked(request, hits, model.llm, language, settings.context_tokens)
    return model.llm.prompt_text(list(asked.said))


def _found(workspace: Workspace, model: ChosenModel, request: str, only: Filter) -> tuple[Sequence[Hit], str]:
    """What the code can be made of, and the language to write it in; the model is loaded meanwhile."""
    if not request.strip():
        raise UsageError("The request is empty.", 'Say what to write: agent write --new "a helper that ..."')
    workspace.refresh()
    loading = Background(model.llm.load)
    workspace.ready_embedder(download=True)
    with workspace.guarded():
        hits, about = writing.sought(workspace, request, only)
    loading.wait()
    found = hits if about else ()
    return found, _language_of(request, found)


def _language_of(request: str, hits: Sequence[Hit]) -> str:
    """The language that a request names right before what it wants, else the one of most of what was found."""
    named = _IN.search(request)
    if named:
        return _SHORT.get(named[1].lower(), named[1].lower())
    names = Counter(hit.language for hit in hits if hit.language not in ("", "text", "markdown"))
    return names.most_common(1)[0][0] if names else "python"
