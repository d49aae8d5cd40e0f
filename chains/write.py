"""The machine that writes edits: retrieve, choose, draft, check, repair, propose; each state tells what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, cast

from chains.context import pack
from chains.types import Context
from chains.writing.choosing import Target
from chains.writing.composing import Composed, composed
from chains.writing.drafter import Drafter
from chains.writing.edit_checks import static_checks
from chains.writing.edits import FileChange, Kind
from chains.writing.losses import removes
from chains.writing.places import Places, find_places
from chains.writing.policy import checked
from chains.writing.prompts import Attempt, choice_messages
from chains.writing.speaking import Speaker
from chains.writing.trials import check_commands, trial_checks
from chains.writing.types import Check, Draft, Stage, WriteSettings
from chains.writing.vacancy import not_vacant, taken
from indexers.errors import AgentError
from indexers.languages import language_of
from indexers.types import Progress

if TYPE_CHECKING:
    from chains.writing.choosing import Menu
    from chains.writing.material import Material

_CHOICE_TOKENS = 160
# A choice that cannot be done is told, and asked for once more.
_CHOICES = 2
NO_CHOICE = "The model chose no place to change."
NO_CHANGE = "The model left the code as it is: it may be there already."
UNFINISHED = "The model did not finish what it wrote:"
UNDONE = "There is nothing to do: the formatter takes back what was written."


class _State(TypedDict, total=False):
    """What the states hand on."""

    places: Places
    context: Context
    targets: tuple[Target, ...]
    written: dict[Target, str]
    problems: dict[Target, list[str]]
    composed: Composed | None
    checks: tuple[Check, ...]
    best: Draft
    round: int
    reason: str
    stage: Stage


def write(
    request: str,
    material: Material,
    model: Any,
    settings: WriteSettings,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Stage | Draft]:
    """Each state as it ends, then the draft. Nothing is written anywhere but in scratch copies.

    :param model: a chat model that counts tokens and takes `grammar`, such as `LlamaCpp`.
    :raises PolicyError: the request asks for a change outside of the repository.
    :raises UsageError: none of the files that it names can be edited, or a command of the settings cannot be started.
    :raises ContextTooSmall: the instructions do not fit the model's window.
    """
    check_commands(settings, material.root, material.environment)
    machine = _Machine(request, material, model, settings, on_progress or (lambda _: None))
    state: _State = {}
    # Updates, and not tokens: those would run the model in a thread of the graph's, where Ctrl-C does not reach it.
    limit = {"recursion_limit": 4 * settings.rounds + 12}
    for update in machine.graph().stream({"round": 0}, config=limit, stream_mode="updates"):
        for change in update.values():
            state.update(cast("_State", change or {}))
            yield state["stage"]
    yield machine.result(state)


class _Machine:
    """The states as methods, and the graph that joins them."""

    def __init__(
        self,
        request: str,
        material: Material,
        model: Any,
        settings: WriteSettings,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._request = request
        self._material = material
        self._model = model
        self._settings = settings
        self._progress = on_progress
        self._speaker = Speaker(model, on_progress)
        self._started = time.monotonic()
        self._removes = removes(request)
        self._drafter = Drafter(
            request, model, settings, self._speaker, removes=self._removes, local=material.local
        )

    def graph(self) -> Any:
        """The compiled state machine."""
        from langgraph.graph import END, START, StateGraph

        graph: Any = StateGraph(_State)
        states = (self.retrieve, self.choose, self.draft, self.check, self.repair, self.propose)
        for state in states:
            graph.add_node(state.__name__, state)
        graph.add_edge(START, "retrieve")
        graph.add_conditional_edges(
            "retrieve", lambda s: END if s.get("reason") else "choose", ["choose", END]
        )
        graph.add_conditional_edges("choose", lambda s: END if s.get("reason") else "draft", ["draft", END])
        graph.add_edge("draft", "check")
        graph.add_conditional_edges("check", self._next, ["repair", "propose"])
        graph.add_edge("repair", "check")
        graph.add_edge("propose", END)
        return graph.compile()

    # -- states ----------------------------------------------------------------------------------

    def retrieve(self, state: _State) -> _State:
        """Find what to read, and the places that an edit may be about."""
        began = time.monotonic()
        places = find_places(self._request, self._material, self._settings)
        # What is to be written anew is shown where it is asked for; once is enough.
        hits = [hit for hit in places.hits if not any(target.holds(hit) for target in places.direct)]
        context = pack(hits, self._settings.context_tokens, self._model.count_tokens)
        found = (
            f"{len(context.sources)} sources, {len(places.menu.regions)} places in {len(places.files)} files"
        )
        return {
            "places": places,
            "context": context,
            "reason": places.reason,
            "stage": Stage("retrieve", places.reason or found, _since(began), context.tokens),
        }

    def choose(self, state: _State) -> _State:
        """Say which places to change: those that the request names, else those that the model picks."""
        began, places = time.monotonic(), state["places"]
        before = self._speaker.usage.completion_tokens
        targets, reason = (
            (places.direct, "") if places.direct else self._chosen(places.menu, state["context"])
        )
        detail = "; ".join(target.label for target in targets) or reason
        tokens = self._speaker.usage.completion_tokens - before
        return {
            "targets": tuple(targets),
            "reason": reason,
            "stage": Stage("choose", detail, _since(began), tokens),
        }

    def _chosen(self, menu: Menu, context: Context) -> tuple[Sequence[Target], str]:
        """What the model picks of what can be done, or why there is nothing."""
        refused: list[str] = []
        for _ in range(_CHOICES):
            messages = choice_messages(self._request, context.sources, menu, refused)
            reply, _ = self._speaker.say("choose", messages, menu.grammar(), _CHOICE_TOKENS)
            chosen = menu.read(reply)
            wrong = {target: why for target in chosen if (why := self._refusal(target))}
            targets = [target for target in chosen if target not in wrong]
            if not wrong:
                break
            refused = [f"{target.label}: {why}" for target, why in wrong.items()]
        if targets:
            return targets, ""
        return (), f"What the model chose cannot be done: {refused[0]}" if refused else NO_CHOICE

    def _refusal(self, target: Target) -> str:
        """Why a new file, or a new name, cannot be had; empty where it can, or nothing is new."""
        path = target.to or (target.path if target.kind is Kind.CREATE else "")
        if not path:
            return ""
        gone = (target.path,) if target.to else ()
        return self._outside([path]) or taken(self._material.root, path, gone)

    def _outside(self, paths: Sequence[str]) -> str:
        """Which of these paths may not be changed, as a sentence."""
        left = [path for path in paths if not self._material.only.admits(path, language_of(path))]
        return f"{', '.join(left)} may not be changed: --files leaves it out." if left else ""

    def draft(self, state: _State) -> _State:
        """Write the code of every target for the first time."""
        return self._written(state, "draft", state["targets"])

    def repair(self, state: _State) -> _State:
        """Write again what has problems, with the problems told."""
        return self._written(state, "repair", tuple(state["problems"]))

    def check(self, state: _State) -> _State:
        """Make edits of what was written, and look at them in every way there is."""
        began = time.monotonic()
        problems = {target: list(found) for target, found in state["problems"].items() if found}
        made: Composed | None = None
        checks: list[Check] = []
        try:
            files, relations = state["places"].files, self._material.relations
            made = composed(state["written"], files, relations, removes=self._removes)
            checked(made.changes)
            wrong = self._unappliable(made.changes)
            checks.append(Check("applies", not wrong, "; ".join(wrong)))
        except AgentError as error:
            checks.append(Check("applies", False, error.message))
        if made is not None and made.changes:
            made, found = self._checked(made, state["places"], tried=not checks[0].failed)
            checks += found
        if made is not None and not made.changes:
            # A file that keeps its name and its bytes is no edit.
            made = replace(made, edits=())
        draft = self._draft_of(state, made, checks)
        problems = self._problems(state, made, checks, problems)
        better = "best" not in state or _rank(draft) >= _rank(state["best"])
        said = [f"{check.name}: {check.detail or 'no'}" for check in draft.checks if check.failed]
        detail = "; ".join(said) or (draft.reason if not draft.edits else "all checks pass")
        return {
            "composed": made,
            "checks": tuple(checks),
            "problems": problems,
            "best": draft if better else state["best"],
            "stage": Stage("check", detail, _since(began)),
        }

    def propose(self, state: _State) -> _State:
        """End with the best draft."""
        best = state["best"]
        if not best.edits:
            detail = best.reason
        else:
            detail = f"{len(best.changes)} file{'s' if len(best.changes) != 1 else ''}"
        return {"stage": Stage("propose", detail, 0.0)}

    def _next(self, state: _State) -> str:
        over = state["round"] >= self._settings.rounds
        return "propose" if over or not state["problems"] else "repair"

    # -- the model -------------------------------------------------------------------------------

    def _written(self, state: _State, stage: str, targets: Sequence[Target]) -> _State:
        began, before = time.monotonic(), self._speaker.usage.completion_tokens
        written, problems = dict(state.get("written", {})), {}
        for target in targets:
            attempt = None
            if stage == "repair":
                made = state.get("composed")
                same = made is not None and target in made.unchanged
                attempt = Attempt("" if same else written[target], tuple(state["problems"].get(target, ())))
            files, sources = state["places"].files, state["context"].sources
            code, found = self._drafter.code(stage, target, files, sources, attempt)
            written[target] = code
            problems[target] = found
        number = state.get("round", 0) + 1
        tokens = self._speaker.usage.completion_tokens - before
        detail = f"round {number}: " + "; ".join(target.label for target in targets)
        return {
            "written": written,
            "problems": problems,
            "round": number,
            "stage": Stage(stage, detail, _since(began), tokens),
        }

    # -- checks ----------------------------------------------------------------------------------

    def _unappliable(self, changes: Sequence[FileChange]) -> list[str]:
        """Why changes cannot be made in the work tree as it is now."""
        outside = self._outside([change.path for change in changes])
        repository = self._material.repository
        gits = (repository.git_dir, repository.common_dir)
        return [*([outside] if outside else []), *not_vacant(repository.root, changes, gits)]

    def _checked(self, made: Composed, places: Places, *, tried: bool) -> tuple[Composed, list[Check]]:
        def judge(changes: Sequence[FileChange]) -> list[Check]:
            return static_checks(
                changes, self._material.has_name, defines=self._material.sees, removes=places.loses
            )

        checks = judge(made.changes)
        if not tried or any(check.failed for check in checks):
            # What does not parse, or cannot be applied, is not worth a run.
            return made, checks
        made, found = trial_checks(made, places.files, self._material, self._settings, self._progress, judge)
        return made, [*checks, *found]

    def _problems(
        self,
        state: _State,
        made: Composed | None,
        checks: Sequence[Check],
        problems: dict[Target, list[str]],
    ) -> dict[Target, list[str]]:
        """What is wrong with each target's code. A check that names no file of a target is about all of them."""
        drafted = [target for target in state["targets"] if target.kind not in (Kind.DELETE, Kind.RENAME)]
        for check in checks:
            if not check.failed:
                continue
            about = [target for target in drafted if target.path in check.detail] or drafted
            for target in about:
                problems.setdefault(target, []).append(f"{check.name}: {check.detail}")
        for target in made.unchanged if made else ():
            if not made or not made.edits:
                problems.setdefault(target, []).append("The code came back as it was; the task is not done.")
        return problems

    def _draft_of(self, state: _State, made: Composed | None, checks: Sequence[Check]) -> Draft:
        cut = "; ".join(dict.fromkeys(problem for found in state["problems"].values() for problem in found))
        if cut:
            # Half a change is none: nobody is asked about it.
            told = (*checks, Check("finished", False, cut))
            return Draft(self._request, (), (), told, state["round"], f"{UNFINISHED} {cut}")
        edits, changes = (made.edits, made.changes) if made else ((), ())
        reason = "" if edits else _nothing(made, checks)
        return Draft(self._request, edits, changes, tuple(checks), state["round"], reason)

    def result(self, state: _State) -> Draft:
        """The draft that the machine ended with, with what it cost."""
        found = state.get("best") or Draft(self._request, reason=state.get("reason", ""))
        context = state.get("context", Context(()))
        usage = replace(self._speaker.usage, seconds=round(time.monotonic() - self._started, 3))
        return replace(
            found,
            rounds=state.get("round", 0),
            sources=context.sources,
            dropped=context.dropped,
            usage=usage,
            exchanges=tuple(self._speaker.exchanges),
        )


def _nothing(made: Composed | None, checks: Sequence[Check]) -> str:
    """Why there are no edits."""
    if made is None:
        return next(check.detail for check in checks if check.failed)
    return UNDONE if any(check.name == "formatter" for check in checks) else NO_CHANGE


def _rank(draft: Draft) -> tuple[bool, bool, int]:
    """Which of two drafts is better: one that passes, one that changes something, one with fewer failed checks."""
    return draft.passed, bool(draft.edits), -sum(check.failed for check in draft.checks)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
