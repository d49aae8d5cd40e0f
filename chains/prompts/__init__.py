"""Prompt text as data files, read once and byte-stable: it is the head of every cached prompt."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def prompt_text(name: str) -> str:
    """The text of `name`.txt in this directory, without its final newline."""
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")
