"""Which definition a call means, as far as names, imports and places tell. Pure; what stays open is left open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from indexers.fact_reader import KnownFile
from indexers.facts import UNKNOWN, Defined, Reference
from indexers.graph import GraphFile, nearest
from indexers.types import Place

# What an object calls itself by, and its base.
SELF = frozenset(
    {"self", "this", "cls", "super", "Self", "base", "@self", "me", "__MODULE__", "static", "parent", "$this"}
)
# Methods of containers, strings and streams in one language or another: on an unknown object it is those.
_COMMON = frozenset(
    """add all any append apply begin bind call clear clone close collect compare concat contains copy count data delete
    each empty end equals error exec extend filter find first flush foreach format from get has hash hashcode index
    indexof insert into is items iter join key keys last len length list load lock log lower map match max merge min
    name new next open parse pop print println push put read reduce remove replace reset reverse run save send set size
    slice sort split start stop str string strip sub sum swap test then to tostring to_string trim type unlock unwrap
    update upper value values wait with write""".split()
)
_CALLABLE = frozenset({"function", "method", "class", "type"})
# Where a method may call another one of its object by the bare name.
_IMPLICITSELF = frozenset("cpp csharp dart groovy java kotlin objc ruby scala swift".split())

Candidates = Callable[[str], Sequence[KnownFile]]


def resolve(
    user: KnownFile, call: Reference, inside: tuple[str, ...], elsewhere: Candidates
) -> tuple[KnownFile, Defined] | None:
    """The one definition that a call on a line means; None where there is none or it could be several.

    The same file comes first, then files it imports, then those beside it, then whatever is alone in the repository.
    :param inside: names of the definitions around the call, outermost first.
    :param elsewhere: the other files that define a name.
    """
    here = _named(user, call)
    if _is_self(call.receiver, inside, user.file.language):
        own = [item for item in here if item.path[:-1] and item.path[:-1] == _owner(inside, item)]
        found = _one(own) or _one([item for item in here if len(item.path) > 1])
    elif not call.receiver:
        found = _in_reach(here, inside)
    else:
        found = _one(_owned_by(here, call.receiver))
        if found is None and call.name.lower() not in _COMMON:
            found = _one([item for item in here if item.kind in ("function", "method")])
    if found is not None:
        return user, found
    # Defined here, several times: whichever it is, it is not elsewhere.
    return None if here and not call.receiver else _elsewhere(user, call, elsewhere(call.name))


@dataclass(frozen=True, slots=True)
class Meant:
    """A definition asked for by its owner and name, and who else owns one of that name."""

    owner: str
    others: frozenset[str]
    is_method: bool

    def by(self, use: Reference, enclosing: Sequence[str]) -> bool:
        """Whether a use inside of these definitions may mean it; only what plainly means another one does not."""
        if use.receiver == self.owner:
            return True
        if use.receiver in self.others:
            return False
        around = {last_part(name) for name in enclosing[:-1]}
        if use.receiver and use.receiver not in SELF:
            return True
        if self.owner in around:
            return True
        # By its bare name, or on the object itself, only its own class and those derived from it call a method.
        return not around & self.others and (bool(use.receiver) or not self.is_method)


def last_part(name: str) -> str:
    """The last name of a qualified one: `Phoenix.Router` is called Router."""
    return parts_of(name)[-1]


def parts_of(name: str) -> list[str]:
    """A qualified name taken apart; an operator (`::`, `..`) is one name."""
    parts = [part for part in name.replace("->", ".").replace("::", ".").replace("#", ".").split(".") if part]
    return parts or [name]


def places_of(file: KnownFile, items: Iterable[Defined], lines: Sequence[str]) -> list[Place]:
    """Definitions of a file as places, with the lines that name them."""
    return [
        Place(
            path=file.file.path,
            line=item.line,
            start_line=item.start_line,
            end_line=item.end_line,
            name=item.name,
            kind=item.kind,
            scope=item.path[:-1],
            text=lines[item.line - 1].strip() if item.line <= len(lines) else "",
        )
        for item in items
    ]


def _elsewhere(
    user: KnownFile, call: Reference, files: Sequence[KnownFile]
) -> tuple[KnownFile, Defined] | None:
    options = {known.file.path: known for known in files if known.file.path != user.file.path}
    placed = [GraphFile(path, known.file.language) for path, known in sorted(options.items())]
    me = GraphFile(user.file.path, user.file.language, imports=user.facts.imports)
    if call.receiver and call.receiver not in SELF:
        # `routing.get(...)`, `Router::new(...)`: what stands before the dot is a module or a type.
        named = GraphFile(user.file.path, user.file.language, imports=frozenset({call.receiver}))
        owned = [f for f in placed if _owned_by(_named(options[f.path], call), call.receiver)]
        module = [f for f in nearest(named, placed) if _is_module(f.path, call.receiver)]
        if owned or module:
            return _the_one(options, owned or module, call, owner=call.receiver if owned else "")
        if call.name.lower() in _COMMON or call.receiver == UNKNOWN and len(call.name) < 5:
            return None
    return _the_one(options, nearest(me, placed), call)


def _the_one(
    options: dict[str, KnownFile], files: Sequence[GraphFile], call: Reference, owner: str = ""
) -> tuple[KnownFile, Defined] | None:
    """The definition, where all that is left is one; a header and its source are one file."""
    found: list[tuple[KnownFile, Defined]] = []
    for file in files:
        known = options[file.path]
        items = _named(known, call)
        item = _one(_owned_by(items, owner) if owner else items)
        if item is None:
            return None
        found.append((known, item))
    if len(found) > 1 and len({_stem(known.file.path) for known, _ in found}) > 1:
        return None
    return max(
        found, key=lambda pair: (pair[1].end_line - pair[1].start_line, pair[0].file.path), default=None
    )


def _named(known: KnownFile, call: Reference) -> list[Defined]:
    """What a file defines under the name of a call that can be called like that."""
    bare = not call.receiver and known.file.language not in _IMPLICITSELF
    kinds = _CALLABLE - {"method"} if bare else _CALLABLE
    found = [item for item in known.facts.defined if item.name == call.name and item.kind in kinds]
    # A constructor is its class.
    classes = {item.path for item in found if item.kind == "class"}
    return [item for item in found if item.path[:-1] not in classes]


def _one(items: Sequence[Defined]) -> Defined | None:
    """The definition, if all have one name with all that encloses it: overloads, declarations. The longest stands."""
    if len({item.path for item in items}) != 1:
        return None
    return max(items, key=lambda item: (item.end_line - item.start_line, -item.line))


def _in_reach(here: Sequence[Defined], inside: tuple[str, ...]) -> Defined | None:
    """What a bare name means inside of a definition: the nearest enclosing scope wins."""
    for depth in range(len(inside), -1, -1):
        found = [item for item in here if item.path[:-1] == inside[:depth]]
        if found:
            return _one(found)
    return _one(here)


def _is_self(receiver: str, inside: Sequence[str], language: str) -> bool:
    """Whether a receiver is the object whose method we are in. Go's have any name: by custom a part of the type's."""
    if receiver in SELF:
        return True
    return (
        language == "go" and len(inside) > 1 and len(receiver) > 0 and receiver.lower() in inside[-2].lower()
    )


def _owner(inside: tuple[str, ...], item: Defined) -> tuple[str, ...]:
    """The part of where we are that would be the owner of a method."""
    return inside[: len(item.path) - 1]


def _owned_by(items: Iterable[Defined], owner: str) -> list[Defined]:
    return [item for item in items if len(item.path) > 1 and last_part(item.path[-2]) == owner]


def _is_module(path: str, word: str) -> bool:
    folders, _, name = path.rpartition("/")
    return word in (name.split(".")[0], folders.rpartition("/")[2])


def _stem(path: str) -> str:
    return path.rpartition("/")[2].split(".")[0]
