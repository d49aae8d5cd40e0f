"""A git work tree in the hands of somebody restless: edits, renames, switches, stashes, reverts; and what is in it."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.repos import git

# Commits that a switch may go to: near enough that most files stay.
HISTORY = 300
# What a person edits; each with how a line of it is commented out.
COMMENTS = {
    **dict.fromkeys((".py", ".rb", ".ex", ".exs", ".sh", ".toml", ".yml", ".yaml"), "#"),
    **dict.fromkeys((".c", ".h", ".cc", ".go", ".rs", ".java", ".ts", ".tsx", ".js", ".php", ".cs"), "//"),
    **dict.fromkeys((".lua",), "--"),
    **dict.fromkeys((".md", ".rst", ".txt"), ""),
}
LARGEST = 200_000
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aeou"]
# Odd, and legal: a blank, a quote, a bracket, an escape sequence, a newline, a byte that is no UTF-8.
_ODD_NAMES = ("a name.py", "it's.py", "[x].py", "esc\x1b[31m.py", "new\nline.py", "latin\udce9.py")


def word(chance: random.Random) -> str:
    """A word that stands nowhere yet, and that no stemmer bends."""
    return "soak" + "".join(chance.choice(_SYLLABLES) for _ in range(6))


def text_of(data: bytes) -> str:
    """A file's text by rules of our own: what a hit claims to be is not judged by the code that made it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").replace("\r\n", "\n")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.replace("\r\n", "\n")


class Tree:
    """A clone of a fetched repository. Words that were written into it are in `words`, the newest last."""

    def __init__(self, source: Path, root: Path, chance: random.Random) -> None:
        self.root, self._chance = root, chance
        root.parent.mkdir(parents=True, exist_ok=True)
        git(root.parent, "clone", "-q", str(source), str(root))
        log = git(root, "rev-list", "--first-parent", "-n", str(HISTORY), "HEAD")
        self._commits = log.decode().split()
        self.words: list[str] = []

    # -- what is in it ---------------------------------------------------------------------------

    def listed(self) -> list[str]:
        """Every path that git tracks, or neither tracks nor ignores, and that is a plain file now."""
        names = git(self.root, "ls-files", "-z") + git(
            self.root, "ls-files", "-z", "-o", "--exclude-standard"
        )
        paths = {os.fsdecode(name) for name in names.split(b"\0") if name}
        return sorted(path for path in paths if self._is_plain(path))

    def _is_plain(self, path: str) -> bool:
        try:
            return stat.S_ISREG(os.lstat(self.root / path).st_mode) and not self._through_link(path)
        except OSError:
            return False

    def _through_link(self, path: str) -> bool:
        return any((self.root / parent).is_symlink() for parent in Path(path).parents if str(parent) != ".")

    def where(self, words: Iterable[str]) -> dict[str, set[str]]:
        """The files that hold each word, read from the disk this moment."""
        found: dict[str, set[str]] = {each: set() for each in words}
        for path in self.listed():
            data = (self.root / path).read_bytes()
            for each, paths in found.items():
                if each.encode() in data:
                    paths.add(path)
        return found

    def lines(self, path: str) -> list[str] | None:
        """A file's lines as they are on the disk; None when there is no such plain file."""
        if not self._is_plain(path):
            return None
        return text_of((self.root / path).read_bytes()).split("\n")

    def _editable(self) -> list[str]:
        return [
            path
            for path in self.listed()
            if Path(path).suffix in COMMENTS and 0 < (self.root / path).stat().st_size < LARGEST
        ]

    def a_phrase(self) -> str:
        """A few neighbouring words of some file, as somebody would search for them."""
        files = self._editable()
        if not files:
            return "main"
        text = text_of((self.root / self._chance.choice(files)).read_bytes()).split()
        start = self._chance.randrange(max(1, len(text) - 4))
        phrase = " ".join(text[start : start + 4])
        return phrase if phrase.strip("-") else "main"

    # -- what happens to it ----------------------------------------------------------------------

    def change(self) -> str:
        """Do something to the tree, drawn at random; the name of it."""
        actions: list[tuple[Callable[[], None], int]] = [
            (self.edit, 30),
            (self.edit_several, 8),
            (self.edit_keeping_size_and_time, 5),
            (self.create, 8),
            (self.rename, 8),
            (self.delete, 6),
            (self.move_directory, 2),
            (self.become_link_or_directory, 3),
            (self.touch, 3),
            (self.ignore, 2),
            (self.untrack, 2),
            (self.commit, 8),
            (self.switch, 10),
            (self.branch, 5),
            (self.stash, 4),
            (self.pop, 4),
            (self.restore, 4),
            (self.revert, 3),
            (self.reset, 3),
            (self.clean, 1),
        ]
        acts, weights = zip(*actions, strict=True)
        act: Callable[[], None] = self._chance.choices(acts, weights)[0]
        act()
        return act.__name__

    def _new_word(self) -> str:
        self.words.append(word(self._chance))
        return self.words[-1]

    def edit(self) -> None:
        """Write a word nobody has seen into a line of its own, and sometimes drop or double lines beside it."""
        files = self._editable()
        if not files:
            return
        path = self.root / self._chance.choice(files)
        lines = path.read_bytes().split(b"\n")
        at = self._chance.randrange(len(lines))
        if self._chance.random() < 0.3:
            del lines[at : at + self._chance.randrange(1, 12)]
        if self._chance.random() < 0.2:
            lines[at:at] = lines[at : at + self._chance.randrange(1, 20)]
        lines.insert(at, f"{COMMENTS[path.suffix]} {self._new_word()}".strip().encode())
        path.write_bytes(b"\n".join(lines))

    def edit_several(self) -> None:
        """As a change of a dozen files at once."""
        for _ in range(self._chance.randrange(2, 12)):
            self.edit()

    def edit_keeping_size_and_time(self) -> None:
        """Replace a word by another of the same length, and put the time of the file back."""
        files = self._editable()
        if not files:
            return
        path = self.root / self._chance.choice(files)
        before, data = path.stat(), path.read_bytes()
        held = [each for each in self.words if each.encode() in data]
        if held:
            old = self._chance.choice(held)
            path.write_bytes(data.replace(old.encode(), self._new_word().encode()))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def create(self) -> None:
        """A new file that git does not know, now and then under an odd name."""
        name = f"{word(self._chance)}.py"
        if self._chance.random() < 0.3:
            name = self._chance.choice(_ODD_NAMES)
        folders = sorted({str(Path(path).parent) for path in self.listed()}) or ["."]
        folder = self.root / self._chance.choice(folders)
        if folder.is_dir() and not (folder / name).is_dir():
            (folder / name).write_text(f"def made():\n    # {self._new_word()}\n    return 1\n")

    def rename(self) -> None:
        """Move a file, through git or behind its back."""
        files = self._editable()
        if not files:
            return
        path = self._chance.choice(files)
        new = str(Path(path).with_name(f"{word(self._chance)}{Path(path).suffix}"))
        if self._chance.random() < 0.5:
            git(self.root, "mv", path, new, check=False)
        if (self.root / path).exists():
            (self.root / path).rename(self.root / new)

    def delete(self) -> None:
        """Remove a file; one with a word of ours in it, if there is one."""
        held = [path for paths in self.where(self.words[-40:]).values() for path in sorted(paths)]
        files = held or self._editable()
        if files:
            (self.root / self._chance.choice(files)).unlink(missing_ok=True)

    def move_directory(self) -> None:
        """Rename a whole directory."""
        folders = sorted({Path(path).parts[0] for path in self.listed() if "/" in path})
        if folders:
            folder = self.root / self._chance.choice(folders)
            if folder.is_dir() and not folder.is_symlink():
                folder.rename(folder.with_name(word(self._chance)))

    def become_link_or_directory(self) -> None:
        """What was a file is a link to another one, or a directory with a file in it."""
        files = self._editable()
        if len(files) < 2:
            return
        path, other = (self.root / each for each in self._chance.sample(files, 2))
        path.unlink()
        if self._chance.random() < 0.5:
            path.symlink_to(other)
        else:
            path.mkdir()
            (path / "inside.py").write_text(f"# {self._new_word()}\n")

    def touch(self) -> None:
        """Another time or another mode, the same content."""
        files = self._editable()
        for path in self._chance.sample(files, min(5, len(files))):
            when = self._chance.choice([0, 1_500_000_000, 4_102_444_800])
            os.utime(self.root / path, (when, when))
            (self.root / path).chmod(self._chance.choice([0o644, 0o755]))

    def ignore(self) -> None:
        """Have git ignore a pattern more, or nothing."""
        pattern = self._chance.choice(["", "*.md\n", "docs/\n", "soak*\n"])
        if not (self.root / ".gitignore").is_symlink():
            (self.root / ".gitignore").write_text(pattern)

    def untrack(self) -> None:
        """Take a file out of git's hands; it stays on the disk."""
        files = self._editable()
        if files:
            git(
                self.root,
                "rm",
                "-q",
                "--cached",
                "--ignore-unmatch",
                "--",
                self._chance.choice(files),
                check=False,
            )

    # -- git's part

    def commit(self) -> None:
        git(self.root, "add", "-A", check=False)
        git(self.root, "commit", "-q", "--allow-empty", "-m", "soak", check=False)

    def switch(self) -> None:
        git(self.root, "checkout", "-qf", "--detach", self._chance.choice(self._commits), check=False)

    def branch(self) -> None:
        name = self._chance.choice(["soak-a", "soak-b"])
        self.commit()
        known = git(self.root, "branch", "--list", name)
        git(self.root, "checkout", "-qf", *([] if known else ["-b"]), name, check=False)

    def stash(self) -> None:
        git(self.root, "stash", "push", "-qu", check=False)

    def pop(self) -> None:
        git(self.root, "stash", "pop", "-q", check=False)

    def restore(self) -> None:
        git(self.root, "checkout", "-q", "--", ".", check=False)

    def revert(self) -> None:
        self.commit()
        git(self.root, "revert", "--no-edit", "HEAD", check=False)
        if self._chance.random() < 0.5:
            git(self.root, "revert", "--abort", check=False)

    def reset(self) -> None:
        git(self.root, "reset", "-q", "--hard")

    def clean(self) -> None:
        git(self.root, "clean", "-fdq", check=False)
        for path in self.root.glob("soak*"):
            if path.is_dir() and not any(path.rglob("*")):
                shutil.rmtree(path)
