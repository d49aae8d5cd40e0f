"""Settings: where each value comes from, what a repository may decide, and how mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.config import KEYS, Settings, color_choice, load_settings, silence_tracing
from indexers.config import IndexConfig
from indexers.errors import UsageError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An own home, and no settings of the machine that runs the tests."""
    place = tmp_path / "home"
    place.mkdir()
    for name in [name for name in os.environ if name.startswith("AGENT_")] + ["NO_COLOR", "FORCE_COLOR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENT_HOME", str(place))
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    return place


def test_defaults_are_the_indexs_own() -> None:
    assert load_settings() == Settings()
    assert Settings().index_config() == IndexConfig()


def test_each_layer_wins_over_the_one_before(home: Path) -> None:
    (home / "config.toml").write_text('model = "a"\ncontext_tokens = 1000\nthreads = 2\n')
    environ = {"AGENT_CONTEXT_TOKENS": "2000", "AGENT_THREADS": "3"}
    found = load_settings(None, {"threads": 4, "model": None}, environ)
    assert (found.model, found.context_tokens, found.threads) == ("a", 2000, 4)


def test_every_key_can_be_set_everywhere(home: Path) -> None:
    values = {
        "model": "m", "context_tokens": 900, "max_tokens": 5,  "threads": 2, "gpu_layers": -1,
        "temperature": 0.5, "seed": 7, "embedder": "hash", "models_dirs": ["/a", "/b"], "download": False,
        "exclude": ["x/*", "y"], "max_file_bytes": 10, "include_untracked": False, "color": "never",
        "background": False, "context": 4096, "kv": "q8_0", "tensor_split": "3,1", "lora": "a.gguf",
        "review_block_at": "medium", "review_deadline": 5.0, "review_fail_mode": "closed", "review_model": "r",
        "linter": "ruff check", "formatter": "ruff format", "kv_bytes": 0, "reading": "exact", "preview": "never",
        "follow_up_seconds": 90.0,
        "engine": "openai", "base_url": "http://127.0.0.1:8080/v1", "server_timeout": 9,
    }  # fmt: skip
    assert set(values) == set(KEYS)
    toml = "".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        for key, value in values.items()
    )
    (home / "config.toml").write_text(toml)
    from_file = load_settings()
    (home / "config.toml").unlink()
    environ = {
        f"AGENT_{key.upper()}": os.pathsep.join(value) if isinstance(value, list) else str(value)
        for key, value in values.items()
    }
    assert from_file == load_settings(None, None, environ) == load_settings(None, values)
    assert from_file != Settings()
    for key, value in {**values, "tensor_split": [3.0, 1.0]}.items():
        assert getattr(from_file, key) == (tuple(value) if isinstance(value, list) else value)
    assert from_file.index_config() == IndexConfig(
        max_file_bytes=10, exclude=("x/*", "y"), embedder="hash", include_untracked=False
    )


def test_an_empty_variable_is_unset_and_strangers_are_not_ours() -> None:
    assert load_settings(None, None, {"AGENT_MODEL": "", "AGENT_SOMETHING": "x"}) == Settings()


@pytest.mark.parametrize(
    ("line", "said", "remedy"),
    [
        ("modle = 1", "Unknown setting 'modle'", "Did you mean 'model'?"),
        ("context-tokens = 1000", "Unknown setting 'context-tokens'", "Did you mean 'context_tokens'?"),
        ("xyzzy = 1", "Unknown setting 'xyzzy'", "Known keys: model, "),
        ('threads = "4"', "'threads' in", ""),
        ("threads = true", "must be a whole number of at least 1", ""),
        ("threads = 0", "must be a whole number of at least 1", ""),
        ("gpu_layers = -2", "must be a whole number of at least -1", ""),
        ("temperature = nan", "must be a number from 0 to 2", ""),
        ("model = ''", "must be a non-empty text", ""),
        ("exclude = 'a'", "must be a list of texts", ""),
        ("models_dirs = ['relative']", "must be a list of absolute paths", ""),
        ("color = 'blue'", "must be one of auto, always, never", ""),
        ("download = 1", "must be true or false", ""),
        ("[model]", "must be a non-empty text", ""),
        ("model = ", "is not valid TOML", "Mend or remove it"),
    ],
)
def test_mistakes_name_file_key_and_cure(home: Path, line: str, said: str, remedy: str) -> None:
    file = home / "config.toml"
    file.write_text(line)
    with pytest.raises(UsageError) as error:
        load_settings()
    assert said in error.value.message
    assert str(file) in error.value.message
    assert error.value.remedy.startswith(remedy)


def test_mistakes_in_variables_and_flags_name_them() -> None:
    with pytest.raises(UsageError, match="'threads' in the environment variable AGENT_THREADS is 'many'"):
        load_settings(None, None, {"AGENT_THREADS": "many"})
    with pytest.raises(UsageError, match="'context_tokens' in the command line is 3"):
        load_settings(None, {"context_tokens": 3})


def test_a_file_that_is_not_text_or_too_long_is_refused(home: Path) -> None:
    (home / "config.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_settings()
    (home / "config.toml").write_bytes(b"#" * 70_000)
    with pytest.raises(UsageError, match="larger than"):
        load_settings()
    (home / "config.toml").unlink()
    os.mkfifo(home / "config.toml")
    with pytest.raises(UsageError, match="not a regular file"):
        load_settings()


def test_a_byte_order_mark_is_no_mistake(home: Path) -> None:
    (home / "config.toml").write_bytes(b"\xef\xbb\xbfmodel = 'a'")
    assert load_settings().model == "a"


def test_a_users_file_may_be_a_link(home: Path) -> None:
    (home / "dotfiles.toml").write_text("threads = 2")
    (home / "config.toml").symlink_to(home / "dotfiles.toml")
    assert load_settings().threads == 2


def test_a_repository_may_only_tighten(home: Path, root: Path) -> None:
    (home / "config.toml").write_text("exclude = ['mine']\nmax_file_bytes = 5000\n")
    (root / ".agent.toml").write_text(
        "exclude = ['theirs']\nmax_file_bytes = 100\nmodel = '/evil.gguf'\nfail_mode = 'open'\n"
        "download = true\n"
    )
    found = load_settings(root)
    assert found.exclude == ("mine", "theirs")
    assert found.max_file_bytes == 100
    assert found.model is None
    for warning, key in zip(found.warnings, ("model", "fail_mode", "download"), strict=True):
        assert f"{key!r} was ignored" in warning


def test_a_repository_cannot_loosen(home: Path, root: Path) -> None:
    (home / "config.toml").write_text("exclude = ['mine']\nmax_file_bytes = 50\n")
    (root / ".agent.toml").write_text("exclude = []\nmax_file_bytes = 999999999\n")
    found = load_settings(root)
    assert (found.exclude, found.max_file_bytes, found.warnings) == (("mine",), 50, ())
    (home / "config.toml").unlink()
    assert load_settings(root).max_file_bytes == IndexConfig().max_file_bytes


def test_what_the_user_says_now_wins_over_the_repository_but_its_exclusions_stay(root: Path) -> None:
    (root / ".agent.toml").write_text("exclude = ['theirs']\nmax_file_bytes = 100\n")
    found = load_settings(root, {"exclude": ("now",)}, {"AGENT_MAX_FILE_BYTES": "700"})
    assert (found.exclude, found.max_file_bytes) == (("now", "theirs"), 700)


def test_a_repositorys_file_is_not_followed_elsewhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("max_file_bytes = 1")
    (root / ".agent.toml").symlink_to(tmp_path / "elsewhere")
    found = load_settings(root)
    assert found.max_file_bytes == IndexConfig().max_file_bytes
    assert "symbolic link" in found.warnings[0]


def test_a_repositorys_file_cannot_block_or_flood(root: Path) -> None:
    os.mkfifo(root / ".agent.toml")
    with pytest.raises(UsageError, match="not a regular file"):
        load_settings(root)
    (root / ".agent.toml").unlink()
    (root / ".agent.toml").write_bytes(b"#" * 70_000)
    with pytest.raises(UsageError, match="larger than"):
        load_settings(root)
    (root / ".agent.toml").write_text("exclude = 3")
    with pytest.raises(UsageError, match="'exclude'"):
        load_settings(root)


def test_colour_follows_the_usual_variables(home: Path) -> None:
    (home / "config.toml").write_text("color = 'always'")
    assert load_settings(None, None, {"NO_COLOR": "1"}).color == "never"
    assert load_settings(None, None, {"FORCE_COLOR": "1", "NO_COLOR": ""}).color == "always"
    assert load_settings(None, {"color": "auto"}, {"NO_COLOR": "1"}).color == "auto"
    assert color_choice(None, {"NO_COLOR": "1"}) == "never"
    assert color_choice(None, {"FORCE_COLOR": "0"}) == "auto"
    assert color_choice("always", {"NO_COLOR": "1"}) == "always"
    assert color_choice(None, {"AGENT_COLOR": "always", "NO_COLOR": "1"}) == "always"
    with pytest.raises(UsageError, match="'color' in the command line is 'blue'"):
        color_choice("blue", {})


def test_tracing_is_turned_off() -> None:
    environ = {
        "LANGCHAIN_TRACING_V2": "true",
        "LANGSMITH_TRACING": "0",
        "LANGSMITH_API_KEY": "secret",
        "LANGCHAIN_ENDPOINT": "http://x",
        "PATH": "/bin",
    }
    assert silence_tracing(environ) == ["LANGCHAIN_TRACING_V2"]
    assert environ["LANGCHAIN_TRACING_V2"] == environ["LANGSMITH_TRACING"] == "false"
    assert environ["ANONYMIZED_TELEMETRY"] == "False"
    assert not {"LANGSMITH_API_KEY", "LANGCHAIN_ENDPOINT"} & set(environ)
    assert environ["PATH"] == "/bin"
    assert silence_tracing(environ) == []


def test_langchain_sees_no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "secret")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    silence_tracing()
    from langsmith.utils import tracing_is_enabled

    assert tracing_is_enabled() is False
