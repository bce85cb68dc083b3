"""The code that a row depends on: changes elsewhere do not make a study measure it again."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ... import pipeline

PACKAGE = Path(pipeline.__file__).parent


@cache
def code_hash(*modules: str) -> str:
    """Hash modules of the package and all that they import of it, without comments, docstrings and types.

    Args:
        modules: Names below the package, such as "comparison.systems.ddpm".
    """
    waiting = list(modules)
    found: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        tree = without_docstrings(ast.parse(path_of(module).read_text()))
        found[module] = ast.dump(tree)
        waiting += imported(tree, module)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def imported(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports relatively, except those that only its types need."""
    parts = module.split(".")
    package = parts if path_of(module).name == "__init__.py" else parts[:-1]
    only_types = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in only_types:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            names = [".".join([*base, alias.name]) for alias in node.names]
            modules = [name for name in names if path_of(name).is_file()]
            if len(modules) < len(names) and base:  # some are names defined in the base itself
                modules.append(".".join(base))
            yield from modules


def path_of(module: str) -> Path:
    """Return the file of a module; it need not exist."""
    place = PACKAGE.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Remove docstrings from a program; it is changed in place and returned."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
