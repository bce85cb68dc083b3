"""The site that `make docs` builds: Markdown pages, the API from the docstrings, help and tutorial from their sources."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from diffusionct_pipeline import __version__, commands  # noqa: E402
from diffusionct_pipeline.commands import _main as cli  # noqa: E402

project, release, html_title = "DiffusionCT", __version__, f"DiffusionCT {__version__}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["agreement_fc13_fc51/README.md"]
html_theme = "furo"
html_copy_source = html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"  # beside what the docstring says of an argument, not in a long signature
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False  # torch's and diffusers' own are on their sites
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # attributes of one name in several classes
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 80


def setup(app):
    """Connect what is below."""
    app.connect("source-read", quote)
    app.connect("autodoc-process-docstring", from_markdown, priority=100)  # before napoleon


def quote(app, page, source):
    """Fill in what a page must not repeat by hand: `{{ commands }}` and `{{ tutorial }}`."""
    if "{{ commands }}" in source[0]:
        source[0] = source[0].replace("{{ commands }}", help_of_commands())
    if "{{ tutorial }}" in source[0]:
        source[0] = source[0].replace("{{ tutorial }}", notebook(ROOT / "examples/tutorial.ipynb"))


def help_of_commands():
    """A section for each command: what `--help` prints."""
    parser = cli.build_parser()
    (subparsers,) = (action.choices for action in parser._actions if action.dest == "command")
    return "\n\n".join(f"## {name}\n\n```text\n{subparsers[name].format_help()}```" for name in commands.available())


def notebook(path):
    """Cells of a notebook as Markdown, with what they printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [f"```text\n{''.join(output['text'])}```" for output in cell.get("outputs", ()) if "text" in output]
    return "\n\n".join(parts)


def from_markdown(app, what, name, thing, options, lines):
    """Docstrings are written in Markdown: code and blocks of it become what reStructuredText calls them."""
    fenced = re.split(r"(```python\n.*?```)", "\n".join(lines), flags=re.DOTALL)
    lines[:] = "".join(as_block(part) if part.startswith("```") else as_text(part) for part in fenced).splitlines()


def as_block(fence):
    """A fenced block as a directive."""
    return ".. code-block:: python\n\n" + "".join(f"    {line}\n" for line in fence.splitlines()[1:-1])


def as_text(text):
    """`code` as ``code``, and what only reStructuredText gives a meaning escaped."""
    spans = re.split(r"(`[^`]+`)", text)
    parts = (f"`{span}`" if span.startswith("`") else re.sub(r"([*|])", r"\\\1", span) for span in spans)
    return re.sub(r"(?<=\w``)(?=\w)", r"\\ ", "".join(parts))  # the s of `Dataset`s
