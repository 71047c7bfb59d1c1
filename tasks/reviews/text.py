"""From a review to its tokens: the one preprocessing that training and scoring share.

Every function takes and gives Arrow arrays, a batch of reviews at a time, and runs in compiled kernels that release the GIL.
Two sets of rules: *default* keeps negations, contractions, digits and punctuation; *tutorial* is the article's, character by character.
"""

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field

from tasks.reviews.entities import decode_entities

# Python and Arrow agree on letters and lower case in these ranges (a test tries every character); a review with any other
# character takes the slower Python path of the tutorial rules.
_AGREED = r"\x00-\x{12F}\x{131}-\x{148}\x{14A}-\x{17F}\x{2000}-\x{206F}"

TAG = r"<[a-z/][^<>]{0,60}>"  # goes before the symbols: in "end.<br />" a run of symbols would take the tag's "<"
# Punctuation tells where a thought ends: with these as tokens both the n-gram part and the LSTM err less on validation rows.
MARKS = r'!?.,;:()"\-'
# A run of other symbols, or an apostrophe that does not stand inside a word; "_" goes before: here it counts as a letter. `_tokens` follows
# these rules byte by byte, and a test holds it to them; the exported graph has them in part.
NOT_TOKENS = rf"[^\pL\pN\pM '{MARKS}]+|\B'|'\B"
NOT_WORDS = r"[^\pL\pN\pM ']+|\B'|'\B"
_FOREIGN_SYMBOLS = r"[^\pL\pN\pM\x00-\x7F]+"
_SPACE, _MARK = 1, 2  # what a byte is; 0 for a part of a word, such as any byte of a letter outside ASCII
_PIECE_BYTES = 1 << 18  # of reviews that are split at once: their arrays stay near the processor
_IS_WORD = np.array([chr(byte).isalnum() and byte < 128 for byte in range(256)])


def _kinds(marks: str, spaces: str) -> np.ndarray:
    """Return a table of what bytes are, for two at once: half the look-ups.

    Returns:
        uint16, shape (65536,): for two bytes read as one number, their two kinds in the same places.
    """
    kind = np.array([_MARK if chr(byte) in marks else _SPACE if chr(byte) in spaces else 0 for byte in range(256)], np.uint16)
    return (kind[:, None] << 8 | kind).ravel()


_SYMBOLS = "".join(chr(byte) for byte in range(128) if not chr(byte).isalnum() and chr(byte) != "'")
_SPACES_APART = _kinds("", " ")
_MARKS_APART = _kinds(MARKS.replace("\\", ""), _SYMBOLS)
_WORDS_ALONE = _kinds("", _SYMBOLS)


class CleanSettings(BaseModel, frozen=True, extra="forbid"):
    """How a review becomes text."""

    rules: Literal["default", "tutorial"] = Field(
        "default",
        description="default keeps negation, digits and punctuation; tutorial is the article's, character by character",
    )
    punctuation: bool = Field(True, description="keep punctuation as tokens (default rules only)")
    stop_words: tuple[str, ...] = Field((), description="words to leave out (tutorial rules only)")


class TokenizeSettings(BaseModel, frozen=True, extra="forbid"):
    """How text becomes tokens."""

    rules: Literal["default", "tutorial"] = Field(
        "default", description="default splits at spaces; tutorial as Keras' legacy Tokenizer does"
    )


def clean_reviews(reviews: pa.Array, settings: CleanSettings) -> pa.Array:
    """Return the cleaned text of reviews by the rules of the settings, string, shape (num_reviews,)."""
    if settings.rules == "tutorial":
        return clean_tutorial_text(reviews, settings.stop_words)
    return clean_text(reviews, punctuation=settings.punctuation)


def tokenize_reviews(text: pa.Array, settings: TokenizeSettings) -> pa.Array:
    """Return the tokens of cleaned text by the rules of the settings, list<string>, shape (num_reviews,)."""
    if settings.rules == "tutorial":
        return tokenize_tutorial_text(text)
    return tokenize_text(text)


def tokens_of(reviews: pa.Array, clean: CleanSettings, tokenize: TokenizeSettings) -> pa.Array:
    """Return `tokenize_reviews(clean_reviews(reviews, clean), tokenize)`; faster where the text between need not be written."""
    if clean.rules == tokenize.rules == "default":
        return _tokens(reviews, punctuation=clean.punctuation)
    return tokenize_reviews(clean_reviews(reviews, clean), tokenize)


def clean_text(reviews: pa.Array, *, punctuation: bool = True) -> pa.Array:
    """Clean reviews by the default rules: entities decoded, tags and symbols to spaces, lower case, punctuation as tokens of its own.

    Args:
        reviews: string, shape (num_reviews,); null counts as empty.
        punctuation: Whether it is kept.

    Returns:
        string, shape (num_reviews,): tokens separated by single spaces, none at the ends. Idempotent.

    >>> clean_text(pa.array(["It&#39;s NOT good!<br />Café 7/10"])).to_pylist()
    ["it's not good ! café 7 10"]
    """
    return _join(_tokens(reviews, punctuation=punctuation))


def _tokens(reviews: pa.Array, *, punctuation: bool) -> pa.Array:
    """Return the tokens of raw reviews; only those with letters outside ASCII meet an expression for symbols.

    Tags go before typographic apostrophes are made plain, which is the same as after: one character takes the place of one.
    """
    text = decode_entities(pc.fill_null(reviews.cast(pa.string()), ""))
    text = pc.replace_substring_regex(pc.utf8_lower(text), TAG, " ")
    foreign = pc.invert(pc.string_is_ascii(text))
    if pc.any(foreign).as_py():
        mended = pc.replace_substring(text.filter(foreign), "’", "'")
        text = pc.replace_with_mask(text, foreign, pc.replace_substring_regex(mended, _FOREIGN_SYMBOLS, " "))
    return _split(text, _MARKS_APART if punctuation else _WORDS_ALONE, loose_apostrophes=True)


def clean_tutorial_text(reviews: pa.Array, stop_words: Sequence[str]) -> pa.Array:
    r"""Clean reviews as the article does: `\W` and `\d` to spaces, lower case, stop words out.

    Args:
        reviews: string, shape (num_reviews,); null counts as empty.
        stop_words: Tokens to leave out, compared after lower-casing.

    Returns:
        string, shape (num_reviews,): what the article's `preprocess_text` returns for each review.
    """
    reviews = pc.fill_null(reviews.cast(pa.string()), "")
    text = pc.utf8_lower(pc.replace_substring_regex(reviews, r"[^ \p{L}\p{Nl}\p{No}_]+", " "))
    tokens = pc.ascii_split_whitespace(text)
    left_out = pa.array([*stop_words, ""], pa.string())  # the split leaves an empty token before a leading space
    text = _join(_keep(tokens, pc.invert(pc.is_in(tokens.flatten(), value_set=left_out))))
    foreign = pc.invert(pc.string_is_ascii(reviews))
    disagreed = pc.replace_with_mask(foreign, foreign, pc.match_substring_regex(reviews.filter(foreign), f"[^{_AGREED}]"))
    if not pc.any(disagreed).as_py():
        return text
    stop_set = frozenset(stop_words)
    mended = [_clean_tutorial_row(review, stop_set) for review in reviews.filter(disagreed).to_pylist()]
    return pc.replace_with_mask(text, disagreed, pa.array(mended, pa.string()))


def _clean_tutorial_row(review: str, stop_words: frozenset[str]) -> str:
    text = re.sub(r"\d", " ", re.sub(r"\W", " ", review)).lower()
    return " ".join([word for word in text.split() if word not in stop_words])


def tokenize_text(text: pa.Array) -> pa.Array:
    """Split cleaned text into tokens at single spaces.

    Args:
        text: string, shape (num_reviews,), as a clean function returns it.

    Returns:
        list<string>, shape (num_reviews,); an empty text gives an empty list.
    """
    return _split(text)


def tokenize_tutorial_text(text: pa.Array) -> pa.Array:
    """Split as Keras' legacy Tokenizer splits cleaned text: its filters hold one more character that `\\W` leaves, `_`.

    Source: `Tokenizer(filters=...)` in Keras 3, `keras.src.legacy.preprocessing.text`.
    """
    if pc.any(pc.match_substring(text, "_")).as_py():
        text = pc.replace_substring(text, "_", " ")
    return _split(text)


def normalise_text(reviews: pa.Array) -> pa.Array:
    """Return the words of reviews without case, tags and punctuation, separated by single spaces; the same whatever the rules.

    Args:
        reviews: string, shape (num_reviews,); null counts as empty.

    Returns:
        string, shape (num_reviews,).

    >>> normalise_text(pa.array(["It's NOT good!<br />Café 7/10"])).to_pylist()
    ['it s not good café 7 10']
    """
    text = pc.utf8_lower(pc.fill_null(reviews.cast(pa.string()), ""))
    text = pc.replace_substring_regex(pc.replace_substring_regex(text, TAG, " "), r"[^\p{L}\p{N} ]+", " ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r" +", " "))


def text_hashes(reviews: pa.Array, text: pa.Array | None = None) -> np.ndarray:
    """Return a 64-bit hash of each review's normalised text: equal for reviews that differ in case, tags, punctuation or spaces.

    Reviews of symbols alone (emoji, `:(`) count by those.

    Args:
        reviews: string, shape (num_reviews,); null counts as empty.
        text: What `normalise_text` makes of them, where that is at hand.

    Returns:
        uint64, shape (num_reviews,).
    """
    text = normalise_text(reviews) if text is None else text
    symbols = pc.utf8_trim_whitespace(pc.fill_null(reviews.cast(pa.string()), ""))
    text = pc.if_else(pc.equal(text, ""), symbols, text)
    digests = b"".join(hashlib.blake2b(review.encode(), digest_size=8).digest() for review in text.to_pylist())
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


def _split(text: pa.Array, kinds: np.ndarray = _SPACES_APART, *, loose_apostrophes: bool = False) -> pa.Array:
    """Split text byte by byte for many reviews at once, a quarter of the time of regular expressions and Arrow's own split.

    Args:
        text: string of any kind, shape (num_reviews,); null counts as empty.
        kinds: Of `_kinds`: which bytes stand between tokens, and which are tokens of their own.
        loose_apostrophes: Whether one without an ASCII letter or digit of its review on both sides counts as a space.

    Returns:
        list<string>, shape (num_reviews,).
    """
    if not len(text):
        return pa.array([], pa.list_(pa.string()))
    text = pc.fill_null(text.cast(pa.string()), "")
    _, offsets_buffer, bytes_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[text.offset : text.offset + len(text) + 1]
    letters = np.frombuffer(bytes_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    kept, starts, tokens_before = [], [], [np.zeros(1, np.int32)]
    num_kept = num_tokens = 0
    # Pieces end where reviews do; a review longer than a piece is one of its own.
    borders = np.unique([0, *np.searchsorted(offsets, range(0, len(letters), _PIECE_BYTES)), len(text)])
    for first, last in itertools.pairwise(borders):
        piece = letters[offsets[first] : offsets[last]]
        own_kept, own_starts, own_tokens = _split_letters(piece, offsets[first : last + 1] - offsets[first], kinds, loose_apostrophes)
        kept.append(own_kept)
        starts.append((own_starts + num_kept).astype(np.int32))
        tokens_before.append((own_tokens + num_tokens).astype(np.int32))
        num_kept += len(own_kept)
        num_tokens += len(own_starts)
    starts.append(np.array([num_kept], np.int32))
    tokens = pa.StringArray.from_buffers(num_tokens, pa.py_buffer(np.concatenate(starts)), pa.py_buffer(np.concatenate(kept)))
    return pa.ListArray.from_arrays(pa.array(np.concatenate(tokens_before)), tokens)


def _split_letters(
    letters: np.ndarray, offsets: np.ndarray, kinds: np.ndarray, loose_apostrophes: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split the bytes of some reviews.

    Args:
        letters: uint8, shape (num_bytes,).
        offsets: int32, shape (num_reviews + 1,): where each review begins, and their end.
        kinds: As `_split` has it.
        loose_apostrophes: As `_split` has it.

    Returns:
        The bytes of all tokens, uint8, shape (num_kept,); where each token begins among these, int64, shape (num_tokens,); and how many
        tokens lie before the end of each review, int64, shape (num_reviews,).
    """
    begins = np.zeros(len(letters) + 1, bool)  # whether a token may begin there
    begins[offsets] = True
    kind = _kind_of(letters, kinds)
    if loose_apostrophes:
        quotes = np.flatnonzero(letters == ord("'"))
        loose = begins[quotes] | begins[quotes + 1]
        loose |= ~_IS_WORD[letters[quotes - 1]] | ~_IS_WORD[letters[np.minimum(quotes + 1, len(letters) - 1)]]
        kind[quotes[loose]] = _SPACE
    breaks = kind != 0
    begins[1:] |= breaks
    begins[:-1] |= breaks
    places = np.flatnonzero(kind != _SPACE)
    starts = np.flatnonzero(begins.take(places))
    return letters.take(places), starts, np.searchsorted(starts, np.searchsorted(places, offsets[1:]))


def _kind_of(letters: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return what each byte is by a table of `_kinds`, uint8, in the shape of `letters`."""
    even = len(letters) // 2 * 2
    found = np.empty(len(letters), np.uint8)
    kinds.take(letters[:even].view(np.uint16), mode="clip", out=found[:even].view(np.uint16))
    found[even:] = kinds[letters[even:]] & 0xFF  # the lower byte tells of the letter, the upper one of none
    return found


def _keep(tokens: pa.Array, wanted: pa.Array) -> pa.Array:
    if pc.all(wanted).as_py() is not False:
        return tokens
    mask = wanted.to_numpy(zero_copy_only=False)
    before = np.concatenate([[0], np.cumsum(mask)])
    offsets = tokens.offsets.to_numpy()
    return pa.ListArray.from_arrays(pa.array(before[offsets - offsets[0]], pa.int32()), tokens.flatten().filter(wanted))


def _join(tokens: pa.Array) -> pa.Array:
    return pc.binary_join(tokens, " ")
