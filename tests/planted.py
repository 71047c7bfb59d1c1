"""Near-duplicates made on purpose, and how alike two reviews are the plain way: Python sets of tuples of words."""

import random
import re

SHINGLE_LENGTH, THRESHOLD = 2, 0.8


def plain_set(review: str, length: int = SHINGLE_LENGTH) -> set[tuple[str, ...]]:
    """Return a review's shingles."""
    words = re.findall(r"[^\W_]+", re.sub("<[a-z/][^<>]{0,60}>", " ", review.lower()))
    return {tuple(words[n : n + length]) for n in range(max(len(words) - length, 0) + 1)} if words else set()


def plain_jaccard(first: str, second: str, length: int = SHINGLE_LENGTH) -> float:
    """Return the Jaccard similarity of two reviews."""
    one, other = plain_set(first, length), plain_set(second, length)
    return len(one & other) / len(one | other) if one | other else 0.0


def change_word(words: list[str], draw: random.Random) -> list[str]:
    """Return words of which one was replaced, left out, doubled, or followed by a new one."""
    place = draw.randrange(len(words))
    new = draw.choice((["quixotic"], [], [words[place]] * 2, [words[place], f"word{draw.randrange(99)}"]))
    return words[:place] + new + words[place + 1 :]


def plant(review: str, draw: random.Random) -> str:
    """Return a review that was edited as far as its shingles allow: words, end and beginning, then tags, case and symbols."""
    words, kind = review.split(" "), draw.choice(("words", "end", "beginning", "both"))
    while True:
        changed = words
        if kind in ("words", "both"):
            changed = change_word(changed, draw)
        if kind == "end" or (kind == "both" and draw.random() < 0.5):
            changed = changed[:-1]
        if kind == "beginning":
            changed = changed[1:]
        if plain_jaccard(review, " ".join(changed)) < THRESHOLD:
            break
        words = changed
    text = "<p>" + " ".join(words).replace(", ", " <b>,</b> ").replace(". ", ".<br /><br />")
    return draw.choice((str, str.upper, str.title))(text) + draw.choice(("", " ...", " !!!", "</p>"))
