from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tasks.reviews import language
from tasks.reviews.language import LANGUAGES, guess_languages

REVIEWS = {
    "English": ["I have not seen a film like this one for years.", "Does what it says on the box. Good value for money."],
    "German": ["Ein großartiger Film, den man nicht verpassen sollte.", "Die Lieferung war schnell, aber das Gerät ist schon kaputt."],
    "French": ["Un très beau film, je le conseille à tous.", "La livraison était rapide mais le produit ne marche pas du tout."],
    "Spanish": ["Una película muy buena, la recomiendo a todo el mundo.", "El envío fue rápido pero el producto no funciona."],
    "Portuguese": ["Um filme muito bom, não percam.", "A entrega foi rápida, mas o produto não funciona e veio com um risco."],
    "Italian": ["Un film molto bello, lo consiglio a tutti.", "La consegna è stata veloce, ma il prodotto non funziona per niente."],
    "Dutch": ["Een prachtige film die je niet mag missen.", "De levering was snel, maar het apparaat is na een week al kapot."],
    "Swedish": ["En mycket bra film som jag kan rekommendera till alla.", "Leveransen var snabb men det fungerar inte och är för dyrt."],
    "Danish or Norwegian": ["En meget god film, som jeg kan anbefale.", "Leveringen var rask, men den virker ikke og er altfor dyr."],
    "Finnish": ["Elokuva oli todella hyvä ja sitä voi suositella.", "Toimitus oli nopea, mutta tuote ei toimi eikä ole hyvä."],
    "Polish": ["Bardzo dobry film, nie mogę się doczekać.", "Dostawa była szybka, ale to nie działa i jest za drogie."],
    "Czech": ["Film je velmi dobrý a rád se na něj podívám.", "Dodání bylo rychlé, ale výrobek už po týdnu není v pořádku."],
    "Romanian": ["Un film foarte bun pe care îl recomand.", "Livrarea a fost rapidă, dar produsul nu merge și este prea scump."],
    "Hungarian": ["Nagyon jó film, és nem csak a gyerekeknek.", "A szállítás gyors volt, de a termék már egy hét után nem működik."],
    "Turkish": ["Çok güzel bir film, herkese tavsiye ederim.", "Kargo çok hızlı ama ürün bir hafta sonra bozuldu, hiç iyi değil."],
    "Indonesian": ["Film ini sangat bagus dan tidak membosankan.", "Pengiriman cepat tapi barang yang saya terima sudah rusak."],
    "Cyrillic script": ["Отличный фильм, всем советую.", "Доставка быстрая (Amazon), но товар не работает."],
    "Greek script": ["Πολύ καλή ταινία, την προτείνω σε όλους."],
    "Arabic script": ["فيلم رائع أنصح الجميع بمشاهدته"],
    "Hebrew script": ["סרט מצוין, ממליץ לכולם"],
    "Devanagari script": ["बहुत अच्छी फिल्म है, सबको देखनी चाहिए"],
    "Thai script": ["หนังดีมาก แนะนำให้ทุกคนดู"],
    "Korean script": ["정말 재미있는 영화입니다. 추천합니다."],
    "Japanese script": ["とても良い映画でした。おすすめです。", "最高の映画、感動した"],
    "Chinese script": ["这部电影非常好看，推荐给大家。"],
    "unclear": ["", "ok", "*****", "10/10!!!", "Tom Hanks, Meg Ryan", "👍👍", None],
}  # fmt: skip


def _names(reviews: pa.Array) -> list[str]:
    return [LANGUAGES[place] for place in guess_languages(reviews)]


@pytest.mark.parametrize("expected", REVIEWS)
def test_languages_are_told_apart(expected: str) -> None:
    """A sentence or two of each language is guessed right, and what is no sentence is unclear."""
    assert _names(pa.array(REVIEWS[expected], pa.string())) == [expected] * len(REVIEWS[expected])


def test_every_language_is_tested() -> None:
    """No language is promised that no sentence above proves."""
    assert set(REVIEWS) == set(LANGUAGES)


def test_rows_do_not_touch_each_other() -> None:
    """A review is guessed the same alone, in a crowd, and in a slice of a larger array."""
    reviews = [review for group in REVIEWS.values() for review in group]
    together = _names(pa.array([None, *reviews, "x"], pa.string()).slice(1, len(reviews)))
    assert together == [name for review in reviews for name in _names(pa.array([review], pa.string()))]


def test_only_the_beginning_is_read() -> None:
    """However long a review is, guessing it costs what its beginning costs."""
    start = "x" * language.CHARACTERS_READ
    assert _names(pa.array([f"{start} it was not for me and that is all"])) == ["unclear"]


def test_no_reviews_are_no_guesses() -> None:
    """An empty batch gives an empty answer."""
    assert guess_languages(pa.array([], pa.string())).shape == (0,)


def test_real_reviews_are_english(real_reviews: Path) -> None:
    """At least 99.9 % of real English reviews are taken for English, and at least 94 % of their first sixty characters."""
    reviews = pd.read_csv(real_reviews, usecols=["review"], nrows=4000)["review"]
    english = LANGUAGES.index("English")
    assert np.mean(guess_languages(pa.array(reviews)) == english) >= 0.999
    assert np.mean(guess_languages(pa.array(reviews.str.slice(0, 60))) == english) >= 0.94
