import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = {
    f"tasks.{name}"
    for name in (
        *("ingest", "clean", "tokenize", "split", "unlabelled", "train", "evaluate", "promote", "report", "score", "summarize"),
        "measure",  # of the training flow too, for its folds; a search stands on it
    )
}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): ast.parse(path.read_text(encoding="utf-8")) for top in ("flows", "tasks") for path in (ROOT / top).rglob("*.py")}
PACKAGES = {name for name in MODULES if any(other.startswith(f"{name}.") for other in MODULES)}


def _imports(module: str) -> set[str]:
    """Return the project modules that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & MODULES.keys() - {module}


IMPORTS = {module: _imports(module) for module in MODULES}


def test_the_map_is_of_this_project() -> None:
    """The walls below are tested against modules that are there and imports that are found."""
    assert set(MODULES) >= STEPS | {"flows.training", "tasks.reviews.text", "tasks.model.lstm"}
    assert "tasks.reviews.text" in IMPORTS["tasks.clean"] and "tasks.train" in IMPORTS["flows.training"]


def test_imports_run_downwards() -> None:
    """Tasks never import flows; no step imports another; what lies under the steps imports none of them."""
    tasks = {module: names for module, names in IMPORTS.items() if module.startswith("tasks")}
    assert {module for module, names in tasks.items() if any(name.startswith("flows") for name in names)} == set()
    below = ("tasks.reviews.", "tasks.model.", "tasks.store", "tasks.tables", "tasks.fingerprint", "tasks.schemas", "tasks.errors")
    assert {module for module, names in tasks.items() if (module in STEPS or module.startswith(below)) and names & STEPS} == set()


def test_imports_are_absolute() -> None:
    """Cache keys follow imports by their full names; a relative one would hide a module from them."""
    hidden = {module for module, tree in MODULES.items() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert hidden == set()


def test_packages_hold_no_code() -> None:
    """Cache keys count the modules that a step names, and no step names a package's own file."""
    assert {module for module in PACKAGES if MODULES[module].body} == set()


def test_reviews_know_nothing_of_models() -> None:
    """What comes in does not depend on what is learnt from it."""
    assert not {
        module
        for module, names in IMPORTS.items()
        if module.startswith("tasks.reviews") and any(n.startswith("tasks.model") for n in names)
    }


def test_no_import_goes_in_a_circle() -> None:
    """The modules can be put in an order in which each comes after all that it imports."""
    order = TopologicalSorter({module: names - PACKAGES for module, names in IMPORTS.items()}).static_order()
    assert set(order) | PACKAGES == set(MODULES)
