"""A trained model as a folder of plain files, and the object that scores reviews with it.

Nothing is unpickled or deserialised into code: weights are safetensors, the rest is JSON and one `.npy` read without pickle; this
project's code rebuilds the network. `bundle.json` holds the SHA-256 of every file and is checked before any of them is parsed.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from tasks.errors import CallerError, MachineError, PipelineError
from tasks.fingerprint import sha256_of_file
from tasks.json_text import parse_json
from tasks.model.decision import Decision
from tasks.model.linear import LinearSettings, linear_logits, logits_and_evidence
from tasks.model.lstm import LstmScorer, LstmSettings, weight_shapes
from tasks.model.stack import StackWeights, apply_stack, stacked_log_odds
from tasks.model.vocabulary import TokenIds, Vocabulary
from tasks.reviews.text import CleanSettings, TokenizeSettings, tokens_of

FORMAT = 1
WEIGHTS, VOCABULARY, SETTINGS, PROFILE, GOLDEN, SEEN, TRAINING, ORIGIN = (
    "weights.safetensors",
    "vocabulary.json",
    "settings.json",
    "profile.json",
    "golden.json",
    "seen.npy",
    "training.json",
    "origin.json",
)
METRICS, CARD, MANIFEST = "metrics.json", "MODEL_CARD.md", "bundle.json"
GOLDEN_TOLERANCE = 1e-4
LSTM, LINEAR = "lstm", "linear"

# Probe texts of our own: a model must give them the scores it gave on the day it was trained.
GOLDEN_REVIEWS = (
    "A wonderful film. I laughed, I cried, and I would watch it again tomorrow.",
    "Dreadful. The plot goes nowhere and the acting is wooden.",
    "Not good, not even close.",
    "It is not bad at all; in fact I rather liked it.",
    "Great cast, dreadful film.",
    "A slow start, but the ending is superb!",
    "7/10 <br /><br />Worth a rental, no more.",
    "What a waste of two hours???",
    "",
    "zxqv brrrl",
)


class BundleSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything besides weights and vocabulary that scoring needs."""

    model_id: str
    clean: CleanSettings
    tokenize: TokenizeSettings
    lstm: LstmSettings
    linear: LinearSettings | None
    trained_on: dict[str, Any]


@dataclass(frozen=True)
class ReviewScores:
    """Scores of reviews, in input order.

    Args:
        p_positive: float32, shape (num_rows,); only meaningful where `status` is ok or truncated.
        status: shape (num_rows,): ok, truncated (longer than the LSTM reads), empty (no words),
            unknown_words (none that is known).
        num_tokens: int, shape (num_rows,): tokens of each review.
        num_unknown: int, shape (num_rows,): those among them that the vocabulary does not hold.
    """

    p_positive: np.ndarray
    status: np.ndarray
    num_tokens: np.ndarray
    num_unknown: np.ndarray


@dataclass(frozen=True)
class SentimentModel:
    """A model ready to score: vocabulary, LSTM, the linear part if it has one, the stack that joins them, and the decision."""

    settings: BundleSettings
    vocabulary: Vocabulary
    lstm: LstmScorer
    linear: dict[str, np.ndarray] | None
    stack: StackWeights
    decision: Decision
    folder: Path | None = None
    manifest_sha256: str = ""

    @property
    def model_id(self) -> str:
        """The model's name."""
        return self.settings.model_id

    @cached_property
    def seen(self) -> np.ndarray:
        """The text hashes of the rows it was trained on, see `seen_hashes`; none before it is written."""
        return seen_hashes(self.folder) if self.folder is not None else np.empty(0, np.uint64)

    def tokens(self, reviews: pa.Array) -> pa.Array:
        """Return the tokens of raw reviews, list<string>, shape (num_rows,), by the model's own rules."""
        return tokens_of(reviews, self.settings.clean, self.settings.tokenize)

    def logits(self, ids: TokenIds) -> dict[str, np.ndarray]:
        """Return each part's log-odds of positive, float32, shape (num_rows,)."""
        return self.logits_and_evidence(ids)[0]

    def logits_and_evidence(self, ids: TokenIds) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Return each part's log-odds, and what the LSTM is told of each token's n-grams.

        Returns:
            By part float32, shape (num_rows,); and float16, shape (num_tokens, max_ngram), None if the LSTM takes none.
        """
        if self.linear is None or self.settings.linear is None:
            return {LSTM: self.lstm.logits(ids)}, None
        if not self.settings.lstm.evidence_size:
            return {LSTM: self.lstm.logits(ids), LINEAR: linear_logits(ids, self.linear, self.settings.linear)}, None
        linear, evidence = logits_and_evidence(ids, self.linear, self.settings.linear)
        return {LSTM: self.lstm.logits(ids, evidence), LINEAR: linear}, evidence

    def predict_positive(self, ids: TokenIds) -> np.ndarray:
        """Return each review's probability of being positive, float32, shape (num_rows,), in input order."""
        return self.join(self.logits(ids))

    def log_odds(self, ids: TokenIds) -> np.ndarray:
        """Return each review's log-odds of being positive, float64, shape (num_rows,), in input order."""
        return stacked_log_odds(self.logits(ids), self.stack)

    def join(self, logits: dict[str, np.ndarray]) -> np.ndarray:
        """Return the one probability, float32, shape (num_rows,), that the parts' log-odds make."""
        return apply_stack(logits, self.stack)

    def score_reviews(self, reviews: pa.Array) -> ReviewScores:
        """Score raw reviews, string, shape (num_rows,); null counts as empty."""
        tokens = self.tokens(reviews)
        ids = self.vocabulary.encode(tokens)
        num_tokens = pc.list_value_length(tokens).to_numpy()
        status = np.full(len(num_tokens), "ok", dtype=object)
        status[ids.lengths > self.settings.lstm.sequence_length] = "truncated"
        known_words, num_known = self.vocabulary.num_known_words(ids), self.vocabulary.num_known(ids)
        status[known_words == 0] = "unknown_words"
        status[num_tokens == num_known - known_words] = "empty"
        return ReviewScores(self.predict_positive(ids), status, num_tokens, num_tokens - num_known)

    def check_golden(self, reviews: list[str], expected: list[float]) -> None:
        """Check that the model still gives the probe texts their scores.

        Raises:
            MachineError: It does not.
        """
        got = self.score_reviews(pa.array(reviews, pa.string())).p_positive
        worst = float(np.max(np.abs(got - np.array(expected, np.float32))))
        if not worst <= GOLDEN_TOLERANCE:
            raise MachineError(
                f"Model {self.model_id} does not give its probe texts the scores it gave after training (off by up to {worst:.1g}). "
                "It is not used. Retrain it here, or install the locked library versions."
            )

    def check_unchanged(self) -> None:
        """Check that the bundle this model came from is still there and the same.

        Raises:
            MachineError: It is not.
        """
        if self.folder is None:
            return
        try:
            unchanged = sha256_of_file(self.folder / MANIFEST) == self.manifest_sha256
        except OSError:
            unchanged = False
        if not unchanged:
            raise MachineError(
                f"The bundle of model {self.model_id} was changed or removed while it was used. Nothing was published; run again."
            )


def load_bundle(folder: Path) -> SentimentModel:
    """Open a sealed bundle: check every file against `bundle.json`, rebuild the network, reproduce the golden scores.

    Raises:
        CallerError: There is no such bundle.
        MachineError: A file is missing, added or changed, or the golden scores are not reproduced.
    """
    from safetensors import SafetensorError

    manifest_sha256 = check_bundle(folder)
    try:
        golden = parse_json((folder / GOLDEN).read_text(encoding="utf-8"))
        reviews, expected = golden["reviews"], golden["p_positive"]
        model = replace(load_core(folder), folder=folder, manifest_sha256=manifest_sha256)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise MachineError(
            f"The bundle {folder.name} is not one that this version can open ({type(error).__name__}). Train it again with this version."
        ) from error
    model.check_golden(reviews, expected)
    return model


def find_manifest(folder: Path) -> Path:
    """Return where a bundle's `bundle.json` lies.

    Raises:
        CallerError: There is no such bundle.
    """
    place = folder / MANIFEST
    if not place.is_file():
        raise CallerError(f"There is no model {folder.name!r} in {folder.parent}. List those there are with `sentiment models list`.")
    return place


def check_bundle(folder: Path) -> str:
    """Check every file of a bundle against `bundle.json`; return the SHA-256 of `bundle.json` itself.

    Raises:
        CallerError, MachineError: See `load_bundle`.
    """
    place = find_manifest(folder)
    links = sorted(path.name for path in folder.iterdir() if path.is_symlink())
    if links:
        raise MachineError(f"The bundle {folder.name} has links to other places: {', '.join(links)}. Put the files themselves there.")
    try:
        files = parse_json(place.read_text(encoding="utf-8"))["files"]
        found = {path.name for path in folder.iterdir() if path.name != MANIFEST and not path.name.startswith(".")}
        damaged = sorted(found ^ set(files)) or [name for name in files if sha256_of_file(folder / name) != files[name]["sha256"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError(
            f"The bundle {folder.name} cannot be read ({type(error).__name__}). Train it again, or restore the folder."
        ) from error
    if damaged:
        raise MachineError(
            f"The bundle {folder.name} is not what its {MANIFEST} says: {', '.join(damaged)}. Train it again, or restore the folder."
        )
    return sha256_of_file(place)


def is_sealed(folder: Path) -> bool:
    """Return whether a bundle is complete and undamaged."""
    try:
        check_bundle(folder)
    except PipelineError:
        return False
    return True


def load_core(folder: Path) -> SentimentModel:
    """Rebuild a model from a folder whose files the caller has checked; sealed or not."""
    from safetensors.numpy import load_file

    settings = BundleSettings.model_validate_json((folder / SETTINGS).read_text(encoding="utf-8"))
    vocabulary = Vocabulary.from_json(parse_json((folder / VOCABULARY).read_text(encoding="utf-8")))
    training = parse_json((folder / TRAINING).read_text(encoding="utf-8"))
    return assemble(
        settings,
        vocabulary,
        load_file(folder / WEIGHTS),
        StackWeights(**training["stack"]),
        Decision(**training["decision"]),
    )


def assemble(
    settings: BundleSettings,
    vocabulary: Vocabulary,
    weights: dict[str, np.ndarray],
    stack: StackWeights,
    decision: Decision,
) -> SentimentModel:
    """Join parts into a model; `weights` holds `lstm/…` and, where the model has a linear part, `linear/…`.

    Raises:
        MachineError: The weights are those of an earlier version.
    """
    parts: dict[str, dict[str, np.ndarray]] = {LSTM: {}, LINEAR: {}}
    for name, value in weights.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    if parts.keys() > {LSTM, LINEAR} or parts[LSTM].keys() != weight_shapes(settings.lstm).keys():
        raise MachineError(
            f"Model {settings.model_id} was trained by an earlier version, whose models had other parts. Train again with "
            "this version; with --force-promote REASON where the model is the champion, as the two cannot be compared."
        )
    lstm = LstmScorer(parts[LSTM], settings.lstm)
    return SentimentModel(settings, vocabulary, lstm, parts[LINEAR] or None, stack, decision)


def seen_hashes(folder: Path) -> np.ndarray:
    """Return the different 64-bit text hashes of all reviews that a model learnt from, uint64, shape (num_texts,), ascending.

    Raises:
        MachineError: The file is damaged.
    """
    try:
        with (folder / SEEN).open("rb") as file:
            hashes: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MachineError(f"{SEEN} of the bundle {folder.name} cannot be read. Train it again, or restore the folder.") from error
    return hashes


def is_sample(folder: Path) -> bool:
    """Return whether a model was trained on generated reviews."""
    return bool(json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["trained_on"]["sample"])
