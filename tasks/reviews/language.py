"""A light guess at the language of a review, by the small words that every sentence needs, or by its script.

It is made to be counted over thousands of reviews, not trusted for one: a change in the shares tells that other people write, or that
another export came in. Only the beginning of a review is looked at.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CHARACTERS_READ = 200
FEWEST_HITS = 2  # a lone "die" or "a" proves nothing
UNCLEAR = "unclear"

# The commonest words of each language, chosen so that its neighbours have few of them; a word that several share counts for each.
SMALL_WORDS = {
    "English": """the of and to a in is it that was for with as this but not on are be have you his from they at by i my very there so
        just or has an what who if their were would all its can about it's don't great good when more one out like had me we than""",
    "German": """der die und das ist nicht ich in den zu ein eine es mit sich von auf dem auch für sehr aber wie so noch war wird sie
        als nur hat einen im bei aus oder wenn man kann nach wir mein einer zum zur haben sind dass keine um an""",
    "French": """de la le et les des est un une en que pas du qui je il pour dans ce sur ne plus avec se au par très mais on c'est
        sont cette tout nous vous elle ai être qu'il d'un d'une j'ai n'est bien fait son sa ses si leur sans à été ou""",
    "Spanish": """de la que el en y los no un se las una por con es para lo del muy pero me su al más como mi está todo bien ya si son
        sin este esta porque hay fue le ha cuando nada también muchas tiene o nos esto sobre""",
    "Portuguese": """de que o a e não do da um em é uma os no para com se na por mais muito mas ao as foi dos das eu como tem bom meu
        minha são está isso já você ele pelo pela também nos sem ou seu sua quando bem nem esse""",
    "Italian": """di che e il la non un è per in una sono del si da con mi della ma le i più molto al come lo questo anche dei ho gli
        ha nel alla se delle mia mio era tutto ci questa bene cosa solo dal sul l'ho c'è perché senza suo""",
    "Dutch": """de het een en van is niet in dat ik te op met voor zijn er maar die aan heel ook als naar wel wat heb bij nog om was
        dit geen mijn zeer je hij ze deze over uit dan of kan door goed worden wordt hebben veel meer moet""",
    "Swedish": """och att det är som en på jag i inte för av med den har till om ett mycket var men så de kan från vi när eller bra
        min mig man inga också efter ingen alla blir du sig detta finns där han hon bara skulle över""",
    "Danish or Norwegian": """og at det er en jeg på som i ikke til af av for med den har de om var men et så kan fra vi når eller
        meget veldig min mig meg man også efter etter hvor ingen alle bliver blir du sig seg dette der han hun bare""",
    "Finnish": """ja on ei se että oli en mutta hyvä kun niin mitä myös tämä kuin vain joka ole ovat hän sen jos hyvin minun tai sitä
        oma mukaan vielä kuitenkin jo ne sekä tätä voi erittäin siitä nyt olla mitään tässä kanssa ennen""",
    "Polish": """i w nie na się z do jest to że jak o a ale co po za bardzo od tak dla już mi był ten przez są tylko może jestem mnie
        tego ma czy jego było być lub które który nawet ze także oraz""",
    "Czech": """a se v na je to že s z do i o jak jsem ale pro za si by tak co po když nebo velmi jako už jsou jen byl při od nic ve
        bylo být které který také tím není bych mi má není však jeho této může""",
    "Romanian": """de și în a la nu cu un o pe este că din se care mai pentru au ce am foarte sunt dar ca fost prin sau le ai mi după
        era acest această fi lor dintre fără pot cea ale lui să tot bine si sa e""",
    "Hungarian": """a az és nem hogy is egy ez volt de meg csak mint nagyon már van el még jó ha vagy ki azt amely kell majd én ami
        lehet minden most be lesz ezt mert olyan után úgy sem itt között fel aki így nincs""",
    "Turkish": """bir ve bu çok da de için ne ile o ama gibi daha en kadar var değil ben mi sonra olarak hiç her iyi şey diye yok
        olan ki güzel ya oldu bana ürün tavsiye ederim göre veya ise aynı tarafından""",
    "Indonesian": """yang dan di ini itu tidak untuk dengan saya dari ke ada akan pada sangat juga bisa tapi karena sudah dalam lebih
        atau anda oleh kami tersebut adalah seperti bagus sekali hanya kalau mereka tak telah lagi dapat sebuah""",
}
# Where words are not set apart by spaces, or letters alone tell enough: the letters, and the share of all letters that they must reach.
SCRIPTS = {
    "Cyrillic script": (r"\p{Cyrillic}", 0.5),
    "Greek script": (r"\p{Greek}", 0.5),
    "Arabic script": (r"\p{Arabic}", 0.5),
    "Hebrew script": (r"\p{Hebrew}", 0.5),
    "Devanagari script": (r"\p{Devanagari}", 0.5),
    "Thai script": (r"\p{Thai}", 0.5),
    "Korean script": (r"\p{Hangul}", 0.5),
    "Japanese script": (r"[\p{Hiragana}\p{Katakana}]", 0.1),  # before Chinese: many a Japanese letter is a Chinese one
    "Chinese script": (r"\p{Han}", 0.5),
}
LANGUAGES = (UNCLEAR, *SMALL_WORDS, *SCRIPTS)

_WORDS = sorted({word for words in SMALL_WORDS.values() for word in words.split()})
_HITS = np.array([[word in words.split() for words in SMALL_WORDS.values()] for word in _WORDS], np.float32)


def guess_languages(reviews: pa.Array) -> np.ndarray:
    """Guess in which language each review is written.

    Args:
        reviews: string, shape (num_reviews,), as given; null counts as empty.

    Returns:
        int8, shape (num_reviews,): places in `LANGUAGES`; 0, unclear, where fewer than two small words of any language occur.

    >>> [LANGUAGES[place] for place in guess_languages(pa.array(["It was not for me", "Das ist nicht gut", "Отлично", "ok"]))]
    ['English', 'German', 'Cyrillic script', 'unclear']
    """
    start = pc.utf8_lower(pc.utf8_slice_codeunits(pc.fill_null(reviews.cast(pa.string()), ""), 0, CHARACTERS_READ))
    words = pc.ascii_split_whitespace(start)
    hits = _count_hits(words)
    best = hits.argmax(axis=1)
    languages = np.where(hits[np.arange(len(hits)), best] >= FEWEST_HITS, best + 1, 0).astype(np.int8)
    undecided = np.flatnonzero((languages == 0) & ~pc.string_is_ascii(start).to_numpy(zero_copy_only=False))
    languages[undecided] = _guess_scripts(start.take(pa.array(undecided)))
    return languages


def _count_hits(words: pa.Array) -> np.ndarray:
    """Return how many small words of each language the reviews hold, float32, shape (num_reviews, num_languages)."""
    from scipy.sparse import csr_array

    places = pc.index_in(words.flatten(), value_set=pa.array(_WORDS))
    found = pc.is_valid(places).to_numpy(zero_copy_only=False)
    before = np.concatenate([[0], np.cumsum(found)])
    offsets = words.offsets.to_numpy()
    columns = pc.drop_null(places).to_numpy()
    counts = csr_array((np.ones(len(columns), np.float32), columns, before[offsets - offsets[0]]), shape=(len(words), len(_WORDS)))
    return counts @ _HITS


def _guess_scripts(start: pa.Array) -> np.ndarray:
    """Return the first script that enough of the letters belong to, as places in `LANGUAGES`; 0 where there is none."""
    letters = pc.count_substring_regex(start, r"\pL").to_numpy(zero_copy_only=False)
    languages = np.zeros(len(letters), np.int8)
    for place, (characters, enough) in enumerate(SCRIPTS.values(), start=1 + len(SMALL_WORDS)):
        of_script = pc.count_substring_regex(start, characters).to_numpy(zero_copy_only=False)
        languages[(languages == 0) & (of_script > 0) & (of_script >= enough * letters)] = place
    return languages
