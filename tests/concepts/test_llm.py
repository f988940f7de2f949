"""A language model behind a guard: typed answers, cache, cost cap, and servers that fail in every way."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from isthmus.concepts.failures import CostCap, LanguageModelError, ReplyError
from isthmus.concepts.llm import RULES, LanguageModel, model_of
from isthmus.concepts.replies import sha
from isthmus.concepts.wire import Spending, address, retry_after
from isthmus.errors import OptionError
from tests.chat import Chat, Hang, Raw, Step, completion, phrases

GOOD = phrases("long tail", "whiskers")


class Found(BaseModel):
    phrases: list[str]


def model(chat: Chat, cache: Path | None = None, **more: Any) -> LanguageModel:
    quick: dict[str, Any] = {"timeout": 2.0, "retries": 0, "again": 0, "longest_wait": 0.01}
    return LanguageModel(chat.url, "m", cache=cache, **quick | more)


def fails(step: Step, kind: type[Exception], match: str, requests: int = 1, **more: Any) -> str:
    """The one-line error that a server's answer becomes, after so many requests."""
    with Chat(*[step] * 9) as chat, pytest.raises(kind, match=match) as error:
        model(chat, **more).ask("hi", Found)
    assert len(chat) == requests
    said = str(error.value)
    assert said.isprintable() and len(said) < 400
    return said


def test_a_typed_answer_and_where_it_came_from(tmp_path: Path) -> None:
    with Chat(GOOD) as chat:
        ask = model(chat, tmp_path, temperature=0.2, max_tokens=77)
        reply = ask.ask("what of " + '"a"', Found)
    assert reply.output == Found(phrases=["long tail", "whiskers"])
    assert not reply.cached
    sent = chat.bodies[0]
    assert sent["model"] == "m" and sent["temperature"] == 0.2 and sent["max_tokens"] == 77
    assert not {"tools", "response_format", "tool_choice"} & set(sent)
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert chat.prompts[0].startswith(RULES) and 'what of "a"' in chat.prompts[0] and '"phrases"' in chat.prompts[0]
    source = reply.source
    assert (source.kind, source.name) == ("model", "m")
    assert source.prompt == sha(chat.prompts[0]) and source.reply == sha(GOOD)
    assert source.at.startswith("20") and source.at.endswith("+00:00")
    assert (ask.spending.calls, ask.spending.tokens, ask.spending.cached) == (1, 10, 0)


@pytest.mark.parametrize("text", ["```json\n" + GOOD + "\n```", "<think>\nhm {\n</think>\n" + GOOD])
def test_fences_and_thoughts_around_the_answer_are_no_harm(text: str) -> None:
    with Chat(text) as chat:
        assert model(chat).ask("hi", Found).output.phrases == ["long tail", "whiskers"]
    assert LanguageModel(call=lambda prompt: text).ask("hi", Found).output.phrases == ["long tail", "whiskers"]


def test_the_cache_answers_a_second_run_without_a_request(tmp_path: Path) -> None:
    with Chat(GOOD) as chat:
        first = model(chat, tmp_path).ask("hi", Found)
    ask = LanguageModel(chat.url, "m", cache=tmp_path, retries=0)  # nobody listens there any more
    second = ask.ask("hi", Found)
    assert second.cached and (second.output, second.source) == (first.output, first.source)
    assert (ask.spending.calls, ask.spending.tokens, ask.spending.cached) == (0, 0, 1)
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("change", [{"prompt": "ho"}, {"name": "other"}, {"max_tokens": 5}, {"heat": 0.1}, {"sample": 1}])
def test_another_question_is_another_entry(tmp_path: Path, change: dict[str, Any]) -> None:
    asked: list[str] = []

    def call(prompt: str) -> str:
        asked.append(prompt)
        return GOOD

    def ask(prompt: str = "hi", name: str = "m", max_tokens: int = 9, heat: float = 0.5, sample: int = 0) -> None:
        made = LanguageModel(call=call, name=name, max_tokens=max_tokens, cache=tmp_path)
        made.ask(prompt, Found, temperature=heat, sample=sample)

    ask()
    ask()
    assert len(asked) == 1
    ask(**change)
    assert len(asked) == 2


def _cut(text: str) -> str:
    return text[: len(text) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda text: "",
        lambda text: text.replace("whiskers", "whisker!"),
        lambda text: text.replace("isthmus.reply/1", "isthmus.reply/0"),
        lambda text: "[" * 100_000,
        lambda text: "[]",
    ],
)
def test_a_damaged_entry_is_asked_again_and_written_anew(tmp_path: Path, damage: Any) -> None:
    with Chat(GOOD, GOOD) as chat:
        model(chat, tmp_path).ask("hi", Found)
        (file,) = tmp_path.iterdir()
        whole = json.loads(file.read_text())["output"]
        file.write_text(damage(file.read_text()))
        assert not model(chat, tmp_path).ask("hi", Found).cached
        assert json.loads(file.read_text())["output"] == whole
        assert model(chat, tmp_path).ask("hi", Found).cached
    assert len(chat) == 2


def test_a_failure_is_never_kept(tmp_path: Path) -> None:
    with Chat(Raw(500), "no JSON", GOOD) as chat:
        with pytest.raises(LanguageModelError, match="HTTP 500"):
            model(chat, tmp_path).ask("hi", Found)
        with pytest.raises(ReplyError):
            model(chat, tmp_path).ask("hi", Found)
        assert list(tmp_path.iterdir()) == []
        assert not model(chat, tmp_path).ask("hi", Found).cached


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ask = LanguageModel(call=lambda prompt: GOOD, name="m", cache=tmp_path / "file")
    with pytest.warns(UserWarning, match="cannot be kept"):
        ask.ask("hi", Found)
    ask.ask("ho", Found)  # a second warning would fail the test


def test_a_function_without_a_name_is_not_cached() -> None:
    asked: list[str] = []
    ask = model_of(lambda prompt: asked.append(prompt) or GOOD)
    ask.ask("hi", Found)
    ask.ask("hi", Found)
    assert len(asked) == 2 and ask.replies.folder is None
    assert model_of(ask) is ask
    with pytest.raises(OptionError, match="function from text to text"):
        model_of("http://x")  # type: ignore[arg-type]


# cost


def test_the_cap_on_calls_stops_before_the_call(tmp_path: Path) -> None:
    with Chat(GOOD, GOOD, GOOD) as chat:
        ask = model(chat, tmp_path, most_calls=2)
        ask.ask("1", Found)
        ask.ask("2", Found)
        with pytest.raises(CostCap, match=r"most_calls 2: 2 calls and 20 tokens"):
            ask.ask("3", Found)
        assert ask.ask("2", Found).cached  # what is known costs nothing
    assert len(chat) == 2 and ask.spending.calls == 2


def test_the_cap_on_tokens_stops_before_the_call() -> None:
    with Chat(GOOD, GOOD) as chat:
        ask = model(chat, max_tokens=500, most_tokens=1000)
        ask.ask("1", Found)
        assert ask.spending.tokens == 10  # as the server counts
        with pytest.raises(CostCap, match="the next call may take"):
            ask.ask("x" * 3000, Found)
    assert len(chat) == 1


def test_each_retry_counts_against_the_cap() -> None:
    fails(Raw(429), CostCap, "most_calls 2", requests=2, retries=5, most_calls=2)


def test_a_server_that_counts_nonsense_is_counted_by_bytes() -> None:
    with Chat(*(Raw(body=completion(GOOD, usage={"total_tokens": n})) for n in (0, -5, "9", True, None, 10**12))) as chat:
        ask = model(chat)
        for i in range(6):
            before = ask.spending.tokens
            with contextlib.suppress(ReplyError):  # pydantic-ai may refuse the count; it is paid all the same
                ask.ask(str(i), Found)
            assert 100 < ask.spending.tokens - before < 2000, i
    assert len(chat) == 6


def test_a_function_is_counted_too() -> None:
    ask = LanguageModel(call=lambda prompt: GOOD, most_calls=1)
    ask.ask("hi", Found)
    assert ask.spending.calls == 1 and 0 < ask.spending.tokens < 300
    with pytest.raises(CostCap):
        ask.ask("hi", Found)


def test_spending_takes_the_worst_case_and_gives_back() -> None:
    spent = Spending(most_calls=5, most_tokens=100)
    taken = spent.before(30, 60)
    assert taken == 70 and spent.tokens == 70
    with pytest.raises(CostCap):
        spent.before(3, 30)
    spent.after(taken, 12)
    assert spent.tokens == 12 and spent.before(3, 30) == 31


# servers that fail


def test_a_busy_server_is_asked_again_after_the_time_it_names() -> None:
    with Chat(Raw(429, headers={"retry-after": "0.2"}), Raw(503), GOOD) as chat:
        start = time.perf_counter()
        reply = model(chat, retries=2, longest_wait=0.3).ask("hi", Found)
        took = time.perf_counter() - start
    assert reply.output.phrases and len(chat) == 3
    assert took > 0.2


def test_a_long_retry_after_is_capped() -> None:
    start = time.perf_counter()
    fails(Raw(429, headers={"retry-after": "3600"}), LanguageModelError, "HTTP 429, tried 3 times", requests=3, retries=2)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("status", [500, 502, 529])
def test_a_broken_server_is_given_up(status: int) -> None:
    fails(Raw(status), LanguageModelError, f"HTTP {status}, tried 2 times", requests=2, retries=1)


@pytest.mark.parametrize("step", [Hang(), Hang(drip=True)])
def test_a_server_that_hangs_or_drips_is_given_up_in_time(step: Step) -> None:
    model_import = LanguageModel(call=lambda prompt: GOOD)
    model_import.ask("hi", Found)
    start = time.perf_counter()
    fails(step, LanguageModelError, r"no answer within 0\.2 s, tried 2 times|ProtocolError", 2, retries=1, timeout=0.2)
    assert time.perf_counter() - start < 3


def test_nobody_listens() -> None:
    ask = LanguageModel("http://127.0.0.1:1/v1", "m", retries=0, cache=None)
    with pytest.raises(LanguageModelError, match=r"http://127\.0\.0\.1:1: ConnectError.*see whether the server runs"):
        ask.ask("hi", Found)


def test_a_reply_of_10_mb_is_not_read() -> None:
    body = b"x" * 65536
    for step in (Raw(stream=10_000_000, body=body), Raw(body=body * 160), Raw(stream=10_000_000, body=completion(GOOD) + b" ")):
        with Chat(step) as chat, pytest.raises(ReplyError, match="longer than 100,000 bytes and was not read"):
            model(chat, most_bytes=100_000).ask("hi", Found)
        if step.stream:
            assert chat.sent < 9_000_000  # what lay in the buffers of the system, no more


def test_a_compressed_reply_is_not_unpacked() -> None:
    import gzip

    bomb = Raw(body=gzip.compress(completion(GOOD) + b" " * 10_000_000), headers={"content-encoding": "gzip"})
    fails(bomb, ReplyError, "compressed")


@pytest.mark.parametrize(
    "step",
    [
        "no JSON at all",
        "{",
        '{"phrases": [1, null]}',
        '{"phrases": "long tail"}',
        '{"other": []}',
        "[]",
        "null",
        "[" * 5000,
        "",
        Raw(body=b""),
        Raw(body=b"<html>"),
        Raw(body=b"{}"),
        Raw(body=b"\xff\xfe\x00"),
        Raw(body=b'{"choices": []}'),
        Raw(body=b"[" * 100_000),
        Raw(body=completion("x").replace(b'"x"', b"null")),
    ],
)
def test_a_reply_that_is_not_what_was_asked_is_one_line(step: Step) -> None:
    said = fails(step, ReplyError, "m: expected the JSON that was asked for", requests=1)
    assert said.count("try again") == 1
    with pytest.raises(ReplyError):
        LanguageModel(call=lambda prompt: step if isinstance(step, str) else "", again=0).ask("hi", Found)


def test_an_unusable_reply_is_asked_anew_without_its_text() -> None:
    with Chat("SECRET ORDERS", GOOD) as chat:
        assert model(chat, again=1).ask("hi", Found).output.phrases
    assert len(chat) == 2 and chat.prompts[0] == chat.prompts[1]
    assert all("SECRET" not in json.dumps(body) for body in chat.bodies)


def test_a_call_of_a_tool_has_no_effect() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "approve", "arguments": "{}"}}
    choice = {
        "index": 0,
        "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
    }
    fails(Raw(body=completion("", choices=[choice])), ReplyError, "expected the JSON", requests=1)


def test_errors_hold_little_of_a_reply_and_only_escaped() -> None:
    said = fails("\x1b[31m\u202e" + "evil " * 1000, ReplyError, "began with")
    assert said.count("evil") < 20 and "\\x1b" in said and "\u202e" not in said
    said = fails(Raw(400, b"bad \x1b[2J " + b"evil " * 1000), LanguageModelError, "HTTP 400")
    assert said.count("evil") < 20


# the key


def test_the_key_goes_to_its_server_and_into_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1")
    with Chat(GOOD, Raw(400, b"no such model for sk-secret-1"), Raw(401, b"key sk-secret-1 is bad")) as chat:
        ask = model(chat, tmp_path, key_env="MY_KEY")
        reply = ask.ask("1", Found)
        with pytest.raises(LanguageModelError, match=r"HTTP 400 \(no such model for \*\*\*\)") as first:
            ask.ask("2", Found)
        with pytest.raises(LanguageModelError, match="HTTP 401; set the environment variable MY_KEY") as second:
            ask.ask("3", Found)
    assert [head["authorization"] for head in chat.headers] == ["Bearer sk-secret-1"] * 3
    (file,) = tmp_path.iterdir()
    for text in (str(first.value), str(second.value), file.read_text(), repr(reply)):
        assert "sk-secret" not in text


def test_no_other_key_and_no_other_header_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-of-another")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with Chat(GOOD) as chat:
        model(chat).ask("hi", Found)
    assert "authorization" not in chat.headers[0]
    assert "sk-of-another" not in json.dumps(chat.headers)
    known = {"host", "accept", "accept-encoding", "content-type", "content-length", "user-agent", "connection"}
    assert set(chat.headers[0]) <= known


def test_a_redirect_is_refused_and_takes_no_key_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1")
    with Chat(GOOD) as other:
        fails(Raw(307, headers={"location": other.url}), LanguageModelError, "HTTP 307; give the server's final address")
    assert len(other) == 0


@pytest.mark.parametrize(
    ("named", "match"),
    [
        ("sk-secret-1", "NAME of an environment variable"),
        ("NOT_SET_ANYWHERE", "export NOT_SET_ANYWHERE"),
        ("EMPTY_KEY", "export"),
    ],
)
def test_a_key_is_named_never_given(monkeypatch: pytest.MonkeyPatch, named: str, match: str) -> None:
    monkeypatch.setenv("EMPTY_KEY", " ")
    with pytest.raises(OptionError, match=match) as error:
        LanguageModel("http://localhost/v1", "m", key_env=named)
    assert "sk-secret" not in str(error.value)


# options


@pytest.mark.parametrize(
    "url", ["", "localhost:80", "ftp://x", "file:///etc/passwd", "http://", "http://x:99999/", "http://x\n/"]
)
def test_an_address_is_http(url: str) -> None:
    with pytest.raises(OptionError, match="expected an address such as"):
        address(url)


def test_an_address_holds_no_secrets() -> None:
    for url in ("http://user:pw-1@host/v1", "https://host/v1?key=pw-1", "https://host/v1#pw-1"):
        with pytest.raises(OptionError, match="name the key") as error:
            address(url)
        assert "pw-1" not in str(error.value)
    assert address("https://host:8443/v1/") == "https://host:8443/v1"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "one of the two"),
        ({"base_url": "http://x/v1", "call": str}, "one of the two"),
        ({"base_url": "http://x/v1"}, "model's name"),
        ({"call": str, "timeout": 0}, "timeout"),
        ({"call": str, "retries": -1}, "retries"),
        ({"call": str, "most_bytes": 0}, "most_bytes"),
        ({"call": str, "temperature": float("nan")}, "temperature"),
    ],
)
def test_options_are_checked(options: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        LanguageModel(**options)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("Wed, 21 Oct 2015 07:28:10 GMT", now=1445412480.0) == 10.0
    assert [retry_after(text) for text in ("", "soon", "-1", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT")] == [0.0] * 6


def test_it_works_where_an_event_loop_runs_already() -> None:
    import asyncio

    async def notebook(ask: LanguageModel) -> list[str]:
        return ask.ask("hi", Found).output.phrases

    with Chat(GOOD) as chat:
        assert asyncio.run(notebook(model(chat))) == ["long tail", "whiskers"]


def test_a_function_of_the_user_may_fail_in_its_own_way() -> None:
    def call(prompt: str) -> str:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        LanguageModel(call=call).ask("hi", Found)
    with pytest.raises(ReplyError, match="got int"):
        LanguageModel(call=lambda prompt: 3, again=0).ask("hi", Found)  # type: ignore[arg-type, return-value]
    with pytest.raises(ReplyError, match="2,000 characters"):
        LanguageModel(call=lambda prompt: "x" * 2000, again=0, most_bytes=1000).ask("hi", Found)


def test_another_server_with_a_model_of_that_name_is_asked_itself(tmp_path: Path) -> None:
    for _ in range(2):
        with Chat(GOOD) as chat:
            model(chat, tmp_path).ask("hi", Found)
            assert len(chat) == 1
