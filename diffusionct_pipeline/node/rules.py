"""Rules: which series are standardized, and to which target. The first matching rule applies."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..utils.usage import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXTS = {
    "modality": "Modality",
    "kernel": "ConvolutionKernel",
    "body_part": "BodyPartExamined",
    "calling_ae": "calling AE",
}


@dataclass(frozen=True)
class Rule:
    """A rule: the series that it applies to, and their treatment.

    Attributes:
        name: Name in the log.
        modality, kernel, body_part, calling_ae: Patterns, one of which must match (with the wildcards `*` and `?`); empty: any.
        thickness: Range in mm; None: any.
        target: Kernel by name; None: the standard of the checkpoint.
        reference: File or folder whose texture is the target, in place of a kernel.
        noise: As in `standardize_folder`.
        skip: Whether such series are left alone.
    """

    name: str
    modality: Sequence[str] = ()
    kernel: Sequence[str] = ()
    body_part: Sequence[str] = ()
    calling_ae: Sequence[str] = ()
    thickness: tuple[float, float] | None = None
    target: str | None = None
    reference: str | None = None
    noise: str | float = "keep"
    skip: bool = False

    def fits(self, header: Mapping[str, Any]) -> bool:
        """Return whether the rule applies to a series with this header (keyword or "calling AE" -> text)."""
        for name, keyword in TEXTS.items():
            patterns, value = getattr(self, name), str(header.get(keyword) or "").strip()
            if patterns and not any(fnmatchcase(value.upper(), pattern.upper()) for pattern in patterns):
                return False
        if self.thickness is None:
            return True
        try:
            return self.thickness[0] <= float(header.get("SliceThickness") or "nan") <= self.thickness[1]
        except (TypeError, ValueError):
            return False


def first_rule(rules: Sequence[Rule], header: Mapping[str, Any]) -> Rule | None:
    """Return the first rule that applies to a header; None if there is none."""
    return next((rule for rule in rules if rule.fits(header)), None)


def read_rules(path: str | os.PathLike) -> list[Rule]:
    """Read a TOML file with one table `[[rule]]` per rule.

    Raises:
        UsageError: naming the file, the rule and what is allowed.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f'rules "{path}" must be TOML: {error}') from error
    tables = values.pop("rule", None)
    if values or not isinstance(tables, list) or not tables:
        raise UsageError(
            f'rules "{path}" must hold tables [[rule]] and nothing else, got {sorted(values) or tables!r}.'
        )
    return [_rule(table, f'rule {number} of "{path}"') for number, table in enumerate(tables, 1)]


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    known = [field.name for field in fields(Rule)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UsageError(f"{where}: the keys must be among {', '.join(known)}, got {unknown[0]!r}.")
    given: dict[str, Any] = {"name": where, **table}
    for name in TEXTS:
        value = given.get(name, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{where}: `{name}` must be a text or a list of texts, got {value!r}.")
        given[name] = tuple(value)
    if "thickness" in given:
        limits = given["thickness"]
        if not isinstance(limits, list) or len(limits) != 2 or not all(_is_number(item) for item in limits):
            raise UsageError(f"{where}: `thickness` must be [from, to] in mm, got {limits!r}.")
        given["thickness"] = tuple(limits)
    for name, kinds in (("name", str), ("target", str), ("reference", str), ("skip", bool)):
        if name in table and not isinstance(table[name], kinds):
            raise UsageError(f"{where}: `{name}` must be a {kinds.__name__}, got {table[name]!r}.")
    if "target" in table and "reference" in table:
        raise UsageError(f"{where}: only one of `target` and `reference` may be given.")
    if "reference" in table and not os.path.exists(table["reference"]):
        raise UsageError(f'{where}: reference "{table["reference"]}" does not exist.')
    noise = given.get("noise", "keep")
    if noise not in ("keep", "target") and not (_is_number(noise) and noise > 0):
        raise UsageError(f'{where}: `noise` must be "keep", "target" or a number of HU above 0, got {noise!r}.')
    return Rule(**given)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
