import pytest

from tasks.errors import CallerError
from tasks.reviews.columns import find_id_column, find_label_column, find_text_column


@pytest.mark.parametrize(
    "names",
    [
        ["review", "sentiment"],
        ["id", "Review Text", "x"],
        ["reviewText", "title"],
        ["COMMENT "],
        ["user.name", "user.text"],
    ],
)
def test_finds_the_text_by_usual_names(names: list[str]) -> None:
    """Case, spaces, underscores and the path before the last dot do not matter."""
    found = find_text_column(names)
    assert found in {"review", "Review Text", "reviewText", "COMMENT ", "user.text"} & set(names)


def test_a_whole_name_wins_over_the_end_of_a_path() -> None:
    """`text` at the top is preferred to `user.text`."""
    assert find_text_column(["user.text", "text"]) == "text"


def test_words_win_over_stars() -> None:
    """A sentiment beside a rating is the label."""
    assert find_label_column(["rating", "review", "sentiment"]) == "sentiment"
    assert find_label_column(["Stars", "review"]) == "Stars"


def test_several_candidates_are_the_callers_to_choose() -> None:
    """Two usual names are listed with the option that settles it."""
    with pytest.raises(CallerError, match=r"may be the text: 'review', 'comment'\. Choose one with --text-column"):
        find_text_column(["review", "comment", "x"])
    with pytest.raises(CallerError, match="--label-column"):
        find_label_column(["rating", "stars"])
    with pytest.raises(CallerError, match="--id-column"):
        find_id_column(["id", "uuid"])


def test_hints_fit_the_file() -> None:
    """A file read without header is not told to say --no-header; one taken for plain text is told how it is read as a table."""
    with pytest.raises(CallerError, match=r"'column_1', 'column_2'\. They are numbered.*--text-column\.$"):
        find_text_column(["column_1", "column_2"])
    with pytest.raises(CallerError, match=r"a review a line, has this column alone.*--input-format csv"):
        find_text_column(["review"], "body")


def test_no_candidate_lists_the_columns() -> None:
    """Without a usual name the message shows what there is and the option."""
    with pytest.raises(CallerError, match=r"looks like the text\. The columns are: 'a', 'b'\..*--text-column"):
        find_text_column(["a", "b"])


def test_the_column_asked_for_is_taken_or_missed_with_a_hint() -> None:
    """An asked name matches exactly, then by spelling; otherwise close ones are suggested."""
    assert find_text_column(["review", "notes"], "notes") == "notes"
    assert find_text_column(["review", "My Notes"], "my_notes") == "My Notes"
    with pytest.raises(CallerError, match=r"--text-column 'nots' is not among .*Did you mean 'notes'"):
        find_text_column(["review", "notes"], "nots")


def test_ids_are_optional_unless_asked_for() -> None:
    """No id column is no error; a missing one that was named is."""
    assert find_id_column(["review"]) is None
    assert find_id_column(["id", "review_id"]) == "review_id"
    with pytest.raises(CallerError, match="--id-column 'key'"):
        find_id_column(["review"], "key")
