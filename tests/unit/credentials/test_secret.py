"""Every way out of a `Secret` that is not `reveal`."""

import copy
import dataclasses
import io
import json
import logging
import marshal
import os
import pickle
import pprint
import secrets
import string
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

import orjson
import pydantic
import pytest
import rich.console
import rich.pretty
import structlog
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from gateway.domain.secret import Secret

TEXT = secrets.token_urlsafe(24)
SECRET = Secret(TEXT)


@dataclasses.dataclass
class Holder:
    name: str
    key: Secret


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    key: Secret


def _hidden(shown: object) -> bool:
    """Whether neither the text nor its length can be read from what is shown."""
    seen = shown.decode() if isinstance(shown, bytes) else str(shown)
    longer = Secret(TEXT * 2)
    return TEXT not in seen and repr(SECRET) == repr(longer) and str(len(TEXT)) not in repr(SECRET)


def test_reveal_returns_the_text() -> None:
    assert SECRET.reveal() == TEXT


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        lambda it: f"{it} {it!r} {it!s} {it!a} {it:>40} {it:.3}",
        lambda it: "%s %r" % (it, it),  # noqa: UP031 - one of the ways out
        "{0} {0!r}".format,
        lambda it: string.Template("$key").substitute(key=it),
        lambda it: repr([it, (it,), {it}, {"key": it}]),
        lambda it: repr(Holder("a", it)),
        lambda it: repr(Model(key=it)),
        lambda it: pprint.pformat({"key": it, "holder": Holder("a", it)}),
        rich.pretty.pretty_repr,
        lambda it: repr(copy.copy(it)),
        lambda it: repr(copy.deepcopy({"key": [it]})),
        lambda it: repr(dataclasses.asdict(Holder("a", it))),
        lambda it: repr(dataclasses.astuple(Holder("a", it))),
        lambda it: repr(Model(key=it).model_dump()),
        lambda it: repr(Model(key=it).model_copy(deep=True)),
        lambda it: json.dumps({"key": it}, default=str),
        lambda it: json.dumps({"key": it}, default=repr),
        lambda it: orjson.dumps({"key": it}, default=str),
        lambda it: to_json({"key": it}, serialize_unknown=True),
        lambda it: to_jsonable_python({"key": it}, fallback=str),
        lambda it: [(name, getattr(it, name, None)) for name in dir(it) if name != "reveal"],
        lambda it: [(name, getattr(it, name)) for name in type(it).__slots__],
    ],
)
def test_what_is_shown_is_a_mask(show: Callable[[Secret], Any]) -> None:
    assert _hidden(show(SECRET))


@pytest.mark.parametrize(
    "attempt",
    [
        pickle.dumps,
        lambda it: pickle.dumps(it, protocol=0),
        lambda it: pickle.dumps(Holder("a", it)),
        marshal.dumps,
        json.dumps,
        lambda it: json.dumps({"key": it}),
        lambda it: json.dumps(dataclasses.asdict(Holder("a", it))),
        lambda it: orjson.dumps({"key": it}),
        lambda it: orjson.dumps(Holder("a", it)),
        lambda it: orjson.dumps(it, option=orjson.OPT_NON_STR_KEYS),
        to_json,
        lambda it: Model(key=it).model_dump_json(),
        lambda it: Model(key=it).model_dump(mode="json"),
        lambda it: it.__reduce__(),
        lambda it: it.__reduce_ex__(4),
        lambda it: it.__getstate__(),
        vars,
        bytes,
        len,
        list,
        iter,
        int,
        lambda it: "key: " + it,
        lambda it: it + "",
        "".join,
        lambda it: TEXT in it,
        lambda it: it[0],
        lambda it: io.StringIO().write(it),
        memoryview,
        lambda it: os.environ.update(KEY=it),
        lambda it: subprocess.run([sys.executable, "-c", "", it], check=True),
        lambda it: setattr(it, "_open", str),
        lambda it: setattr(it, "note", "x"),
        lambda it: delattr(it, "_open"),
        lambda it: it < Secret("x"),
    ],
)
def test_what_would_give_the_text_away_fails_without_saying_it(attempt: Callable[[Secret], Any]) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError, PydanticSerializationError)) as caught:
        attempt(SECRET)
    assert _hidden("".join(traceback.format_exception(caught.value)))
    assert SECRET.reveal() == TEXT


def test_logging_shows_a_mask() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(key)s"))
    log = logging.getLogger("test_secret")
    log.propagate = False
    log.addHandler(handler)
    log.warning("%s %r", SECRET, [SECRET], extra={"key": SECRET})
    assert stream.getvalue()
    assert _hidden(stream.getvalue())


@pytest.mark.parametrize(
    "renderer",
    [
        structlog.processors.JSONRenderer(),
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
        structlog.processors.KeyValueRenderer(),
        structlog.processors.LogfmtRenderer(),
        structlog.dev.ConsoleRenderer(),
    ],
)
def test_structlog_shows_a_mask(renderer: Callable[..., str | bytes]) -> None:
    seen: str | bytes = ""
    # What a renderer refuses to show is just as well hidden.
    try:
        seen = renderer(None, "info", {"event": "signed_in", "key": SECRET, "held": repr([SECRET])})
    except TypeError as error:
        seen = str(error)
    assert _hidden(seen)


def _fail_with(key: Secret) -> None:
    raise RuntimeError("no") from KeyError(key)


def test_tracebacks_with_local_variables_show_a_mask() -> None:
    try:
        _fail_with(SECRET)
    except RuntimeError as error:
        plain = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        console = rich.console.Console(file=io.StringIO(), width=200, record=True)
        console.print_exception(show_locals=True)
        dicts = structlog.tracebacks.ExceptionDictTransformer(show_locals=True)(
            (type(error), error, error.__traceback__)
        )
    # The text stands in the module's own TEXT, which no frame above shows as a local.
    assert _hidden(plain)
    assert _hidden(console.export_text())
    assert _hidden(dicts)


@pytest.mark.parametrize("wrong", ["", None, 7])
def test_a_secret_is_made_from_a_text_that_is_not_empty(wrong: Any) -> None:
    with pytest.raises((ValueError, AttributeError)):
        Secret(wrong)


def test_secrets_are_equal_by_text_and_never_equal_to_a_text() -> None:
    assert Secret(TEXT) == SECRET
    assert Secret(TEXT + "x") != SECRET
    assert SECRET != TEXT
    assert len({Secret(TEXT), SECRET}) == 1
    assert Secret("\udcff") == Secret("\udcff")


def test_the_hash_differs_from_process_to_process() -> None:
    program = textwrap.dedent(
        """
        from gateway.domain.secret import Secret
        print(hash(Secret("guess")))
        """
    )
    # The same seed for hashes of texts: only what the secret adds can make a difference.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    runs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=environment).stdout
        for _ in range(2)
    ]
    assert runs[0] != runs[1]
