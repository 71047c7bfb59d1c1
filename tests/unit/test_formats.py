import codecs
import gzip
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.errors import DataError
from tasks.reviews.readers import FileFormat, ReaderSettings, describe_file, read_batches

DETECT = ReaderSettings()


def _described(tmp_path: Path, content: str | bytes, name: str = "input", **settings: object) -> FileFormat:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return describe_file(path, ReaderSettings.model_validate(settings))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_told_by_content(tmp_path: Path, delimiter: str) -> None:
    """The delimiter that the records agree on is found, though prose holds the others."""
    rows = [["id", "review", "stars"], *([f"{n}", "well, yes; really | no", "4,5"] for n in range(9))]
    content = "\n".join(delimiter.join(f'"{v}"' if delimiter in v else v for v in row) for row in rows)
    found = _described(tmp_path, content)
    assert (found.delimiter, found.columns) == (delimiter, ("id", "review", "stars"))
    assert found.format == ("tsv" if delimiter == "\t" else "csv") and found.header


def test_equally_good_delimiters_go_by_custom(tmp_path: Path) -> None:
    """Where two delimiters explain a file equally, the comma wins."""
    assert _described(tmp_path, "review,a;b\n1,2;3\n", "a.csv").delimiter == ","


@pytest.mark.parametrize(
    ("first", "header"),
    [
        ("review,sentiment", True),
        ("Kommentar,Kunde", True),
        (",review", True),
        ("a fine film,positive", False),
        ("a fine film,1", False),
        ("2024-01-05,a fine film", False),
        (f"{'long ' * 20},x", False),
    ],
)
def test_headers_are_told_from_rows(tmp_path: Path, first: str, header: bool) -> None:
    """A usual name makes a header; a number, a long text or a value that comes again makes a row."""
    found = _described(tmp_path, f"{first}\nbad,positive\ngood,negative\n", "a.csv")
    assert found.header is header
    assert found.columns == (("column_1", "column_2") if not header else found.columns)
    assert _described(tmp_path, f"{first}\nx,y\n", "a.csv", header=False).columns == ("column_1", "column_2")


def test_prose_with_commas_is_no_table(tmp_path: Path) -> None:
    """A sentence that holds a usual column name between commas is text, unless its name says table; short names on top are a table."""
    prose = "The cast is fine as far as it goes and the music is better still, review, and that is all there is to say of it."

    assert _described(tmp_path, prose, "1.txt").format == "text"
    assert _described(tmp_path, "id,review\n1,good\n", "2.txt").format == "csv"


def test_a_single_column_is_not_split_at_its_commas(tmp_path: Path) -> None:
    """A CSV of one column keeps its prose whole, quoted or not."""
    path = tmp_path / "one.csv"
    path.write_text('review\nwell, yes\n"a ""b"", c"\n')
    (batch,) = read_batches(path, "it", DETECT)
    assert batch.columns.to_pydict() == {"review": ["well, yes", 'a "b", c']} and not batch.refused
    assert describe_file(path, DETECT).delimiter is None
    assert _described(tmp_path, "so good, really\nbad\nfine\n", "a.csv").columns == ("so good, really",)


def test_the_format_fits_in_one_line(tmp_path: Path) -> None:
    """What was detected can be shown to people."""
    content = gzip.compress("id;review\n1;gut\n".encode("utf-8-sig"))
    assert str(_described(tmp_path, content)) == "csv, gz, utf-8-sig, delimiter ';', header, columns id, review"
    many = str(_described(tmp_path, ",".join(["review", *(f"c{n}" for n in range(50))]) + "\n", "a.csv"))
    assert "\n" not in many and many.endswith("and 39 more")


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        ('{"text": "a"}\n{"text": "b"}\n', "feed", "jsonl"),
        ('[{"text": "a"}]', "feed", "json"),
        ('  [\n {"text": "a"}]', "feed.txt", "json"),
        ("[deleted]\nanother comment\n", "feed.txt", "text"),
        ("Hello, world.\nBye, world.\n", "feed.txt", "text"),
        ("so good\t1\nso bad\t0\n", "feed.txt", "tsv"),
        ("id,text\n1,a\n", "feed", "csv"),
        ("a b\nc d\n", "feed.csv", "csv"),
        ("{not json\nnor this}\n", "feed", "text"),
        ("broken\n{}\n", "feed.jsonl", "jsonl"),
        ("broken\n{}\n", "feed.jsonl.gz", "jsonl"),
    ],
)
def test_formats_are_told_by_content_then_name(tmp_path: Path, content: str, name: str, expected: str) -> None:
    """Content decides where it can; the name where the content leaves a choice."""
    assert _described(tmp_path, content, name).format == expected


def test_settings_overrule_detection(tmp_path: Path) -> None:
    """What the caller gives is not detected."""
    found = _described(tmp_path, "a;b\tc\n", format="csv", delimiter="\\t", header=False, encoding="cp1252")
    assert (found.format, found.delimiter, found.encoding, found.columns) == (
        "tsv",
        "\t",
        "cp1252",
        ("column_1", "column_2"),
    )
    assert _described(tmp_path, "id,text\n1,a\n", format="text").columns == ("review",)
    for wrong in (
        {"encoding": "utf-99"},
        {"encoding": "base64"},
        {"delimiter": '"'},
        {"delimiter": ",,"},
        {"format": "pdf"},
    ):
        with pytest.raises(ValidationError):
            ReaderSettings.model_validate(wrong)


@pytest.mark.parametrize(
    ("encoding", "mark", "expected"),
    [
        ("utf-8", codecs.BOM_UTF8, "utf-8-sig"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "utf-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "utf-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "utf-32"),
    ],
)
@pytest.mark.parametrize("declared", [None, "utf-8", "cp1252"])
def test_unicode_is_told_by_its_mark(tmp_path: Path, encoding: str, mark: bytes, expected: str, declared: str | None) -> None:
    """A byte order mark decides whatever was declared, is no part of the first name, and every text survives."""
    path = tmp_path / "a.csv"
    path.write_bytes(mark + "review;id\r\n„naïve“ 😀;1\r\n".encode(encoding))
    settings = ReaderSettings(encoding=declared)
    assert describe_file(path, settings).encoding == expected
    (batch,) = read_batches(path, "it", settings)
    assert batch.columns.to_pydict() == {"review": ["„naïve“ 😀"], "id": ["1"]}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_told_when_certain(tmp_path: Path, encoding: str) -> None:
    """Text that is mostly ASCII has a NUL in every other place, and nothing else has."""
    path = tmp_path / "a.csv"
    path.write_bytes("review;id\r\nnaïve, “so so” 😀;1\r\n".encode(encoding))
    assert describe_file(path, DETECT).encoding == encoding
    assert next(read_batches(path, "it", DETECT)).columns.to_pydict() == {"review": ["naïve, “so so” 😀"], "id": ["1"]}


GERMAN = "review;id\n" + "Schön für Käufer – „größtenteils“ gut, 5 €;1\n" * 5


def test_cp1252_is_detected_when_certain(tmp_path: Path) -> None:
    """Western text that is not UTF-8 is read as cp1252 and said to be."""
    path = tmp_path / "a.csv"
    path.write_bytes(GERMAN.encode("cp1252"))
    assert describe_file(path, DETECT).encoding == "cp1252"
    assert next(read_batches(path, "it", DETECT)).columns["review"][0].as_py().startswith("Schön für Käufer – „größt")


def test_utf8_among_cp1252_is_refused(tmp_path: Path) -> None:
    """A file joined from two: the rows of the minority are no garbage in the result, they stand in the quarantine."""
    path = tmp_path / "a.csv"
    path.write_bytes((GERMAN * 5).encode("cp1252") + "café;2\n".encode() + "café;3\n".encode("cp1252"))
    batches = list(read_batches(path, "it", DETECT))
    assert batches[0].columns["review"].to_pylist()[-1] == "café" and batches[0].columns.num_rows == 30
    (refused,) = batches[0].refused
    assert refused.line == 31 and refused.reason.startswith("column 'review' holds UTF-8 in a file that looks like cp1252")
    declared = list(read_batches(path, "it", ReaderSettings(encoding="cp1252")))
    assert declared[0].columns["review"].to_pylist()[-2:] == ["cafÃ©", "café"]


@pytest.mark.parametrize(
    "content",
    [
        ("review\n" + "но осень была холоднее зимы\n" * 5).encode("cp1251"),
        ("review\n" + "bardzo śliczny i miły\n" * 5).encode("cp1250"),
        ("review\n" + "fine\n" * 50).encode() + b"caf\xe9\n",
        ("review\n" + "fine\n" * 50 + "café\n" * 50).encode() + b"caf\xe9\n" * 4,
        ("review\n" + "fine\n" * 50).encode() + b"bad \xff\xfe\n" * 5,
        "review\n素晴らしい映画\n".encode("shift-jis") * 5,
    ],
)
def test_cp1252_is_not_guessed_in_doubt(tmp_path: Path, content: bytes) -> None:
    """Other encodings, and UTF-8 with damage, are not read as Western letters; their rows are refused."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert describe_file(path, DETECT).encoding == "utf-8"
    assert any(batch.refused for batch in read_batches(path, "it", DETECT))


REVIEWS = {
    "German": "Das Gerät ist schön, die Größe nicht; ½ Stunde!\nÜbrigens: 12,50 € zu viel…\n„Sehr gut“, für 3½ Sterne.\nÖfter größer.\n",
    "French": "L’été, nous étions déçus du séjour.\nÇa ne vaut pas ½ étoile… « médiocre ».\nDes œufs froids, 15 € de plus¨.\nÀ éviter.\n",
    "English": "I don’t like it — “fine”, but 2½ hours.\nThe café wasn’t open… we’d have paid £12 or €15.\nNaïve ¾ – “ok”\n",
    "Spanish": "Mañana volveré, ¡qué película! ¿No?\nEl corazón latió así, también el niño.\nÁrbol, canción, número, inglés.\n",
    "Polish": "Zażółć gęślą jaźń, bardzo dobry film.\nKsiążka była świetna, choć za długa.\nNie podobało się, że bohater ginie.\n",
    "Czech": "Kůň úpěl ďábelské ódy, skvělý film.\nHerci byli výborní, děj se mi líbil.\nDoporučuji všem, kdo mají rádi komedie.\n",
    "Croatian": "Čaša je puna, šuma je lijepa, život je čudo.\nGlumci su odlični, šteta za kraj.\nŽao mi je što nije duži.\n",
    "Hungarian": "Nagyon jó film volt, a főszereplő kitűnő.\nGyönyörű képekkel, hűvös.\nNem tetszett, túl hosszú és unalmas.\n",
    "Romanian": "Filmul a fost foarte bun, şi actorii, însă ţinta.\nNu mi-a plăcut sfârşitul.\n şi totuşi ţara noastră.\n",
    "Russian": "Очень хороший фильм, всем советую.\n",
    "Turkish": "Çok güzel bir film, şahane.\nIğdır’da çekilmiş, oyuncular iyi değildi.\nKötü bir sonu var ama güldük.\n",
}


@pytest.mark.parametrize("language", ["German", "French", "English", "Spanish"])
def test_western_signs_are_detected_too(tmp_path: Path, language: str) -> None:
    """Halves, euros, umlaut marks and curly quotes are in Western texts what letters are."""
    path = tmp_path / "a.csv"
    path.write_bytes(("review\n" + REVIEWS[language]).encode("cp1252"))
    assert describe_file(path, DETECT).encoding == "cp1252"


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        *((language, "mac_roman") for language in ("German", "French", "English", "Spanish")),
        *((language, "cp850") for language in ("German", "French", "Spanish")),
        *(
            (language, encoding)
            for language in ("Polish", "Czech", "Croatian", "Hungarian", "Romanian")
            for encoding in ("latin2", "cp1250")
        ),
        *(("Russian", encoding) for encoding in ("koi8_r", "cp1251", "cp866", "mac_cyrillic")),
        ("Turkish", "cp1254"),
    ],
)
def test_encodings_that_look_like_cp1252(tmp_path: Path, language: str, encoding: str) -> None:
    """What Apple and DOS wrote, and the languages of Eastern Europe, are not taken for cp1252, though every byte means something there."""
    path = tmp_path / "a.csv"
    path.write_bytes(("review\n" + REVIEWS[language] * 3).encode(encoding, "ignore"))
    assert describe_file(path, DETECT).encoding == "utf-8"


@pytest.mark.parametrize("line", ["un cœur de pierre, très beau", "à 20 € c'est très cher", "Žádný déjà vu, mon cœur brûlé"])
def test_latin_9_is_not_taken_for_cp1252(tmp_path: Path, line: str) -> None:
    """ISO-8859-15 has œ and € where cp1252 has ½ and ¤: words would be wrong without a sign of it."""
    path = tmp_path / "reviews.csv"
    path.write_bytes(("review\n" + "Ce café est déjà très agréable, même l'été.\n" * 20 + f"{line}\n" * 3).encode("iso-8859-15"))

    assert describe_file(path, DETECT).encoding == "utf-8"


def test_broken_utf16_is_refused_by_the_row(tmp_path: Path) -> None:
    """Half a surrogate pair and an odd last byte cost their rows only."""
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffreview\r\ngood\r\nx".encode("utf-16-le") + b"\x00\xd8" + "\r\nfine\r\nz".encode("utf-16-le") + b"a")
    (batch,) = read_batches(path, "it", DETECT)
    assert batch.columns.to_pydict() == {"review": ["good", "fine"]} and [row.row for row in batch.refused] == [2, 4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (codecs.BOM_UTF8 + b"\r\n \n", "is empty"),
        ("отзыв,id\nплохой фильм,1\n".encode("utf-16-le"), "--encoding utf-16-le"),
        (bytes(range(1, 32)) * 20, "is not text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 100, "Excel file of the old kind"),
        (b"r\xe9view,id\na,1\n", "header of .* is not utf-8"),
    ],
)
def test_what_is_no_table_says_what_to_do(tmp_path: Path, content: bytes, words: str) -> None:
    """An empty file, a binary one and an undecodable header are errors that name the file."""
    with pytest.raises(DataError, match=words):
        _described(tmp_path, content, "a.csv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7 ...", "a PDF. Export"),
        (b"SQLite format 3\0" + bytes(100), "an SQLite database. Export"),
        (b"ARROW1\0\0", "an Arrow file. Write it as Parquet"),
        (b"\x80\x04\x95" + bytes(20), "a Python pickle, which may hold a program and is never opened"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7z archive. Unpack it"),
        (b"a.csv".ljust(257, b"\0") + b"ustar\0" + bytes(300), "a tar archive. Unpack it"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>log in</html>", "a web page or XML"),
        (b'<?xml version="1.0"?><reviews/>', "a web page or XML"),
        (b"PARE" + bytes(20), "an encrypted Parquet file"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_other_formats_are_named_with_a_remedy(tmp_path: Path, content: bytes, words: str, name: str) -> None:
    """What only looks like an export by its name is called by its own, plain or compressed, and never scored line by line."""
    for data in (content, gzip.compress(content)):
        with pytest.raises(DataError, match=rf"{name} is {words}"):
            _described(tmp_path, data, name)


def test_office_documents_are_no_archives(tmp_path: Path) -> None:
    """An .ods or .docx is a zip inside, but its parts are no reviews."""
    for member in ("mimetype", "[Content_Types].xml"):
        with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
            archive.writestr(member, "x")
            archive.writestr("content.xml", "<x/>")
        with pytest.raises(DataError, match=r"office document.*Save it as \.xlsx or \.csv"):
            describe_file(tmp_path / "a.ods", DETECT)


def test_members_are_told_by_their_own_names(tmp_path: Path) -> None:
    """In an archive the member's name counts, not the archive's."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "Kommentar\nja, gut\n")
        archive.writestr("b.txt", "ja, gut\n")
    assert describe_file(path, DETECT, "a.csv").format == "csv"
    assert describe_file(path, DETECT, "b.txt").format == "text"
