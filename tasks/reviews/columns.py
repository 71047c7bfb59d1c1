"""Which column of an input holds the text, the label and the id: named by the caller, else found by usual names."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

import pyarrow as pa

from tasks.errors import CallerError, DataError

LONGEST_NAME, _MOST_WORDS = 40, 3
_NUMBERED = re.compile(r"column_\d+")
# Each line is a rank: the first rank with a hit decides, two hits within it are the caller's to decide.
_TEXT_NAMES = (
    ["review", "reviews", "reviewtext", "reviewbody", "text", "fulltext", "content", "comment", "comments", "body",
     "feedback", "message", "tweet", "tweettext", "sentence", "document", "opinion", "verbatim",
     "kommentar", "kommentare", "rezension", "commentaire", "commentaires", "avis", "comentario", "comentarios", "recensione"],
)  # fmt: skip
_LABEL_NAMES = (
    ["sentiment", "sentiments", "label", "labels", "polarity", "airlinesentiment", "class", "target"],
    ["rating", "ratings", "stars", "star", "starrating", "reviewrating", "score", "overall"],
)
_ID_NAMES = (
    ["reviewid"],
    ["id", "uid", "uuid", "guid", "rowid", "recordid", "ticketid", "tweetid", "commentid", "messageid", "feedbackid"],
)


def find_text_column(names: Sequence[str], asked: str | None = None) -> str:
    """Return the column that holds the text, as `asked` or by its usual name (review, text, comment, ...).

    Names match in any case and without regard to spaces and punctuation; failing that, the last part of a dotted
    path (`user.text`) counts as its name.

    Raises:
        CallerError: There is no such column, or several are as likely; the message lists them and the option.
    """
    return _required(names, asked, _TEXT_NAMES, "text", "--text-column")


def find_label_column(names: Sequence[str], asked: str | None = None) -> str:
    """Return the column that holds the label; words (sentiment, label, ...) win over stars (rating, score, ...).

    Raises:
        CallerError: As `find_text_column`.
    """
    return _required(names, asked, _LABEL_NAMES, "label", "--label-column")


def find_id_column(names: Sequence[str], asked: str | None = None) -> str | None:
    """Return the column that holds the reviews' ids, or None if none is asked for and none has a usual name.

    Raises:
        CallerError: The column asked for is not there, or several are as likely.
    """
    return _find(names, asked, _ID_NAMES, "id", "--id-column")


def named_column(names: Sequence[str], asked: str, option: str) -> str:
    """Return the column that `asked` names, in any case and without regard to spaces and punctuation if need be.

    Raises:
        CallerError: There is none, or several; the message lists them and the option.
    """
    if asked in names:
        return asked
    alike = [name for name in names if plain_name(name) == plain_name(asked)]
    if len(alike) == 1:
        return alike[0]
    close = alike or get_close_matches(asked, names, n=3)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Name one of them with {option}."
    if list(names) == [_TEXT_NAMES[0][0]]:
        hint = "Plain text, a review a line, has this column alone. If the file is a table, say --input-format csv."
    raise CallerError(f"{option} {asked!r} is not among the columns {_listed(names)}. {hint}")


def text_of(columns: pa.RecordBatch, name: str) -> pa.StringArray:
    """Return a column as text, shape (num_rows,); numbers become their digits, null stays null.

    Raises:
        DataError: The column holds lists or other nested values, or bytes that are not UTF-8.
    """
    try:
        return columns[name].cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataError(f"Column {name!r} holds bytes that are not UTF-8. Expected text. Correct the file.") from error
    except pa.ArrowNotImplementedError as error:
        kind = columns[name].type
        raise DataError(f"Column {name!r} holds {kind}, expected text. Name another column, or write its values as text.") from error


def plain_values(columns: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column of single values, shape (num_rows,).

    Raises:
        DataError: The column holds lists or other nested values.
    """
    if pa.types.is_nested(columns[name].type):
        raise DataError(f"Column {show_name(name)!r} holds {columns[name].type}, expected single values. Name another column.")
    return columns[name]


def show_name(name: str) -> str:
    """Return a column's name as logs and messages may show it: of a headerless file the first review may stand there as a name."""
    words = name.split()
    return " ".join(words) if len(name) <= LONGEST_NAME and len(words) <= _MOST_WORDS else f"(a text of {len(name)} characters)"


def is_text_name(name: str) -> bool:
    """Return whether a column of this name would be taken for the text."""
    return any(reading(name) in rank for rank in _TEXT_NAMES for reading in (plain_name, _last_part))


def plain_name(name: str) -> str:
    """Return a name without case, spaces and punctuation, as names are compared."""
    return "".join(character for character in name.casefold() if character.isalnum())


def is_usual_name(name: str) -> bool:
    """Return whether a value would be a usual column name, and so is likelier a header than data."""
    return any(plain_name(name) in rank for ranks in (_TEXT_NAMES, _LABEL_NAMES, _ID_NAMES) for rank in ranks)


def _required(names: Sequence[str], asked: str | None, ranks: tuple[list[str], ...], what: str, option: str) -> str:
    found = _find(names, asked, ranks, what, option, repeated=True)
    if found is None:
        numbered = all(map(_NUMBERED.fullmatch, names))
        raise CallerError(
            f"No column looks like the {what}. The columns are: {_listed(names)}. "
            + (
                f"They are numbered, as the first row names none: choose one with {option}."
                if numbered
                else f"Usual names are {', '.join(ranks[0][:4])}. Name it with {option}; where the first row is data, say --no-header."
            )
        )
    return found


def _find(
    names: Sequence[str], asked: str | None, ranks: tuple[list[str], ...], what: str, option: str, *, repeated: bool = False
) -> str | None:
    if asked is not None:
        return named_column(names, asked, option)
    for reading in (plain_name, _last_part):
        for rank in ranks:
            hits = [name for name in names if reading(name) in rank or (repeated and _is_repetition(name, names, rank))]
            if len(hits) > 1:
                raise CallerError(f"Several columns may be the {what}: {_listed(hits)}. Choose one with {option}.")
            if hits:
                return hits[0]
    return None


def _is_repetition(name: str, names: Sequence[str], rank: list[str]) -> bool:
    """Return whether a column has the number that a repeated name is given: `review_2` beside `review`."""
    first, _, number = name.rpartition("_")
    return number.isdecimal() and int(number) <= len(names) and first in names and plain_name(first) in rank


def _last_part(name: str) -> str:
    return plain_name(name.rpartition(".")[2])


def _listed(names: Sequence[str], most: int = 40) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(show_name(name)) for name in names[:most]) + more
