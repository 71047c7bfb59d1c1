"""What a cache key is made of: digests of bytes, of settings, of the code a step uses, and library versions."""

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_PROJECT = "tasks"
_ROOT = Path(__file__).parents[1]
_CHUNK_BYTES = 1 << 20


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Return the one JSON text that equal values share; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each named distribution."""
    return {name: importlib.metadata.version(name) for name in sorted(names)}


@functools.cache
def module_digests(module: str) -> dict[str, str]:
    """Return the code digest of a project module and of every project module it imports, however deep.

    Comments, docstrings and layout do not count. Imports inside functions do.
    """
    digests: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in digests:
            continue
        tree = ast.parse(_source_path(name).read_text(encoding="utf-8"))
        waiting.extend(_project_imports(tree))
        digests[name] = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()
    return dict(sorted(digests.items()))


def _source_path(module: str) -> Path:
    """Find a project module by its name alone: asking Python's import system would import its parents, TensorFlow with them."""
    place = _ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _project_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _is_project(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_project(node.module):
            yield node.module
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if _source_path(submodule).is_file():
                    yield submodule


def _is_project(module: str) -> bool:
    return module == _PROJECT or module.startswith(f"{_PROJECT}.")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
