"""Functions that new code calls and that nothing in its file declares, in languages where they have to be. A hint."""

from __future__ import annotations

import re
from collections.abc import Callable

from indexers.facts import CALL
from indexers.filters import is_test
from indexers.references import read_text

_SCRIPT = """
    $ jQuery AggregateError Audio BigInt64Array BigUint64Array BroadcastChannel ClipboardItem DOMException DOMParser
    ErrorEvent EventSource File FileReader FinalizationRegistry Float32Array Float64Array Image Int16Array Int32Array
    IntersectionObserver KeyboardEvent MessageChannel MouseEvent MutationObserver Notification PerformanceObserver
    ReadableStream ResizeObserver SharedArrayBuffer TransformStream Uint16Array Uint32Array Uint8ClampedArray WeakRef
    WritableStream XMLHttpRequest addEventListener cancelIdleCallback close defineEmits defineProps dispatchEvent escape
    getComputedStyle getSelection importScripts matchMedia open postMessage removeEventListener reportError
    requestIdleCallback scrollTo unescape
    Array ArrayBuffer BigInt Boolean DataView Date Error EvalError Function Int8Array Intl JSON Map Number
    Object Promise Proxy RangeError ReferenceError RegExp Set String Symbol SyntaxError TypeError URIError
    Uint8Array WeakMap WeakSet AbortController Blob Buffer CustomEvent Event EventTarget FormData Headers
    Request Response TextDecoder TextEncoder URL URLSearchParams WebSocket Worker alert atob btoa
    cancelAnimationFrame clearImmediate clearInterval clearTimeout confirm decodeURI decodeURIComponent
    encodeURI encodeURIComponent eval fetch import isFinite isNaN parseFloat parseInt prompt queueMicrotask
    require requestAnimationFrame setImmediate setInterval setTimeout structuredClone super
"""
_GO = """
    any append bool byte cap clear close complex complex64 complex128 copy delete error float32 float64 imag
    int int8 int16 int32 int64 len make max min new panic print println real recover rune string uint uint8
    uint16 uint32 uint64 uintptr
"""
_RUST = "AsyncFn AsyncFnMut AsyncFnOnce Box Err Fn FnMut FnOnce None Ok Some String Vec drop"
_GIVEN = {
    **dict.fromkeys(("javascript", "typescript", "tsx"), frozenset(_SCRIPT.split())),
    "go": frozenset(_GO.split()),
    "rust": frozenset(_RUST.split()),
}
LANGUAGES = frozenset(_GIVEN)
_ATTRIBUTE = re.compile(r"#!?\[[^\n]*\]")


def undeclared(
    before: str, after: str, path: str, language: str, defines: Callable[[str], bool]
) -> list[str]:
    """The names, in order, that a text has come to call and does not declare or import.

    :param defines: whether the repository defines a name where the file sees it without importing it.
    """
    # What a test framework gives its tests, and what is taken from elsewhere as a whole, nobody can list.
    if (
        language not in _GIVEN
        or is_test(path)
        or re.search(r"^use\b.*::\s*\*|^\s*(?:import\s+)?\.\s+\"", after, re.MULTILINE)
    ):
        return []
    new = _called(after, language) - _called(before, language) - _GIVEN[language]
    return [name for name in sorted(new) if not _is_declared(name, after, language) and not defines(name)]


def _called(text: str, language: str) -> frozenset[str]:
    if language == "rust":
        text = _ATTRIBUTE.sub("", text)
    references = read_text(text, language).references
    return frozenset(item.name for item in references if item.kind == CALL and not item.receiver)


def _is_declared(name: str, text: str, language: str) -> bool:
    """Whether a name stands somewhere other than in a call: in a declaration, an import, a parameter, an enum."""
    word = re.escape(name)
    declared = rf"(?:function\*?|func|fn|class|struct|macro_rules!)\s+{word}\b"
    if language == "rust" and name[:1].isupper():
        declared += rf"|(?:^|[{{,])\s*{word}\([^()]*\)\s*[,}}]"
    return bool(
        re.search(rf"{declared}|(?<![\w$.]){word}(?![\w$])(?!\s*(?:<[^<>()]*>)?\s*\()", text, re.MULTILINE)
    )
