from typing import Any

import pytest

from flows.settings import built_in_settings, compose_settings
from tasks.ablate import INGREDIENTS, WHOLE, Variant, compare, plan_variants, to_markdown
from tasks.dotted import change_settings
from tasks.errors import CallerError
from tasks.measured import Measured, PartScores


def names(*arguments: Any, **settings: Any) -> list[str]:
    """Return the lines that are planned for the default preset with some settings changed."""
    return [variant.name for variant in plan_variants(compose_settings("default", list(settings.items())), *arguments)]


def test_every_ingredient_can_be_left_out_of_the_default_model() -> None:
    """Each ingredient names settings that exist and that the default preset has otherwise; the whole model comes first."""
    settings = built_in_settings("default")

    variants = plan_variants(settings, with_unlabelled=True)

    assert [variant.name for variant in variants] == [WHOLE, *INGREDIENTS]
    assert INGREDIENTS["overlapping regions"] == {"model.kernel_size": settings.train.model.stride}
    for variant in variants[1:]:
        assert change_settings(settings, variant.changes.items()) != settings or not variant.uses_unlabelled


def test_chosen_lines() -> None:
    """`only` picks ingredients by name, with spaces or hyphens; settings are tried besides, each alone; the whole model is always there."""
    assert names(["Pair-vectors"]) == [WHOLE, "pair vectors"]
    assert names(["n gram part"], [("model.units", 64)]) == [WHOLE, "n-gram part", "with model.units=64"]
    assert names([], [("model.units", 64), ("model.stride", 2)]) == [WHOLE, "with model.units=64", "with model.stride=2"]


def test_what_the_model_does_not_have_is_not_left_out() -> None:
    """An ingredient that is off already, or that the network does not know, has no line; asked for by name it is an error."""
    assert "n-gram part" not in names(linear=None)
    assert "3-grams" not in names(linear=None)
    assert "unlabelled reviews" not in names()
    assert [variant.name for variant in plan_variants(built_in_settings("tutorial"))] == [WHOLE]
    with pytest.raises(CallerError, match="no n-gram part, so it cannot be left out"):
        names(["n-gram part"], linear=None)


@pytest.mark.parametrize(
    ("only", "changes", "told"),
    [
        (["magic"], [], "no ingredient 'magic'. Known are: .*pair vectors"),
        ([], [("model.unit", 3)], "There is no setting 'model.unit'"),
        ([], [("split.seed", 3)], "'split.seed' cannot be tried: the rows would be others"),
    ],
)
def test_unknown_lines_are_refused(only: list[str], changes: list[tuple[str, Any]], told: str) -> None:
    """What does not exist, or would be measured on other rows, is refused before anything runs."""
    with pytest.raises(CallerError, match=told):
        names(only, changes)


def measured(accuracy: float, log_loss: float) -> Measured:
    """Return a measurement; its LSTM is a tenth worse."""
    return Measured(400, 3000, accuracy, log_loss, {"lstm": PartScores(accuracy - 0.1, 0.5)}, 3, 2, 12.0)


def test_differences_are_seed_by_seed() -> None:
    """An ingredient that is worth a point on both seeds has a difference without spread, however far the seeds lie apart."""
    whole = [measured(0.90, 0.25), measured(0.80, 0.45)]

    line = compare(Variant("soft labels"), [measured(0.89, 0.26), measured(0.79, 0.46)], whole)

    assert line.accuracy_difference.mean == pytest.approx(-0.01)
    assert line.accuracy_difference.deviation == pytest.approx(0, abs=1e-9)
    assert line.log_loss_difference.mean == pytest.approx(0.01)
    assert line.accuracy.deviation == pytest.approx(0.0707, abs=1e-4)
    assert line.lstm_accuracy.mean == pytest.approx(0.74)


def test_table_is_markdown_with_its_origin() -> None:
    """The table has a row for each line and says rows, seeds, standard error and command beside it."""
    whole = [measured(0.90, 0.25), measured(0.88, 0.27)]
    lines = [compare(Variant(WHOLE), whole, whole), compare(Variant("pair vectors"), [measured(0.89, 0.28)] * 2, whole)]

    text = to_markdown(lines, whole[0], [0, 1], {"Command": "`sentiment ablate`"})

    head, rule, first, second, blank, *told = text.splitlines()
    assert {len(row.split(" | ")) for row in (head, rule, first, second)} == {7}
    assert first.startswith("| nothing | 89.00 ± 1.41 % |  | 0.2600 ± 0.0141 |  | 79.00 ± 1.41 % | 12 |")
    assert second.startswith("| pair vectors | 89.00 ± 0.00 % | +0.00 ± 1.41 | 0.2800 ± 0.0000 | +0.0200 ± 0.0141 |")
    assert blank == ""
    assert "400 validation rows after training on 3,000" in told[0]
    assert "2 seeds (0, 1)" in told[0]
    assert "standard error of 1.56 points" in told[0]
    assert told[-1] == "- Command: `sentiment ablate`"
