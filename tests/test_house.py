"""Every function of the package has types, and everything public says what it is."""

import ast
from pathlib import Path

import pytest

import diffusionct_pipeline

PACKAGE = Path(diffusionct_pipeline.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def functions(node, prefix="", public=True):
    """(name, whether it is public, node) of every class and function; those within functions are not public."""
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, (ast.ClassDef, ast.FunctionDef))
        name = f"{prefix}.{child.name}".lstrip(".") if named else prefix
        if named:
            seen = public and not child.name.startswith("_")
            yield name, seen, child
            yield from functions(child, name, seen and isinstance(child, ast.ClassDef))
        else:
            yield from functions(child, name, public)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_types_and_docstrings(path):
    tree, lacking = ast.parse(path.read_text()), []
    if not any(isinstance(node, (ast.ClassDef, ast.FunctionDef)) for node in tree.body):
        return
    for name, public, node in functions(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            returns = node.returns is not None or node.name == "__init__"
            lacking += [f"{name}({argument})" for argument in untyped] + ([] if returns else [f"{name} ->"])
        overload = "overload" in [getattr(decorator, "id", "") for decorator in node.decorator_list]
        if public and node.name != "forward" and not overload and not ast.get_docstring(node):
            lacking.append(f"{name}: docstring")
    assert ast.get_docstring(tree) and lacking == []
