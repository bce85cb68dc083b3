"""Correct values that break the rules of their type (VR, PS3.5 section 6.2) for a derived image, where it is clear how."""

from __future__ import annotations

import datetime
import re
from typing import Any

DECIMAL = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", re.ASCII)
DECIMAL_STRING = 16  # characters of VR DS
INTEGER_LIMIT = 1 << 31  # of VR IS
LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "UI": 64, "ST": 1024, "LT": 10240}  # characters
DATE = re.compile(r"(\d{4})[-./ :]?(\d{2})[-./ :]?(\d{2})")
TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d+)?)?)?")
AGE = re.compile(r"(\d{1,3}) ?([DWMYdwmy])")
STAMP = re.compile(r"\d{4}(\d{2}(\d{2}(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?")
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")  # all except those allowed in ST and LT, and escapes


def mended(vr: str, value: str) -> str | None:
    """Return a value of an attribute in the form that its type requires; None where it is not clear how.

    Args:
        vr: DA, TM, DT, AS, CS, UI, AE, or a type of free text. Values of other types are returned as they are.
        value: The value as it was read.
    """
    text = CONTROL.sub("", value).strip(" \0")
    if text == "":
        return ""
    if vr == "DA":
        return _date(text)
    if vr == "TM":
        return _time(text)
    if vr == "AS":
        found = AGE.fullmatch(text)
        return f"{int(found[1]):03d}{found[2].upper()}" if found else None
    if vr == "DT":
        return text if STAMP.fullmatch(text) else None
    if vr == "UI":
        return text if UID.fullmatch(text) and len(text) <= LONGEST["UI"] else None
    if vr == "CS":
        text = text.upper()
        return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else None
    if vr == "AE":
        return text if len(text) <= LONGEST["AE"] else None
    if vr in ("SH", "LO"):
        return text[: LONGEST[vr]].rstrip()
    return CONTROL.sub("", value)


def mended_integer(value: Any) -> int | None:
    """Return a valid IS, None where the value is out of range."""
    number = int(value)
    return number if -INTEGER_LIMIT <= number < INTEGER_LIMIT else None


def is_decimal(text: str) -> bool:
    """Return whether a text is a valid DS."""
    return len(text) <= DECIMAL_STRING and DECIMAL.fullmatch(text) is not None


def _date(text: str) -> str | None:
    """Return a date in DICOM's form: "2020-01-02" -> "20200102"."""
    found = DATE.fullmatch(text)
    try:
        return datetime.date(*map(int, found.groups())).strftime("%Y%m%d") if found else None
    except ValueError:  # no such day
        return None


def _time(text: str) -> str | None:
    """Return a time in DICOM's form: "12:03:04.1" -> "120304.1"."""
    found = TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    return hour + (minute or "") + (second or "") + (fraction or "")[:7].rstrip(".")
