"""Names and messages that a terminal shows as they are: a file may be called anything."""


def printable(text: str) -> str:
    """Return text with all that would steer a terminal, or cannot be written to it, as an escape; line ends stay.

    >>> printable("\\x1b[31mred\\udce9")
    '\\\\x1b[31mred\\\\udce9'
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in "\n\t" else repr(character)[1:-1] for character in text)


def is_utf8(text: str) -> bool:
    """Return whether text can be written down; a file's name or a word of a command may hold other bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
