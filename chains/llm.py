"""`LlamaCpp`: a GGUF model in this process as a LangChain chat model."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from chains.engine import tools as calling
from chains.engine.bound import BoundChat
from chains.engine.conversation import conversation, source_texts
from chains.engine.families import FAMILIES, Family, Prompt, detect, frame, stop_ids
from chains.engine.library import grammar_of, native
from chains.engine.likelihood import next_probabilities
from chains.engine.runtime import Interrupted, Runtime
from chains.engine.sampler import Sampling
from chains.engine.streams import closed_after
from chains.engine.vocabulary import Vocabulary
from chains.generation import Generation, Request, unread
from chains.kv.layout import Repair, beginning, source_spans
from chains.kv.policy import AUTO, EXACT, NOT_SHIFTED, READINGS, Decision, decided
from chains.kv.reader import Reader, Reading, open_reader
from chains.kv.store import DEFAULT_BYTES
from chains.models.fit import Wishes
from chains.models.gguf import GgufInfo, read_gguf
from chains.models.loading import Choice, choose
from indexers.errors import BusyError, ContextTooSmall, ModelError, UsageError

if TYPE_CHECKING:
    from chains.engine.runtime import LoadOptions

DEFAULT_MAX_TOKENS = 1_024
_LOCK_POLL_SECONDS = 0.1
# Architectures that llama.cpp loads but that do not write text.
_NOT_WRITERS = frozenset(
    "bert nomic-bert nomic-bert-moe jina-bert-v2 modern-bert neo-bert t5encoder t5 clip".split()
)
_CALL_OPTIONS = frozenset(
    """temperature top_k top_p min_p repeat_penalty seed grammar json_schema max_tokens cancel tools
    tool_choice draft reading""".split()
)


@dataclass(slots=True)
class _State:
    """What copies of a `LlamaCpp` share: the loaded model and who is using it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    load_lock: threading.Lock = field(default_factory=threading.Lock)
    owner: int = 0
    info: GgufInfo | None = None
    runtime: Runtime | None = None
    reader: Reader | None = None
    family: Family | None = None
    choice: Choice | None = None
    generation: Generation | None = None


class LlamaCpp(BoundChat):
    """A GGUF model run by llama.cpp. One generation at a time; the first call or `load()` loads the weights.

    A call takes `max_tokens`, `temperature`, `top_k`, `top_p`, `min_p`, `repeat_penalty`, `seed`, `grammar`
    (GBNF), `json_schema` (a dict), `draft` and `cancel` (a `threading.Event`) as keyword arguments, beside `stop`.
    Any model calls tools (`bind_tools`): a grammar holds it to calls that are well formed.
    """

    model_path: str
    n_ctx: int = 0
    """Context window in tokens; 0 chooses: the model's own, at most 8,192, and what memory allows."""
    kv_type: str = ""
    """How keys and values are kept (f16, q8_0, ...); empty chooses: f16, or q8_0 where that saves the context."""
    n_batch: int = 512
    n_threads: int | None = None
    """Threads; None (or 0) takes every core this process may run on."""
    n_gpu_layers: int | None = None
    """Layers on the GPU, as llama.cpp counts them (the output is one more); None puts there what fits."""
    tensor_split: tuple[float, ...] = ()
    """Shares of several GPUs; empty lets llama.cpp go by their free memory."""
    lora_path: str = ""
    """A LoRA adapter (GGUF) over the model."""
    flash_attn: bool = True
    memory_bytes: int | None = None
    """Memory that may be taken; None asks the system how much is available."""
    family: str = ""
    """How conversations are framed; empty finds out from the file."""
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None
    """None draws a new seed for each call."""
    stop: list[str] | None = None
    draft: str = ""
    """"prompt" tries what stands in the prompt as a draft of the answer: faster where text is rewritten, never
    another answer, and left alone as soon as it is measured not to be faster. Empty for none."""
    kv_dir: str = ""
    """Where what was read is kept between processes (private to the user, see `kv_store`); empty: nowhere."""
    kv_bytes: int = DEFAULT_BYTES
    reading: str = "auto"
    """How sources in a prompt are read: auto (as measured for the model), exact, or fast; see `kv_policy`."""
    repair: Repair | None = None
    """What of joined sources is read again, where `reading` is auto; None: as measured for the model."""
    on_prefill: Callable[[int, int], None] | None = Field(default=None, exclude=True)
    """Called with tokens read and tokens in all while the prompt is read."""

    _state: _State = PrivateAttr(default_factory=_State)

    # -- the model ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the weights, once; safe to call from several threads.

        :raises ModelError: the file is not a model we can run, or memory does not reach.
        """
        state = self._state
        with state.load_lock:
            if state.runtime is not None:
                return
            info = read_gguf(self.model_path)
            _check_writes(info)
            family = self._family(info)
            native()
            choice = self._choose(info)
            runtime = Runtime(info, choice.options)
            runtime.notes[:0] = choice.notes
            state.reader = open_reader(runtime, info, choice.options, self.kv_dir, self.kv_bytes)
            state.info, state.family, state.choice, state.runtime = info, family, choice, runtime

    def close(self) -> None:
        """Free the model's memory. The next call loads it again."""
        state = self._state
        with self._exclusive(()), state.load_lock:
            runtime, state.runtime, state.reader = state.runtime, None, None
            if runtime is not None:
                runtime.close()

    def _loaded(self) -> Runtime:
        while True:
            self.load()
            runtime = self._state.runtime
            if runtime is not None:
                return runtime

    def _family(self, info: GgufInfo) -> Family:
        if not self.family:
            return detect(info)
        if self.family not in FAMILIES:
            raise UsageError(
                f"There is no model family {self.family!r}.", f"Choose one of {', '.join(FAMILIES)}."
            )
        return FAMILIES[self.family]

    def _choose(self, info: GgufInfo) -> Choice:
        """Every number of a load, chosen for this model and machine within what was asked for."""
        wishes = Wishes(self.n_ctx, self.n_batch, self.n_gpu_layers, self.kv_type, self.flash_attn)
        return choose(
            info,
            wishes,
            memory=self.memory_bytes,
            threads=self.n_threads,
            tensor_split=tuple(self.tensor_split),
            lora=self.lora_path,
        )

    def planned(self) -> LoadOptions:
        """How the model would be loaded now, every number chosen."""
        return self._choose(self.info).options

    @property
    def options(self) -> LoadOptions:
        """How the model is loaded, or would be now."""
        choice = self._state.choice
        return choice.options if choice is not None else self.planned()

    @property
    def choice(self) -> str:
        """How the model was loaded, on one line: window, KV type, batch, threads, layers, memory; empty before."""
        choice = self._state.choice
        return choice.text if choice is not None else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided while loading that a person may want to know; empty before."""
        runtime = self._state.runtime
        return tuple(runtime.notes) if runtime is not None else ()

    @property
    def info(self) -> GgufInfo:
        """What the header of the file says."""
        state = self._state
        if state.info is None:
            state.info = read_gguf(self.model_path)
        return state.info

    @property
    def parameter_count(self) -> int:
        """How many weights the file holds."""
        return self.info.parameter_count

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._loaded().n_ctx

    @property
    def family_name(self) -> str:
        """How this model's conversations are framed."""
        return self._family(self.info).name

    @property
    def load_log(self) -> str:
        """What llama.cpp wrote while it loaded the model."""
        return self._loaded().load_log

    # -- tokens ------------------------------------------------------------------------------------

    def count_tokens(self, text: str) -> int:
        """Tokens of a piece of text inside a prompt: no begin token, no control tokens."""
        return len(self._vocabulary().encode(text, joined=True))

    def prompt(self, messages: Sequence[BaseMessage]) -> Prompt:
        """A conversation as the model reads it, with the offsets at which a prefix is worth keeping."""
        vocabulary = self._vocabulary()
        assert self._state.family is not None
        return frame(self._state.family, conversation(messages), vocabulary)

    def prompt_tokens(self, messages: Sequence[BaseMessage]) -> list[int]:
        """Token ids of a conversation, framing included."""
        return list(self.prompt(messages).ids)

    def prompt_text(self, messages: Sequence[BaseMessage]) -> str:
        """The prompt as text, control tokens shown."""
        return self._vocabulary().decode(self.prompt(messages).ids, control=True)

    def get_num_tokens(self, text: str) -> int:
        """LangChain's name for `count_tokens`."""
        return self.count_tokens(text)

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a piece of text, without control tokens."""
        return self._vocabulary().encode(text, joined=True)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Tokens of a conversation, framing included, and what is said about the tools where some are given."""
        from langchain_core.utils.function_calling import convert_to_openai_tool

        offered = calling.offer([convert_to_openai_tool(tool) for tool in tools or ()])
        vocabulary = self._vocabulary()
        assert self._state.family is not None
        return len(frame(self._state.family, conversation(messages, offered.tools), vocabulary).ids)

    def _vocabulary(self) -> Vocabulary:
        return self._loaded().vocabulary

    def next_probabilities(
        self, messages: Sequence[BaseMessage], words: Sequence[str], cancel: threading.Event | None = None
    ) -> Mapping[str, float] | None:
        """The share of each word among all tokens that could begin the answer; None when cancelled.

        See `likelihood.next_probabilities`. What the prompt shares with the one before is not read again.
        :raises ContextTooSmall: the prompt does not fit.
        """
        cancels = (cancel,) if cancel is not None else ()
        with self._exclusive(cancels) as held:
            runtime = self._loaded()
            ids = self.prompt(messages).ids
            if len(ids) >= runtime.n_ctx:
                raise self._too_long(len(ids), runtime.n_ctx)
            try:
                if held:
                    return next_probabilities(runtime, ids, words, lambda: any(e.is_set() for e in cancels))
            except Interrupted:
                pass
            return None

    def read_ahead(
        self, messages: Sequence[BaseMessage], sources: int, stopped: Callable[[], bool] = lambda: False
    ) -> Reading | None:
        """Read the beginning of a prompt and keep it, so that a prompt which begins so need not; None when stopped.

        What is kept already is not read again.

        :param sources: up to the end of how many of its sources; 0 for the head alone.
        :param stopped: asked between batches.
        :raises ContextTooSmall: the beginning does not fit.
        """
        with self._exclusive(()):
            runtime, prompt = self._loaded(), self._beginning(messages, sources)
            reader = self._state.reader
            assert reader is not None
            if len(prompt.ids) >= runtime.n_ctx:
                raise self._too_long(len(prompt.ids), runtime.n_ctx)
            try:
                return reader.read(prompt, None, self.on_prefill, stopped, ahead=True)
            except Interrupted:
                return None

    def kept(self, messages: Sequence[BaseMessage], sources: int) -> tuple[int, int]:
        """How many tokens of the beginning that `read_ahead` would read are on disk, and how many it has."""
        with self._exclusive(()):
            prompt, reader = self._beginning(messages, sources), self._state.reader
            assert reader is not None
            return reader.kept(prompt), len(prompt.ids)

    def reach(self, messages: Sequence[BaseMessage]) -> tuple[int, tuple[tuple[int, int], ...]]:
        """How many of a prompt's first tokens are on disk, and where each of its sources begins and ends in it."""
        with self._exclusive(()):
            runtime, reader = self._loaded(), self._state.reader
            assert reader is not None
            prompt = self._with_sources(self.prompt(messages), messages, runtime)
            return reader.kept(prompt), prompt.sources

    @property
    def keeps(self) -> bool:
        """Whether what this model reads is kept on disk: it is to be, and it can."""
        self._loaded()
        reader = self._state.reader
        return reader is not None and reader.store is not None

    @property
    def cost(self) -> Mapping[str, Any]:
        """What the last prompt cost, which an answer that is not read to its end does not tell."""
        generation = self._state.generation
        return generation.cost if generation is not None else {}

    @property
    def written(self) -> tuple[int, str]:
        """Bytes of states that were written to disk by this process, and why no more can be, if so."""
        reader = self._state.reader
        store = reader.store if reader is not None else None
        return (store.written, store.failure) if store is not None else (0, "no states are kept")

    def _beginning(self, messages: Sequence[BaseMessage], sources: int) -> Prompt:
        runtime = self._loaded()
        return beginning(self._with_sources(self.prompt(messages), messages, runtime), sources)

    def go_on(
        self, ids: Sequence[int], ends: Collection[int], *, max_tokens: int, **options: Any
    ) -> Iterator[ChatGenerationChunk]:
        """Go on with a prompt of token ids up to one of `ends`, as completing code does; no conversation frames it.

        :param options: those of a call that say how tokens are chosen, and `cancel`.
        :raises ContextTooSmall: the prompt does not fit the context window.
        """
        cancels = tuple(event for event in (options.pop("cancel", None),) if event)
        with self._exclusive(cancels) as held:
            if not held:
                yield unread(self._model_name)
                return
            runtime = self._loaded()
            room = runtime.n_ctx - len(ids)
            if room < 1:
                raise self._too_long(len(ids), runtime.n_ctx)
            request = Request(
                prompt=Prompt(tuple(ids), (len(ids),)),
                sampling=self._sampling(options),
                max_tokens=min(max_tokens, room),
                stops=tuple(self.stop or ()),
                stop_ids=frozenset(ends),
                drops_space=False,
                cancels=cancels,
                by_token=True,
            )
            yield from self._run(runtime, request)

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's tokenizer."""
        return self._vocabulary()

    # -- LangChain ---------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "llama-cpp-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = (
            "model_path",
            "n_ctx",
            "max_tokens",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repeat_penalty",
            "seed",
        )
        return {name: getattr(self, name) for name in names}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider="llama.cpp", ls_model_name=self._model_name, ls_model_type="chat")

    @property
    def label(self) -> str:
        """What to call the model: its file's name."""
        return Path(self.model_path).stem

    @property
    def _model_name(self) -> str:
        return self.label

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with closed_after(self._stream(messages, stop, run_manager, **kwargs)) as chunks:
            return generate_from_stream(chunks)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        cancels = tuple(event for event in (kwargs.pop("cancel", None), kwargs.pop("_cancel", None)) if event)
        with self._exclusive(cancels) as held:
            if not held:
                yield unread(self._model_name)
                return
            runtime = self._loaded()
            request = self._request(runtime, messages, stop, cancels, kwargs)
            for chunk in self._run(runtime, request):
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = [chunk async for chunk in self._astream(messages, stop, run_manager, **kwargs)]
        return generate_from_stream(iter(chunks))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # The whole generation runs in one thread: LangChain's own way hops threads and would interleave two.
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[ChatGenerationChunk | BaseException | None] = asyncio.Queue()
        cancel = threading.Event()

        def put(item: ChatGenerationChunk | BaseException | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            try:
                for chunk in self._stream(messages, stop, None, _cancel=cancel, **kwargs):
                    put(chunk)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
                put(error)
            put(None)

        thread = loop.run_in_executor(None, work)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if run_manager is not None:
                    await run_manager.on_llm_new_token(item.text, chunk=item)
                yield item
        finally:
            cancel.set()
            await asyncio.wait([thread])

    # -- one generation ----------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self, cancels: Sequence[threading.Event]) -> Iterator[bool]:
        """Hold the model; false when cancelled while waiting.

        A plain lock, not a re-entrant one: a generator may be closed by another thread than began it.
        """
        state, me = self._state, threading.get_ident()
        if state.lock.locked() and state.owner == me:
            raise BusyError(
                "This thread is in the middle of another answer of the same model.",
                "Read that stream to its end, or close it, before asking again.",
            )
        while not state.lock.acquire(timeout=_LOCK_POLL_SECONDS):
            if any(event.is_set() for event in cancels):
                yield False
                return
        state.owner = me
        try:
            yield True
        finally:
            state.owner = 0
            state.lock.release()

    def _request(
        self,
        runtime: Runtime,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        cancels: tuple[threading.Event, ...],
        options: dict[str, Any],
    ) -> Request:
        unknown = sorted(set(options) - _CALL_OPTIONS)
        if unknown:
            raise UsageError(
                f"LlamaCpp does not know the option {unknown[0]!r}.",
                f"It knows {', '.join(sorted(_CALL_OPTIONS))}.",
            )
        family = self._state.family
        assert family is not None
        offered = None
        if options.get("tools"):
            offered = calling.offer(options["tools"], options.get("tool_choice"))
            options = _bound_to_turn(options, calling.grammar(offered, spaced=family.drops_space))
        listed = conversation(messages, offered.tools if offered else ())
        prompt = self._with_sources(frame(family, listed, runtime.vocabulary), messages, runtime)
        wanted = options.get("max_tokens")
        wanted = self.max_tokens if wanted is None else wanted
        if wanted < 1:
            raise UsageError("max_tokens must be at least 1.")
        room = runtime.n_ctx - len(prompt.ids)
        if room < 1:
            raise self._too_long(len(prompt.ids), runtime.n_ctx)
        stops = tuple(text for text in (*(self.stop or ()), *(stop or ())) if text)
        sampling = self._sampling(options)
        ends = stop_ids(family, runtime.vocabulary)
        turn = calling.TurnReader() if offered else None
        drafts = self._drafts(options, runtime) and turn is None
        reading = self._decision(options.get("reading") or self.reading, runtime)
        spaced, most = family.drops_space, min(wanted, room)
        return Request(prompt, sampling, most, stops, ends, spaced, cancels, turn, drafts, reading)

    def _drafts(self, options: dict[str, Any], runtime: Runtime) -> bool:
        wanted = options.get("draft")
        wanted = self.draft if wanted is None else wanted
        if wanted not in ("", "prompt"):
            raise UsageError(f"There is no draft {wanted!r}.", 'Choose "prompt", or "" for none.')
        return bool(wanted) and runtime.forgets_parts

    @property
    def sticks(self) -> bool:
        """Whether it pays to show sources in the order they were read in: states are kept, and nothing is joined."""
        joins = self.repair is not None or decided(self.reading, self.info).repair is not None
        return bool(self.kv_dir) and self.reading == AUTO and not joins

    @property
    def joins(self) -> bool:
        """Whether sources are read behind the head alone and joined."""
        return self._decision(self.reading, self._loaded()).repair is not None

    def _with_sources(self, prompt: Prompt, messages: Sequence[BaseMessage], runtime: Runtime) -> Prompt:
        vocabulary, texts = runtime.vocabulary, source_texts(messages)
        forms = {tuple(vocabulary.encode(text, joined=True)) for text in texts}
        if vocabulary.adds_space:
            # Before what begins a turn, too: the first source of a later one stands there.
            forms |= {tuple(vocabulary.encode(text)) for text in texts}
        return source_spans(prompt, forms)

    def _decision(self, reading: str, runtime: Runtime) -> Decision:
        """How sources are read, and why."""
        if reading not in READINGS:
            raise UsageError(f"There is no reading {reading!r}.", f"Choose one of {', '.join(READINGS)}.")
        found = decided(reading, self.info)
        if reading == AUTO and self.repair is not None:
            found = Decision(self.repair, "joined", f"asked for, repaired: {self.repair}")
        if found.repair is not None and not runtime.cells.shifts:
            return Decision(None, EXACT, NOT_SHIFTED)
        return found

    def _too_long(self, tokens: int, n_ctx: int) -> ContextTooSmall:
        most = self.info.context_length
        larger = f", or load the model with a larger context (n_ctx, up to {most:,})" if most > n_ctx else ""
        return ContextTooSmall(
            f"The prompt takes {tokens:,} tokens, the model's context window has {n_ctx:,}.",
            f"Shorten the question or what goes with it{larger}.",
        )

    def _sampling(self, options: dict[str, Any]) -> Sampling:
        names = [item.name for item in fields(Sampling) if item.name not in ("seed", "grammar")]
        chosen = {
            name: options[name] if options.get(name) is not None else getattr(self, name) for name in names
        }
        seed = options.get("seed", self.seed)
        grammar = options.get("grammar") or ""
        if options.get("json_schema"):
            if grammar:
                raise UsageError("A call takes either grammar or json_schema, not both.")
            grammar = grammar_of(options["json_schema"])
        return Sampling(
            **chosen, seed=secrets.randbits(31) if seed is None else seed & 0x7FFFFFFF, grammar=grammar
        )

    def _run(self, runtime: Runtime, request: Request) -> Iterator[ChatGenerationChunk]:
        reader = self._state.reader
        assert reader is not None
        generation = Generation(runtime, reader, request, self._model_name, self.on_prefill)
        # What it cost is told also of one that is not read to its end.
        self._state.generation = generation
        yield from generation.run()


def _bound_to_turn(options: dict[str, Any], grammar: str) -> dict[str, Any]:
    if options.get("grammar") or options.get("json_schema"):
        raise UsageError("A call takes either tools, or a grammar, or json_schema.")
    return {**options, "grammar": grammar}


def _check_writes(info: GgufInfo) -> None:
    if info.architecture in _NOT_WRITERS:
        raise ModelError(
            f"{info.path.name} is a {info.architecture} model: it does not write text.",
            "Choose a language model: agent models list",
        )
    if info.tensor_count == 0:
        raise ModelError(
            f"{info.path.name} holds a vocabulary but no weights.", "Choose a model: agent models list"
        )
