"""Reviews written by a program: training data that needs no download, and the load for benchmarks.

Word order decides: what a review concludes hangs on what stands after "but", on what is denied, on whose opinion is
reported and whether it holds. A model trained on them proves the pipeline, not itself.
"""

import functools
import re
from collections.abc import Iterator
from math import exp
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field

from tasks.reviews.batches import ROWS_PER_BATCH, Batch
from tasks.reviews.grammar import DOMAIN_PATTERNS, DOMAIN_WORDS, ONE_SIDED_PATTERNS, PATTERNS, WORDS

MEDIAN_SENTENCES, LENGTH_SIGMA = 7.2, 0.66  # log-normal: median ~70 tokens, one review in a thousand beyond 500
OPINION_SHARE, TURN_SHARE = 0.32, 0.18  # of the sentences that are neither first nor the verdict
LEAN = 0.8  # how often such a sentence agrees with the verdict
PRODUCT_SHARE, BROKEN_SHARE, BREAK_SHARE, MISSPELLED_SHARE = 0.35, 0.5, 0.25, 0.08
KINDS = ("opening", "filler", "opinion", "turn", "plain", "negated", "contrast", "hearsay", "advice", "ironic")
VERDICT_WEIGHTS = {"plain": 6, "negated": 3, "contrast": 6, "hearsay": 3, "advice": 6, "ironic": 1}
SHARED_SLOTS = ("subject", "relative", "star_first", "star_last", "maker_first", "maker_last")  # drawn once a review
SLOT = re.compile(r"\{(?:([aA]) )?([+-]?)(\w+)\}")
SEPARATORS = ("", " ", "<br /><br />")
MISSPELLINGS = {
    "definitely": "definately", "Believe": "Beleive", "until": "untill", "beginning": "begining", "isn't": "is'nt",
    "It's": "Its", "disappoint": "dissapoint", "I can't": "I cant", "opinion": "opinon", "awful": "aweful",
    "exactly": "exactely", " the ": " teh ",
}  # fmt: skip

Draws = npt.NDArray[np.uint64]  # whole numbers below 2**32
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class SampleSettings(BaseModel, frozen=True, extra="forbid"):
    """How many reviews to write, and how clean their labels and texts are."""

    rows: int = Field(20_000, ge=1, description="Number of reviews.")
    seed: int = Field(7, ge=0, lt=2**32, description="Another seed writes other reviews.")
    label_noise: float = Field(0.02, ge=0, le=0.5, description="Share of labels that are turned round.")
    duplicate_share: float = Field(0.02, ge=0, le=0.5, description="Share of reviews that repeat an earlier one, exactly or nearly.")


def generate_reviews(settings: SampleSettings) -> Iterator[Batch]:
    """Yield the generated reviews in batches of `ROWS_PER_BATCH` rows, in memory that does not grow with their number.

    Row i depends on i and on the settings other than `rows`: fewer rows are a prefix of more. Equal settings give equal
    bytes on any machine, because every choice is made with raw PCG64 integers, which NumPy keeps stable (NEP 19).

    Yields:
        Batches with the string columns `review_id` ("sample-0000001"), `review`, `sentiment` ("positive", "negative").

    >>> batch = next(generate_reviews(SampleSettings(rows=1)))
    >>> print(batch.columns["review"][0], "--", batch.columns["sentiment"][0])  # doctest: +NORMALIZE_WHITESPACE
    Thea Tanaka made this comedy in 2019, mostly in Cardiff. For all its hilarious humour and great acting, it is a
    boring comedy. -- negative
    """
    sentiments = pa.array(["negative", "positive"])
    for block, first_row in enumerate(range(0, settings.rows, ROWS_PER_BATCH)):
        reviews, positive = _write_block(settings, block)
        num_rows = min(ROWS_PER_BATCH, settings.rows - first_row)
        source_row = pa.array(np.arange(first_row + 1, first_row + 1 + num_rows))
        numerals = pc.utf8_lpad(source_row.cast(pa.string()), 7, "0")
        columns = {
            "review_id": pc.binary_join_element_wise("sample", numerals, "-"),
            "review": reviews.slice(0, num_rows),
            "sentiment": sentiments.take(pa.array(positive[:num_rows].astype(np.int8))),
        }
        yield Batch(pa.RecordBatch.from_pydict(columns), source_row)


def _write_block(settings: SampleSettings, block: int) -> tuple[pa.StringArray, Flags]:
    """Return a block's reviews and whether each is positive; always all rows, so that a shorter sample is a prefix."""
    bits = np.random.PCG64([settings.seed, block])
    polarity, misspelled, copies, originals, variants, noise = _draw(bits, 6, ROWS_PER_BATCH)
    positive = _happens(polarity, 0.5)
    reviews = _misspell(_compose(bits, positive), misspelled)

    rows = np.arange(ROWS_PER_BATCH)
    copied = _happens(copies, settings.duplicate_share) & (rows > 0)
    original = np.where(copied, _pick(originals, np.maximum(rows, 1)), rows)
    while copied[original].any():  # a copy of a copy goes back to the first
        original = original[original]
    reviews = _vary(reviews.take(pa.array(original)), np.where(copied, _pick(variants, 8), 0))
    return reviews, positive[original] ^ _happens(noise, settings.label_noise)


def _compose(bits: np.random.PCG64, positive: Flags) -> pa.StringArray:
    """Return a review for each verdict: its sentences have kinds, these patterns, these slots, filled and joined."""
    grammar = _compile_grammar()
    lengths, verdict_places, breaks, domains, *shared = _draw(bits, 4 + len(SHARED_SLOTS), len(positive))
    num_sentences = _sentence_counts()[_pick(lengths, 1024)]
    starts = np.concatenate([[0], np.cumsum(num_sentences)])
    review = np.repeat(np.arange(len(positive)), num_sentences)  # (num_sentences.sum(),), as all below
    place = np.arange(len(review)) - starts[review]

    kinds, verdicts, leanings, patterns, separators = _draw(bits, 5, len(review))
    # Most conclude at the end, some before a last remark, some at once.
    is_last, is_late = _happens(verdict_places, 0.7), _happens(verdict_places, 0.85)
    is_verdict = place == np.select([is_last, is_late], [num_sentences - 1, num_sentences - 2], 0)[review]
    verdict_kinds = np.repeat([KINDS.index(kind) for kind in VERDICT_WEIGHTS], list(VERDICT_WEIGHTS.values()))
    kind = np.full(len(review), KINDS.index("filler"))
    kind[_happens(kinds, OPINION_SHARE + TURN_SHARE)] = KINDS.index("opinion")
    kind[_happens(kinds, TURN_SHARE)] = KINDS.index("turn")
    kind[place == 0] = KINDS.index("opening")
    kind[is_verdict] = verdict_kinds[_pick(verdicts, len(verdict_kinds))][is_verdict]
    domain = _happens(domains, PRODUCT_SHARE)[review].astype(np.int64)
    polarity = (positive[review] == (is_verdict | _happens(leanings, LEAN))).astype(np.int64)
    group = domain, kind, polarity
    pattern = grammar.group_first[group] + _pick(patterns, grammar.group_size[group])

    slots = _draw(bits, len(review), grammar.first.shape[1])
    slots = slots * slots // 2**32 * slots // 2**32  # cubed, so that early words are common
    for index, draws in enumerate(shared):
        slots = np.where(grammar.shared[pattern] == index, draws[review, np.newaxis], slots)
    broken = (_happens(breaks, BROKEN_SHARE)[review] & _happens(separators, BREAK_SHARE)).astype(np.int64)
    separator = np.where(place == 0, 0, 1 + broken)
    pieces = np.column_stack([separator, grammar.first[pattern] + _pick(slots, grammar.size[pattern])])
    offsets = pa.array((starts * pieces.shape[1]).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, grammar.pieces.take(pa.array(pieces.ravel()))), "")


def _misspell(reviews: pa.StringArray, draws: Draws) -> pa.StringArray:
    mistakes = _pick(draws, round(len(MISSPELLINGS) / MISSPELLED_SHARE))
    for index, (right, wrong) in enumerate(MISSPELLINGS.items()):
        chosen = pa.array(mistakes == index)
        mistaken = pc.replace_substring(reviews.filter(chosen), right, wrong, max_replacements=1)
        reviews = pc.replace_with_mask(reviews, chosen, mistaken)
    return reviews


def _vary(reviews: pa.StringArray, variants: Indices) -> pa.StringArray:
    """Return the reviews, those with variant 4 to 7 changed in case, tags, punctuation or spaces only."""
    changes = {
        4: pc.utf8_upper,
        5: lambda texts: pc.replace_substring(texts, "<br /><br />", " "),
        6: lambda texts: pc.replace_substring(texts, ". ", "!!! "),
        7: lambda texts: pc.replace_substring(texts, " ", "  "),
    }
    for variant, change in changes.items():
        chosen = pa.array(variants == variant)
        reviews = pc.replace_with_mask(reviews, chosen, change(reviews.filter(chosen)))
    return reviews


class _Grammar(NamedTuple):
    """The patterns as numbers: a pattern is a row of slots, a slot a run of consecutive pieces of text to draw from.

    Args:
        pieces: Separators, words and the text between slots, each once or more.
        first, size: shape (num_patterns, num_slots): the slot's run of pieces; an empty piece fills short patterns up.
        shared: shape (num_patterns, num_slots): index into `SHARED_SLOTS`, or -1 where the slot has a draw of its own.
        group_first, group_size: shape (num_domains, num_kinds, 2): the patterns of a kind and polarity (0 negative).
    """

    pieces: pa.StringArray
    first: Indices
    size: Indices
    shared: Indices
    group_first: Indices
    group_size: Indices


@functools.cache
def _compile_grammar() -> _Grammar:
    pieces = list(SEPARATORS)
    runs: dict[tuple[str, ...], int] = {("",): 0}
    patterns: list[list[tuple[int, int, int]]] = []
    groups = []
    for domain in DOMAIN_WORDS:
        for kind in KINDS:
            for polarity in ("negative", "positive"):
                first_pattern = len(patterns)
                for text in _list_patterns(domain, kind, polarity):
                    slots = []
                    for words, shared in _parse_pattern(text, domain, blame=polarity == "negative" and kind != "ironic"):
                        if words not in runs:
                            runs[words] = len(pieces)
                            pieces.extend(words)
                        slots.append((runs[words], len(words), shared))
                    patterns.append(slots)
                groups.append((first_pattern, len(patterns) - first_pattern))
    num_slots = max(map(len, patterns))
    table = np.array([slots + [(0, 1, -1)] * (num_slots - len(slots)) for slots in patterns])
    grouped = np.array(groups).reshape(len(DOMAIN_WORDS), len(KINDS), 2, 2)
    return _Grammar(pa.array(pieces), table[..., 0], table[..., 1], table[..., 2], grouped[..., 0], grouped[..., 1])


def _list_patterns(domain: str, kind: str, polarity: str) -> list[str]:
    text = (PATTERNS | DOMAIN_PATTERNS[domain] | ONE_SIDED_PATTERNS[polarity])[kind]
    text = text.replace("{star}", "{star_first} {star_last}")
    text = text.replace("{maker}", "{maker_first} {maker_last}" if domain == "film" else "{maker_last}")
    return [line.strip() for line in text.strip().splitlines()]


def _parse_pattern(text: str, domain: str, *, blame: bool) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield each slot's words and its index into `SHARED_SLOTS` or -1; text between slots is a slot of one choice."""
    end = 0
    for match in SLOT.finditer(text):
        yield (text[end : match.start()],), -1
        end = match.end()
        article, sign, name = match.groups()
        key = name.lower()
        shared = SHARED_SLOTS.index(key) if key in SHARED_SLOTS else -1
        if sign:
            key = f"{'blame' if blame ^ (sign == '-') else 'praise'}_{key}"
        words = _list_words(domain, key if shared < 0 else key.rpartition("_")[2])
        if article:
            words = [f"{'an' if word[0] in 'aeiou' and not word.startswith('use') else 'a'} {word}" for word in words]
        if article == "A" or name[0].isupper():
            words = [word[0].upper() + word[1:] for word in words]
        yield tuple(words), shared
    yield (text[end:],), -1


def _list_words(domain: str, key: str) -> list[str]:
    lists = [words[key] for words in (DOMAIN_WORDS[domain], WORDS) if key in words]
    words = " ".join(", ".join(lists).split()).split(", ")
    return ["", "", *(f"{word} " for word in words)] if key == "very" else words


@functools.cache
def _sentence_counts() -> Indices:
    """Return the sentences in a review at 1,024 equally likely quantiles of a log-normal, shape (1024,)."""
    quantiles = (NormalDist().inv_cdf((index + 0.5) / 1024) for index in range(1024))
    return np.array([max(2, round(MEDIAN_SENTENCES * exp(LENGTH_SIGMA * quantile))) for quantile in quantiles])


def _draw(bits: np.random.PCG64, *shape: int) -> Draws:
    raw: Draws = bits.random_raw(int(np.prod(shape))).reshape(shape)
    return raw >> np.uint64(32)


def _pick(draws: Draws, num_choices: int | Indices) -> Indices:
    """Map each draw to one of 0 … num_choices - 1, all equally likely."""
    picked: Indices = (draws * np.asarray(num_choices, dtype=np.uint64) >> np.uint64(32)).astype(np.int64)
    return picked


def _happens(draws: Draws, probability: float) -> Flags:
    happens: Flags = draws < np.uint64(probability * 2**32)
    return happens
