"""Every number that can change a result, composed from the steps' own settings, and the presets."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.balance import BalanceSettings
from tasks.dotted import change_settings, told_problems
from tasks.errors import CallerError
from tasks.ingest import IngestSettings
from tasks.json_text import parse_json
from tasks.model.fitting import TrainSettings
from tasks.model.gate import GateSettings
from tasks.model.lstm import LstmSettings
from tasks.model.metrics import EvaluationSettings
from tasks.model.vocabulary import VocabularySettings
from tasks.preset_file import BUILT_IN, PresetFile, read_preset
from tasks.promote import PromoteSettings
from tasks.reviews.sides import SplitSettings
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.unlabelled import UnlabelledSettings

SHARE_TO_JUDGE = 0.2


class TrainingSettings(TrainSettings):
    """The settings of a whole training run: those of the train step, and a group for each of the others."""

    ingest: IngestSettings = IngestSettings()
    split: SplitSettings = SplitSettings()
    balance: BalanceSettings = BalanceSettings()
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


def preset_settings(preset: str) -> TrainingSettings:
    """Return the settings of a built-in preset, or of a preset file.

    Raises:
        CallerError: There is no such preset, or the file does not fit; the message says why.
    """
    if preset in BUILT_IN:
        return built_in_settings(preset)
    file = _preset_file(preset)
    try:
        return _changed(built_in_settings(file.based_on), list(file.settings.items())).model_copy(update={"preset": file.name})
    except CallerError as error:
        raise CallerError(f"The preset file {preset} does not fit. {error}") from None


def root_of(preset: str) -> str:
    """Return the built-in preset that a preset is, or that its file is based on."""
    return preset if preset in BUILT_IN else _preset_file(preset).based_on


def _preset_file(preset: str) -> PresetFile:
    if not Path(preset).is_file():
        known = ", ".join(BUILT_IN)
        raise CallerError(f"There is no preset {preset!r}. Expected {known}, or the path of a preset file such as `sentiment tune` writes.")
    file = read_preset(Path(preset))
    if file.name in BUILT_IN:
        raise CallerError(f"The preset file {preset} has the name of the built-in preset {file.name!r}. Give it a name of its own.")
    return file


def built_in_settings(preset: str) -> TrainingSettings:
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


def compose_settings(preset: str, overrides: Sequence[tuple[str, Any]], today: date | None = None) -> TrainingSettings:
    """Return a preset with single settings changed; a window such as the last 90 days is settled to the day it begins on.

    Args:
        preset: The preset to start from: the name of a built-in one, or the path of a preset file.
        overrides: Pairs of a dotted name and a value, such as ("model.epochs", 8).
        today: The day that `ingest.window.last` counts back from; today in UTC if not given.

    Raises:
        CallerError: A name is unknown or a value is out of range; the message lists what there is.
    """
    settings = _changed(preset_settings(preset), overrides)
    try:
        window = settings.ingest.window.resolved(today or datetime.now(UTC).date())
    except ValidationError as error:
        raise CallerError(f"A setting does not fit: {told_problems(error)}.") from None
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"window": window})})


def settings_to_judge(preset: str, overrides: Mapping[str, Any]) -> TrainingSettings:
    """Return the settings for models that validation rows decide between: a fifth of the rows at least, unless another share is named.

    A share that is enough to stop a training at the right epoch is too small to tell a model from one that is half a point better.
    """
    settings = compose_settings(preset, list(overrides.items()))
    if settings.split.validation_share >= SHARE_TO_JUDGE or "split.validation_share" in overrides:
        return settings
    return _changed(settings, [("split.validation_share", SHARE_TO_JUDGE)])


def _changed(settings: TrainingSettings, overrides: Sequence[tuple[str, Any]]) -> TrainingSettings:
    if any(name == "preset" for name, _ in overrides):
        raise CallerError("A preset is named with --preset, not with --set.")
    return change_settings(settings, overrides)


def parse_override(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; the value is JSON if it reads as JSON, else text.

    >>> parse_override("model.epochs=8")
    ('model.epochs', 8)
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CallerError(f"--set {text!r} is not NAME=VALUE. Example: --set model.epochs=8.")
    try:
        return name.strip(), parse_json(value)
    except ValueError:
        return name.strip(), value


def override_words(option: str, overrides: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that `parse_override` reads as these settings.

    >>> override_words("--set", {"model.epochs": 8})
    ['--set', 'model.epochs=8']
    """
    return [word for name, value in overrides.items() for word in (option, f"{name}={json.dumps(value, ensure_ascii=False)}")]
