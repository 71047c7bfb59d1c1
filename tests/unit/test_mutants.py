"""The list of deliberate breakages follows the code that they break; `make mutants` runs them."""

import pytest
from mutants import MUTANTS, PROJECT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_breaks_is_there(mutant: Mutant) -> None:
    """The text that a mutant replaces stands in its file, and the tests that have to notice are there."""
    text = (PROJECT / mutant.file).read_text(encoding="utf-8")

    assert mutant.old in text
    assert mutant.new != mutant.old
    assert all((PROJECT / word).exists() for word in mutant.tests.split() if word.startswith("tests/"))
