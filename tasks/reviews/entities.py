"""HTML entities: what `&amp;`, `&rsquo;`, `&#39;` and their like stand for, as web pages and their dumps are full of them.

A finite table, so that an exported graph can carry it: all names that HTML has, and the numbers of Latin, Greek and Cyrillic letters and of
general punctuation. A number of any other character (an emoji, say) becomes a space, a name that HTML has not stays as it is.
"""

import functools
import html
import re
from html.entities import html5

import pyarrow as pa
import pyarrow.compute as pc

ENTITY = r"&[#A-Za-z][A-Za-z0-9]{1,31};"
NUMBER = r"&#[A-Za-z0-9]{1,31};"  # what an entity is that has no name
_NUMBERS = (*range(1, 0x500), *range(0x2000, 0x2200))


def decode_entities(text: pa.Array) -> pa.Array:
    """Return text with the characters that its entities stand for, once: `&amp;lt;` becomes `&lt;`.

    Args:
        text: string, shape (num_rows,), without null.

    >>> decode_entities(pa.array(["don&#39;t &lt;3 caf&eacute;s &#128077; &nonsense;"])).to_pylist()
    ["don't <3 cafés   &nonsense;"]
    """
    holding = pc.match_substring_regex(text, ENTITY)
    if not pc.any(holding).as_py():
        return text
    decoded = [re.sub(ENTITY, _decoded, row) for row in text.filter(holding).to_pylist()]
    return pc.replace_with_mask(text, holding, pa.array(decoded, pa.string()))


def _decoded(entity: re.Match[str]) -> str:
    return entity_table().get(entity[0], " " if re.match(NUMBER, entity[0]) else entity[0])


@functools.cache
def entity_table() -> dict[str, str]:
    """Return what each entity stands for; a space where HTML has it stand for nothing.

    Source: the HTML standard's named character references and its rules for numeric ones, as Python's `html` has them.
    """
    entities = [f"&{name}" for name in html5 if name.endswith(";")]
    for number in _NUMBERS:
        digits = {f"{number}", f"{number:03}", f"{number:04}"}
        digits |= {f"{x}{number:{form}}" for x in "xX" for form in ("x", "X", "02x", "02X", "04x", "04X")}
        entities.extend(f"&#{each};" for each in digits)
    return {entity: html.unescape(entity) or " " for entity in entities}
