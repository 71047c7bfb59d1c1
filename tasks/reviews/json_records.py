"""JSON lines, and a JSON array of objects, as records of strings: nested ones flattened, numbers as they are spelt."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tasks.errors import DataError
from tasks.reviews.columns import show_name
from tasks.reviews.records import Record

MAX_COLUMNS = 1000
RECORD_LIMIT_IN_FIELDS = 8

_CHUNK_CHARS = 1 << 16
_TOO_DEEP = "JSON nested too deeply; flatten it"
_GAP = re.compile(r"[ \t\r\n]*")


class Flat(NamedTuple):
    """One object of a file, flattened, or the reason it is refused."""

    line: int
    size: int
    values: dict[str, str | None]
    reason: str | None = None


class _Number(str):
    """A number as the file writes it: 007.10 stays, and no digit of a long id is lost."""


def column_names(objects: Iterator[Flat], where: str) -> tuple[str, ...]:
    """Return all keys of all objects in the order they are first met.

    Raises:
        DataError: There are none, or more than `MAX_COLUMNS`.
    """
    names: dict[str, None] = {}
    for found in objects:
        names.update(dict.fromkeys(found.values))
        if len(names) > MAX_COLUMNS:
            raise DataError(f"{where} has over {MAX_COLUMNS:,} keys by line {found.line}. Are ids used as keys?")
    if not names:
        raise DataError(f"{where} holds no JSON object with a key. Expected one object a line, or an array of them.")
    return tuple(names)


def to_records(objects: Iterator[Flat], names: tuple[str, ...], where: str) -> Iterator[Record]:
    """Yield each object as a row of these columns; a key it lacks is null."""
    known = frozenset(names)
    for found in objects:
        if not known.issuperset(found.values):
            raise DataError(f"{where} changed while it was read (line {found.line}). Run again.")
        yield Record(found.line, found.size, [found.values.get(name) for name in names], found.reason)


def read_json_lines(readline: Callable[[int], str], max_field_bytes: int) -> Iterator[Flat]:
    """Yield the object of every line that is not blank.

    A nested object's values stand under dotted paths (`user.text`); an array, and an empty object, is its JSON text.
    """
    max_chars = RECORD_LIMIT_IN_FIELDS * max_field_bytes
    decode = _decoder().decode
    number = 0
    while line := readline(max_chars + 1):
        number += 1
        if len(line) > max_chars:
            while line and not line.endswith(("\n", "\r")):
                line = readline(max_chars + 1)
            yield Flat(number, 0, {}, f"line of more than {max_chars:,} characters; shorten it")
        elif not line.isspace():
            try:
                yield _flat(number, len(line), decode(line))
            except json.JSONDecodeError as error:
                yield Flat(number, len(line), {}, f"not JSON: {error.msg}; write one object a line")
            except RecursionError:
                yield Flat(number, len(line), {}, _TOO_DEEP)


def read_json_array(read: Callable[[int], str], max_field_bytes: int, where: str) -> Iterator[Flat]:
    """Yield the objects of one JSON array, or objects one after the other over any number of lines, holding one at a time.

    Raises:
        DataError: The file is neither, or is broken: after a syntax error nothing tells where the next element begins, so
            the file cannot be read past it.
    """
    max_chars = RECORD_LIMIT_IN_FIELDS * max_field_bytes
    scan = _decoder().raw_decode
    text, at, line, element = "", 0, 1, 0

    def fail(what: str) -> DataError:
        return DataError(f"{where} is broken at line {line}, element {element + 1}: {what}. Correct it, or export one object a line.")

    def skip_gap() -> str:
        """Pass over white space, reading on as needed; return the next character, "" at the end."""
        nonlocal text, at, line
        while True:
            end = _GAP.match(text, at).end()  # type: ignore[union-attr]
            line += text.count("\n", at, end)
            at = end
            if at < len(text):
                return text[at]
            text, at = read(_CHUNK_CHARS), 0
            if not text:
                return ""

    opening = skip_gap()
    if opening not in ("[", "{"):
        raise DataError(f"{where} is JSON, but neither an array of objects nor one object a line. Export it as one.")
    if opening == "[":
        at += 1
        if skip_gap() == "]":
            return
    while True:
        skip_gap()
        try:
            value, end = scan(text, at)
            following = _GAP.match(text, end)
            failed_at = len(text)
            whole = following is not None and (following.end() < len(text) or (opening == "{" and text[end - 1] == "}"))
            problem = "the file ends too early"
        except json.JSONDecodeError as error:
            whole, problem, failed_at = False, error.msg, error.pos
        except RecursionError as error:
            raise fail("nested too deeply") from error
        if not whole:
            # Growing by the size already held keeps the repeated scans linear in all.
            more = read(max(_CHUNK_CHARS, len(text) - at)) if len(text) - at <= max_chars else ""
            if not more:
                line += text.count("\n", at, failed_at)
                raise fail(problem)
            text, at = text[at:] + more, 0
            continue
        yield _flat(line, end - at, value)
        element += 1
        line += text.count("\n", at, end)
        at = end
        following_character = skip_gap()
        if opening == "{":
            if following_character == "":
                return
            continue
        at += 1
        if following_character == "]":
            if skip_gap():
                raise fail("something follows the array")
            return
        if following_character != ",":
            raise fail("expected a comma between elements")


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_object)


class _Repeating(dict[str, Any]):
    """An object in which a key stands twice, so that one of its values is not here."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Repeating(value)


class _RepeatedKeyError(Exception):
    """A value is, or holds, an object in which a key stands twice."""


def _flat(line: int, size: int, value: Any) -> Flat:
    if not isinstance(value, dict):
        return Flat(line, size, {}, "not a JSON object; write the text under a key")
    values: dict[str, str | None] = {}
    try:
        for path, text in _flatten(value, ""):
            if path in values:
                return Flat(line, size, {}, f"two values for {show_name(path)!r}; rename one of the keys")
            if not path.isascii():
                path.encode()
            values[path] = text
    except UnicodeEncodeError:
        return Flat(line, size, {}, "a key that cannot be decoded; write the file as UTF-8")
    except RecursionError:
        return Flat(line, size, {}, _TOO_DEEP)
    except _RepeatedKeyError:
        return Flat(line, size, {}, "a key that stands twice in an object; rename one of them")
    return Flat(line, size, values)


def _flatten(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, _Repeating):
        raise _RepeatedKeyError
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flatten(inner, f"{prefix}{key}.")
        elif inner is None:
            yield prefix + key, None
        else:
            yield prefix + key, str(inner) if isinstance(inner, str) else _json_text(inner)


def _json_text(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_json_text, value)) + "]"
    if isinstance(value, _Repeating):
        raise _RepeatedKeyError
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json_text(key)}: {_json_text(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
