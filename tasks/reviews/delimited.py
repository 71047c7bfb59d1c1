"""Delimited text (CSV, TSV and their kin) as records, so that no row vanishes behind a quote that is never closed.

Python's parser in strict mode does the reading. Where it fails, or where a quoted field holds lines that are themselves
whole records, only the line that opened the quote is refused; the lines it would have swallowed are read again.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tasks.errors import DataError
from tasks.reviews.columns import show_name
from tasks.reviews.formats import CSV_FIELD_LIMIT, HIDDEN_RETURN, FileFormat, hide_returns
from tasks.reviews.records import Record

RECORD_LIMIT_IN_FIELDS = 8

_WORDS = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d+")
_MOST_SHAPES, _ROWS_PER_SHAPE = 8, 4
_MANY_LINES = 8


@dataclass(frozen=True)
class RowShape:
    """What a whole record of a file looks like, to tell a swallowed row from a line of a review.

    Args:
        num_fields: Fields of a record.
        telling: Column number → the shapes its values have in the sample (`a` letters, `0` digits), for columns of
            single words with few shapes: labels, ids, dates, not prose.
        values: Column number → its values in the sample, for those of them with few: labels, shops, languages.
    """

    delimiter: str
    num_fields: int
    telling: dict[int, frozenset[str]]
    values: dict[int, frozenset[str]]

    @property
    def is_telling(self) -> bool:
        """Whether some column's values would not be met in prose; any single word would."""
        return bool(self.values) or any(all("0" in shape for shape in shapes) for shapes in self.telling.values())

    def fits(self, line: str) -> bool:
        """Return whether a physical line, quotes taken literally, looks like a whole record."""
        fields = line.rstrip("\r\n").split(self.delimiter)
        if len(fields) != self.num_fields or not self.fits_fields(fields):
            return False
        return all(fields[column].strip('"') in values for column, values in self.values.items())

    def fits_fields(self, fields: Sequence[str]) -> bool:
        """Return whether the values of the telling columns look as they do elsewhere."""
        return all(_shape(fields[column]) in shapes for column, shapes in self.telling.items())


def learn_row_shape(records: Sequence[Sequence[str]], delimiter: str, num_fields: int) -> RowShape:
    """Learn from the sampled records that have the right number of fields."""
    rows = [fields for fields in records if len(fields) == num_fields]
    telling, few_values = {}, {}
    for column in range(num_fields):
        values = frozenset(fields[column].strip('"') for fields in rows)
        shapes = frozenset(_shape(fields[column]) for fields in rows)
        few = len(shapes) <= min(_MOST_SHAPES, len(rows) // _ROWS_PER_SHAPE)
        if shapes and few and not any(map(str.isspace, "".join(shapes))):
            telling[column] = shapes
            if len(values) <= min(_MOST_SHAPES, len(rows) // _ROWS_PER_SHAPE):
                few_values[column] = values
    return RowShape(delimiter, num_fields, telling, few_values)


class _LineTooLongError(Exception):
    pass


class _Lines(Iterator[str]):
    """Physical lines for the parser, remembering those of the current record so that they can be read again.

    Carriage returns within a line are hidden from the parser (`hide_returns`).
    """

    def __init__(self, readline: Callable[[int], str], max_chars: int, first_line: int) -> None:
        self.number = first_line - 1
        self.taken: list[str | None] = []
        self.size = 0
        self._readline = readline
        self._max_chars = max_chars
        self._again: deque[tuple[str | None, int]] = deque()

    def __next__(self) -> str:
        line, counts = self._again.popleft() if self._again else (self._read(), 1)
        if line == "":
            raise StopIteration
        self.number += counts
        self.taken.append(line)
        if line is None:
            raise _LineTooLongError
        self.size += len(line)
        if self.size > self._max_chars:
            raise _LineTooLongError
        return line

    def begin_record(self) -> None:
        self.taken.clear()
        self.size = 0

    def put_back(self) -> None:
        """Give again all lines of the record but its first."""
        self._again.extendleft((line, 1) for line in reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        del self.taken[1:]

    def split_at_returns(self) -> None:
        """Give again the record's only line, as the lines that its carriage returns make of it."""
        first, *others = str(self.taken[0]).replace(HIDDEN_RETURN, "\r").splitlines(keepends=True)
        self._again.extendleft((line, 0) for line in reversed(others))
        self._again.appendleft((first, 1))
        self.number -= 1

    def _read(self) -> str | None:
        """Return the next line, "" at the end, None for one longer than a record may be."""
        line = self._readline(self._max_chars + 1)
        if len(line) <= self._max_chars:
            return hide_returns(line)
        while line and not line.endswith(("\n", "\r")):
            line = self._readline(self._max_chars + 1)
        return None


def read_delimited(readline: Callable[[int], str], shape: RowShape, found: FileFormat, max_field_bytes: int) -> Iterator[Record]:
    """Yield every record of delimited text, sound or refused. Blank lines are no records.

    Args:
        readline: Reads a line with its end, at most so many characters of it; "" at the end.
        shape: What records look like.
        found: What the file is.
        max_field_bytes: A record may have `RECORD_LIMIT_IN_FIELDS` times as many characters.

    Raises:
        DataError: The header is not a record.
    """
    csv.field_size_limit(CSV_FIELD_LIMIT)
    max_chars = RECORD_LIMIT_IN_FIELDS * max_field_bytes
    lines = _Lines(readline, max_chars, 2 if found.tells_delimiter else 1)
    if found.tells_delimiter:
        readline(max_chars)
    reader = csv.reader(lines, delimiter=shape.delimiter, strict=True)
    header = bool(found.header)
    in_doubt = False
    while True:
        lines.begin_record()
        first = lines.number + 1
        fields: list[str] = []
        reason = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _LineTooLongError:
            reason = f"record of more than {max_chars:,} characters, or a quote that is never closed; shorten or close it"
        except csv.Error as error:
            reason = f"broken quoting ({error}); double the quotes inside a quoted field"
        if reason is None and not fields:
            continue
        if header:
            if reason is not None:
                raise DataError(f"The header (line {first}) is not a record: {reason}.")
            header = False
            continue
        size = lines.size
        if reason is None and len(lines.taken) > 1 and _has_swallowed(lines.taken, len(fields), shape):
            reason = f"a quote that is not closed on its line would swallow the next {len(lines.taken) - 1:,} lines; close or double it"
            in_doubt = len(fields) != shape.num_fields
            lines.put_back()
        elif reason is not None:
            in_doubt = True
            lines.put_back()
        elif len(fields) != shape.num_fields:
            if _holds_records(lines.taken, shape):
                lines.split_at_returns()
                continue
            reason = (
                f"{len(fields)} fields where {shape.num_fields} are expected ({_listed(found.columns)}); "
                f"quote what holds {shape.delimiter!r} or a line end"
            )
        elif in_doubt and not (_is_balanced(lines.taken) and shape.fits_fields(fields)):
            reason = "looks like the rest of the broken record before it; mend that one"
        else:
            in_doubt = False
        if HIDDEN_RETURN in "".join(line or "" for line in lines.taken):
            fields = [field.replace(HIDDEN_RETURN, "\r") for field in fields]
        yield Record(first, size, fields, reason)


def _holds_records(taken: Sequence[str | None], shape: RowShape) -> bool:
    """Return whether a line is several records that end with a carriage return alone, in a file where others do not."""
    if len(taken) != 1 or HIDDEN_RETURN not in (taken[0] or ""):
        return False
    return all(shape.fits(line) for line in (taken[0] or "").split(HIDDEN_RETURN))


def _has_swallowed(taken: Sequence[str | None], num_fields: int, shape: RowShape) -> bool:
    """Return whether the lines of one quoted record are records themselves.

    Prose has commas too, so evidence is asked for: telling columns, a delimiter that prose does not hold, or so many lines
    with neither more nor fewer commas than a record that chance is no answer; and no quotes but the two, as a file that quotes
    every field has more.
    """
    lines = [line for line in taken if line is not None and line.strip()]
    fitting = [shape.fits(line) for line in lines]
    if num_fields != shape.num_fields:
        return any(fitting[1:])
    if num_fields == 1 or sum(line.count('"') for line in lines) != 2 or not (fitting[0] and fitting[-1]):
        return False
    if shape.is_telling or shape.delimiter in "\t|":
        return sum(fitting) * 2 > len(fitting)
    return all(fitting) and len(fitting) >= _MANY_LINES


def _is_balanced(taken: Sequence[str | None]) -> bool:
    return sum(line.count('"') for line in taken if line is not None) % 2 == 0


def _shape(value: str) -> str:
    return _DIGITS.sub("0", _WORDS.sub("a", value[:80].strip('"')))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(show_name(name) for name in names[:8]) + ("…" if len(names) > 8 else "")
