"""JSON from files that may be damaged, or made to do harm."""

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is none, or nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error
