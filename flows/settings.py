"""Every number that can change a result, composed from the steps' own settings, and the presets."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from tasks.balance import BalanceSettings
from tasks.errors import CallerError
from tasks.ingest import IngestSettings
from tasks.model.decision import DecisionSettings
from tasks.model.gate import GateSettings
from tasks.model.linear import LinearSettings
from tasks.model.lstm import LstmSettings
from tasks.model.metrics import EvaluationSettings
from tasks.model.self_training import SelfTrainingSettings
from tasks.model.vocabulary import VocabularySettings
from tasks.promote import PromoteSettings
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.split import SplitSettings
from tasks.train import TrainSettings
from tasks.unlabelled import UnlabelledSettings

PresetName = Literal["default", "tutorial", "quick"]


class TrainingSettings(BaseModel, frozen=True, extra="forbid"):
    """The settings of a whole training run, a group for every step."""

    preset: str = "default"
    seed: int = Field(0, ge=0, description="seed of the model's initial weights, row order and dropout")
    ingest: IngestSettings = IngestSettings()
    clean: CleanSettings = CleanSettings()
    tokenize: TokenizeSettings = TokenizeSettings()
    split: SplitSettings = SplitSettings()
    balance: BalanceSettings = BalanceSettings()
    vocabulary: VocabularySettings = VocabularySettings()
    model: LstmSettings = LstmSettings()
    linear: LinearSettings | None = Field(LinearSettings(), description="the n-gram part beside the LSTM; null for the LSTM alone")
    self_training: SelfTrainingSettings = SelfTrainingSettings()
    decision: DecisionSettings = DecisionSettings()
    evaluate: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()

    @property
    def train(self) -> TrainSettings:
        """The groups that the train step uses."""
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.model_fields})

    @property
    def promote(self) -> PromoteSettings:
        """The groups that the promote step uses."""
        return PromoteSettings(evaluate=self.evaluate, gate=self.gate)

    @property
    def unlabelled(self) -> UnlabelledSettings:
        """What the unlabelled step uses: the rules by which the labelled reviews are read, cleaned and tokenized."""
        read = {name: getattr(self.ingest, name) for name in ("reader", "text_column", "sample")}
        return UnlabelledSettings(**read, clean=self.clean, tokenize=self.tokenize, near_duplicates=self.split.near_duplicates)


def preset_settings(preset: PresetName) -> TrainingSettings:
    """Return a preset: `default` the best in minutes, `tutorial` the article to the letter, `quick` the whole chain in seconds."""
    if preset == "tutorial":
        return TrainingSettings(
            preset=preset,
            clean=CleanSettings(rules="tutorial", stop_words=ENGLISH_STOP_WORDS),
            tokenize=TokenizeSettings(rules="tutorial"),
            split=SplitSettings(validation_rows="last", validation_share=0.2),
            vocabulary=VocabularySettings.tutorial(),
            model=LstmSettings.tutorial(),
            linear=None,
        )
    if preset == "quick":
        return TrainingSettings(preset=preset, model=LstmSettings.quick())
    return TrainingSettings(split=SplitSettings(validation_share=0.05))


def compose_settings(preset: PresetName, overrides: Sequence[tuple[str, Any]], today: date | None = None) -> TrainingSettings:
    """Return a preset with single settings changed; a window such as the last 90 days is settled to the day it begins on.

    Args:
        preset: The preset to start from.
        overrides: Pairs of a dotted name and a value, such as ("model.epochs", 8).
        today: The day that `ingest.window.last` counts back from; today in UTC if not given.

    Raises:
        CallerError: A name is unknown or a value is out of range; the message lists what there is.
    """
    plain = preset_settings(preset).model_dump(mode="json")
    for name, value in overrides:
        if name == "preset":
            raise CallerError("A preset is named with --preset, not with --set.")
        group, *path = plain, *name.split(".")
        for part in path[:-1]:
            group = _entry(group, part, name)
        _entry(group, path[-1], name)
        group[path[-1]] = value
    try:
        settings = TrainingSettings.model_validate(plain)
        window = settings.ingest.window.resolved(today or datetime.now(UTC).date())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise CallerError(
            f"A setting does not fit: {problems}. Given: {', '.join(f'{name}={value}' for name, value in overrides)}."
        ) from None
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"window": window})})


def parse_override(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; the value is JSON if it reads as JSON, else text.

    >>> parse_override("model.epochs=8")
    ('model.epochs', 8)
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CallerError(f"--set {text!r} is not NAME=VALUE. Example: --set model.epochs=8.")
    try:
        return name.strip(), json.loads(value)
    except json.JSONDecodeError:
        return name.strip(), value


def _entry(group: Any, part: str, name: str) -> Any:
    if not isinstance(group, dict) or part not in group:
        known = ", ".join(group) if isinstance(group, dict) else "none below it"
        raise CallerError(f"There is no setting {name!r}: {part!r} is unknown. Known here: {known}.")
    return group[part]
