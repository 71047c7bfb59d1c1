"""Behaviour tests: small texts of our own whose scores must stand in a known relation, whatever the model was trained on.

Three kinds. MFT (minimum functionality): everybody knows the class. INV (invariance): a change that says nothing must not move the
score. DIR (directional expectation): a change must move the score one way. A family is a few dozen cases with one criterion.

Source: Ribeiro et al. (2020), "Beyond accuracy: behavioral testing of NLP models with CheckList", https://doi.org/10.18653/v1/2020.acl-main.442
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import Literal, NamedTuple, TypedDict, TypeVar

import numpy as np

T = TypeVar("T")
Kind = Literal["MFT", "INV", "DIR"]

CASES = 40  # of a family
TOLERANCE = 0.05  # how far a score may move that should not
_EXAMPLES = 2

PARTS = ("cast", "music", "acting", "ending", "dialogue", "opening")
WHOLES = ("film", "movie", "comedy", "thriller", "sequel")
PRAISE = ("good", "great", "excellent", "wonderful", "superb", "brilliant", "enjoyable", "fantastic")
BLAME = ("bad", "awful", "terrible", "boring", "dreadful", "horrible", "stupid", "disappointing")
STRONGER_PRAISE = (("good", "excellent"), ("nice", "wonderful"), ("fine", "superb"), ("enjoyable", "brilliant"), ("decent", "fantastic"))
STRONGER_BLAME = (("weak", "awful"), ("poor", "terrible"), ("silly", "horrible"), ("flat", "dreadful"), ("bland", "atrocious"))
NAMES = ("Emily", "Carlos", "Aisha", "Wei", "Jamal", "Ingrid", "Priya", "Martin", "Olga", "Kwame")
PLACES = ("London", "Lagos", "Mumbai", "Chicago", "Warsaw", "Tehran", "Osaka", "Lima", "Dublin", "Cairo")
OPINIONS = (
    ("I loved every minute of it. The story is moving and the acting is superb, so I recommend it to everyone.", 1),
    ("What a wonderful film. It made me laugh, it made me cry, and the music is beautiful.", 1),
    ("A great cast and a clever script. We enjoyed it very much and will watch it again.", 1),
    ("One of the best comedies of the year, with excellent jokes and a brilliant ending.", 1),
    ("I hated it. The story is stupid and the acting is terrible, so do not waste your money on it.", -1),
    ("What an awful film. It bored me for two hours, and the dialogue is horrible.", -1),
    ("A weak cast and a dull script. We were disappointed and left before the end.", -1),
    ("One of the worst comedies of the year, with stupid jokes and a pointless ending.", -1),
)


class Case(NamedTuple):
    """One text (MFT), or a text before and after a change (INV, DIR).

    Args:
        texts: What is scored.
        sign: 1 where the class is positive or the score must rise, -1 where negative or fall; 0 where it must stay (INV).
    """

    texts: tuple[str, ...]
    sign: int = 0


class Family(NamedTuple):
    """Cases with one criterion, which is a sentence."""

    name: str
    kind: Kind
    criterion: str
    cases: tuple[Case, ...]


class FailingCase(TypedDict):
    """A case that did not pass: its texts, and the probability of positive that each got."""

    texts: list[str]
    scores: list[float]


class FamilyResult(TypedDict):
    """How a model did on a family; `failures` are the two worst cases."""

    family: str
    kind: Kind
    criterion: str
    cases: int
    passed: int
    pass_rate: float
    failures: list[FailingCase]


def check_behaviour(score: Callable[[list[str]], np.ndarray], threshold: float = 0.5) -> list[FamilyResult]:
    """Put every family to a model.

    Args:
        score: Returns the probability of positive, float, shape (num_texts,), of raw reviews.
        threshold: A review above this probability is called positive.

    Returns:
        A result a family, JSON-ready, in the order of `behaviour_families`.
    """
    families = behaviour_families()
    scores = np.asarray(score([text for family in families for case in family.cases for text in case.texts]), np.float64)
    results: list[FamilyResult] = []
    start = 0
    for family in families:
        shape = len(family.cases), len(family.cases[0].texts)
        of_family = scores[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
        results.append(_judge(family, of_family, threshold))
    return results


def _judge(family: Family, scores: np.ndarray, threshold: float) -> FamilyResult:
    sign = np.array([case.sign for case in family.cases])
    if family.kind == "MFT":
        margin = sign * (scores[:, 0] - threshold)
    elif family.kind == "DIR":
        margin = sign * (scores[:, 1] - scores[:, 0])
    else:
        margin = TOLERANCE - np.abs(scores[:, 1] - scores[:, 0])
    passed = margin > 0
    worst = [int(row) for row in np.argsort(margin, kind="stable") if not passed[row]][:_EXAMPLES]
    return {
        "family": family.name,
        "kind": family.kind,
        "criterion": family.criterion,
        "cases": len(passed),
        "passed": int(passed.sum()),
        "pass_rate": float(passed.mean()),
        "failures": [{"texts": list(family.cases[row].texts), "scores": scores[row].tolist()} for row in worst],
    }


def behaviour_families() -> tuple[Family, ...]:
    """Return the families; equal in every run."""
    praise, reproach = ([case for case in _denials() if case.sign == sign] for sign in (-1, 1))
    return (
        Family("plain opinion", "MFT", "Plain praise is judged positive, plain reproach negative.", _spread(_plain_opinions())),
        Family("denied praise", "DIR", "A praise scores lower when it is denied.", _spread(praise)),
        Family("denied reproach", "DIR", "A reproach scores higher when it is denied.", _spread(reproach)),
        Family(
            "denied praise, judged",
            "MFT",
            "A praise that is denied is judged negative.",
            _spread([Case((case.texts[1],), -1) for case in praise]),
        ),
        Family(
            "contrast",
            "MFT",
            "A bad whole with one good part is judged negative, a good whole with one bad part positive.",
            _spread(_contrasts()),
        ),
        Family("intensity", "DIR", "A stronger word moves the score further in its own direction.", _spread(_intensities())),
        Family("names", "INV", f"Another person's name moves the score by less than {TOLERANCE}.", _spread(_swaps(_NAMED, NAMES))),
        Family("places", "INV", f"Another place moves the score by less than {TOLERANCE}.", _spread(_swaps(_PLACED, PLACES))),
        Family(
            "neutral sentence",
            "INV",
            f"A sentence without an opinion, added in front, moves the score by less than {TOLERANCE}.",
            _spread(_changed(f"{sentence} {{}}".format for sentence in _NEUTRAL)),
        ),
        Family("typos", "INV", f"Two mistyped words move the score by less than {TOLERANCE}.", _spread(_typos())),
        Family(
            "casing",
            "INV",
            f"Capitals, or none, move the score by less than {TOLERANCE}.",
            _spread(_changed((str.upper, str.lower, str.title, str.swapcase, _shout_some))),
        ),
        Family("HTML", "INV", f"Tags and entities move the score by less than {TOLERANCE}.", _spread(_changed(_MARKUP))),
    )


def _spread(cases: Iterable[T]) -> tuple[T, ...]:
    """Pick `CASES` of many cases, spread over all of them whatever their order."""
    many = list(cases)
    step = round(len(many) * 0.618) or 1
    while math.gcd(step, len(many)) > 1:
        step += 1
    return tuple(many[number * step % len(many)] for number in range(CASES))


def _plain_opinions() -> Iterable[Case]:
    patterns = ("This is a {} {}.", "What a {} {}!", "I watched it on Sunday: a {} {}.", "My verdict? A {} {}, nothing else.")
    for pattern, whole, (words, sign) in product(patterns, WHOLES, ((PRAISE, 1), (BLAME, -1))):
        yield from (Case((_with_article(pattern.format(word, whole)),), sign) for word in words)


def _denials() -> list[Case]:
    patterns = (
        ("The {part} was {word}.", "The {part} was not {word}."),
        ("This is a {word} {whole}.", "This is not a {word} {whole}."),
        ("The {whole} is {word}, I must say.", "The {whole} isn't {word} at all, I must say."),
        ("I found the {part} {word}.", "I did not find the {part} {word}."),
        ("Everybody would call this {whole} {word}.", "Nobody would call this {whole} {word}."),
    )
    return [
        Case(tuple(_with_article(text.format(part=part, whole=whole, word=word)) for text in pattern), sign)
        for pattern, (part, whole), (words, sign) in product(patterns, zip(PARTS, WHOLES, strict=False), ((PRAISE, -1), (BLAME, 1)))
        for word in words
    ]


def _contrasts() -> Iterable[Case]:
    patterns = (
        "{first} {part}, {second} {whole}.",
        "The {part} is {first}, but the {whole} as a whole is {second}.",
        "For all its {first} {part}, this is a {second} {whole}.",
        "The {whole} is {second}, even if the {part} is {first}.",
        "Yes, the {part} is {first}. Still, what a {second} {whole}!",
    )
    sides = ((PRAISE, BLAME, -1), (BLAME, PRAISE, 1))
    for pattern, part, whole, (first, second, sign) in product(patterns, PARTS, WHOLES, sides):
        for one, other in zip(first, second[::-1], strict=True):
            text = _with_article(pattern.format(first=one, second=other, part=part, whole=whole))
            yield Case((text[0].upper() + text[1:],), sign)


def _intensities() -> Iterable[Case]:
    patterns = ("The {part} was {word}.", "This is a {word} {whole}.", "I thought it was {word}.", "All in all, a {word} {whole}.")
    scales = [(pair, 1) for pair in STRONGER_PRAISE] + [(pair, -1) for pair in STRONGER_BLAME]
    scales += [((word, f"{adverb} {word}"), sign) for adverb in ("very", "extremely") for word, sign in (("good", 1), ("bad", -1))]
    for pattern, (part, whole), (words, sign) in product(patterns, zip(PARTS, WHOLES, strict=False), scales):
        yield Case(tuple(_with_article(pattern.format(part=part, whole=whole, word=word)) for word in words), sign)


_NAMED = (
    "{} plays the lead, and the film is a delight from beginning to end.",
    "I saw it with {}, and we both found it boring and far too long.",
    "{} wrote the script. It is clever, funny and never dull.",
    "The scenes with {} are stupid, and the rest is no better.",
    "It is about a nurse called {}, who has to leave her home.",
)
_PLACED = (
    "It was filmed in {}, and it looks beautiful and is well acted.",
    "The story begins in {}. It is dull, and it stays dull.",
    "A family from {} inherits a farm. I laughed a lot and I cried a little.",
    "We saw it in {} and wanted our money back after ten minutes.",
    "The hero comes from {} and works in a bakery.",
)
_NEUTRAL = (
    "It runs for ninety minutes.",
    "I watched it on a Tuesday with my brother.",
    "The first scene is set in a railway station.",
    "It is the second film of this director.",
    "We had dinner before.",
)


def _swaps(patterns: Sequence[str], words: Sequence[str]) -> Iterable[Case]:
    for pattern, (place, word) in product(patterns, enumerate(words)):
        for other in words[place + 1 :]:
            yield Case((pattern.format(word), pattern.format(other)))


def _changed(changes: Iterable[Callable[[str], str]]) -> list[Case]:
    return [Case((text, change(text))) for change, (text, _) in product(changes, OPINIONS)]


def _typos() -> Iterable[Case]:
    for text, _ in OPINIONS:
        words = text.split(" ")
        long = [place for place, word in enumerate(words) if len(word) >= 5 and word[1] != word[2]]
        for pair in combinations(long, 2):
            typed = [word[0] + word[2] + word[1] + word[3:] if place in pair else word for place, word in enumerate(words)]
            yield Case((text, " ".join(typed)))


def _shout_some(text: str) -> str:
    return " ".join(word.upper() if place % 2 else word for place, word in enumerate(text.split(" ")))


def _in_paragraphs(text: str) -> str:
    return "<p>" + text.replace(". ", ".</p>\n<p>") + "</p>"


def _with_breaks(text: str) -> str:
    return text.replace(". ", ".<br /><br />") + "<br />"


def _with_emphasis(text: str) -> str:
    words = text.split(" ")
    return " ".join([*words[:2], f"<b>{words[2]}</b>", *words[3:-1], f'<i class="last">{words[-1]}</i>'])


def _with_entities(text: str) -> str:
    return text.replace("'", "&#39;").replace(" ", "&nbsp;", 3)


def _with_quotes(text: str) -> str:
    return f"&quot;{text}&quot; &amp; that is all"


_MARKUP = (_in_paragraphs, _with_breaks, _with_emphasis, _with_entities, _with_quotes)


def _with_article(text: str) -> str:
    """Return text whose articles suit the words that follow them.

    >>> _with_article("This is a awful film, a good one.")
    'This is an awful film, a good one.'
    """
    for article, right in (("a ", "an "), ("A ", "An ")):
        for vowel in "aeiou":
            text = text.replace(f" {article}{vowel}", f" {right}{vowel}")
            if text.startswith(f"{article}{vowel}"):
                text = right + text[len(article) :]
    return text
