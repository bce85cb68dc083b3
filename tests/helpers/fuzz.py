"""Damaged DICOM by the thousand: a seeded mutator of CT slices, and what must be true of every file it makes.

PYTHONPATH=.:tests python -m helpers.fuzz 10000    # prints the counts of 10,000 files and the slowest
"""

import collections
import io
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from diffusionct_pipeline.dicom import DicomError, read_slice, scan_folder, write_slice
from diffusionct_pipeline.simulation import ScanOptions, simulate_pair, write_series

from .dicom import derive, make_slice
from .scans import coarse_phantom, coarse_scanner

BUNDLED = ("CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm")  # CT in the wheel of pydicom
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)  # those that the test dependencies write
SYNTAXES = (*COMPRESSED, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian,
            ImplicitVRLittleEndian, JPEG2000, JPEGBaseline8Bit, JPEGLosslessSV1, MPEG2MPML, "1.2.3", "")  # fmt: skip
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT")  # with a length of 4 bytes
VRS = (*LONG_VRS, b"UI", b"DS", b"IS", b"US", b"SS", b"FD", b"AT", b"PN", b"CS", b"LO", b"DA", b"??", b"\0\0", b"ui")
NUMBERS = (b"NaN", b"inf", b"-inf", b"1e300", b"-1e300", b"1e-300", b"0", b"", b"-1", b"1\\2\\3", b"99999999999",
           b"1,5", b"0x10", b"\xd9\xa3", b"1e", b"--1", b"65535", b"1e5", b"\\", b" " * 20, b"7" * 300)  # fmt: skip
CHARACTER_SETS = (b"ISO_IR 192", b"ISO_IR 100", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"GB18030", b"nonsense",
                  b"ISO_IR 192\\ISO 2022 IR 58", b"\xff\xfe", b"\\\\\\")  # fmt: skip
NUMERIC = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
WRITTEN_NUMBERS = ("RescaleSlope", "RescaleIntercept", "PixelSpacing", "SliceThickness", "ImagePositionPatient",
                   "ImageOrientationPatient", "InstanceNumber", "SeriesNumber", "SliceLocation", "KVP",
                   "NumberOfFrames")  # fmt: skip
PIXEL_DATA = b"\xe0\x7f\x10\x00"
SLOWEST = 30.0  # seconds for one file: the limit of a decoder, on a busy machine


def corpus():
    """(name, bytes) of whole CT slices: of pydicom, made to measure, simulated, derived, and compressed ones."""
    files = []
    for name in BUNDLED:
        path = get_testdata_file(name, download=False)
        if path is not None:
            files.append((name, Path(path).read_bytes()))
    hu = np.random.default_rng(0).integers(-1000, 1000, (32, 32)).astype(float)
    made = [make_slice(hu), make_slice(hu, signed=False, bits=12), make_slice(hu, slope=0.5)]
    made.append(derive(read_slice(make_slice(hu, PixelPaddingValue=-3))))
    for syntax in COMPRESSED:
        dataset = make_slice(hu, signed=False, bits=12)
        dataset.compress(syntax, **({"encoding_plugin": "pylibjpeg"} if syntax == JPEG2000Lossless else {}))
        made.append(dataset)
    for number, dataset in enumerate(made):
        written = io.BytesIO()
        pydicom.dcmwrite(written, dataset, enforce_file_format=True)
        files.append((f"made {number}", written.getvalue()))
    pair = simulate_pair(coarse_phantom(0), 0.0, ScanOptions(kernels=("Br40",), size=64), scanner=coarse_scanner())
    with tempfile.TemporaryDirectory() as folder:
        written = write_series(Path(folder, "scan"), [pair])
        files += [("simulated", path.read_bytes()) for path in sorted(written.rglob("*.dcm"))]
    return files


def elements(data):
    """(offset, bytes before the value, length) of each element at the top of an explicit little-endian file."""
    at = 132
    while at + 8 <= len(data):
        vr, head = data[at + 4 : at + 6], 8
        (length,) = struct.unpack_from("<H", data, at + 6)
        if vr in LONG_VRS:
            head = 12
            (length,) = struct.unpack_from("<I", data, at + 8)
        if length == 0xFFFFFFFF or at + head + length > len(data):
            length = len(data) - at - head
        yield at, head, length
        at += head + length


def element_of(data, keyword):
    """The same of one element, or None."""
    tag = pydicom.tag.Tag(keyword)
    start = struct.pack("<HH", tag.group, tag.element)
    return next((found for found in elements(data) if data[found[0] : found[0] + 4] == start), None)


def with_value(data, found, value):
    """Another value of an element, with its length."""
    at, head, length = found
    value += b" " * (len(value) % 2)
    size = struct.pack("<I" if head == 12 else "<H", len(value))
    return data[: at + head - len(size)] + size + value + data[at + head + length :]


def flip(data, rng, first=0, last=None, most=8):
    """Other bits in up to `most` bytes of a range."""
    last = len(data) if last is None else last
    if last <= first:
        return data
    changed = bytearray(data)
    for at in rng.integers(first, last, rng.integers(1, most + 1)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def pixel_offset(data):
    found = element_of(data, "PixelData")
    return found[0] if found else len(data)


def flip_anywhere(data, rng):
    return flip(data, rng)


def flip_header(data, rng):
    return flip(data, rng, 132, pixel_offset(data))


def flip_pixels(data, rng):
    return flip(data, rng, pixel_offset(data), most=40)


def flip_start_of_pixels(data, rng):
    """Where fragments and code streams have their headers."""
    start = pixel_offset(data)
    return flip(data, rng, start, min(len(data), start + 150))


def random_bytes(data, rng):
    at = rng.integers(len(data))
    return data[:at] + rng.bytes(rng.integers(1, 64)) + data[at + rng.integers(64) :]


def cut(data, rng):
    return data[: rng.integers(len(data))]


def any_element(data, rng):
    found = list(elements(data)) or [(0, 8, 0)]
    return found[rng.integers(len(found))]


def another_vr(data, rng):
    at = any_element(data, rng)[0] if rng.integers(3) else pixel_offset(data)
    return data[: at + 4] + VRS[rng.integers(len(VRS))] + data[at + 6 :]


def another_tag(data, rng):
    at, other = any_element(data, rng)[0], any_element(data, rng)[0]
    tag = data[other : other + 4] if rng.integers(2) else rng.bytes(4)
    return data[:at] + tag + data[at + 4 :]


def another_length(data, rng):
    at, head, _ = any_element(data, rng)
    length = (0, 1, 7, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)[rng.integers(9)]
    size = struct.pack("<I", length) if head == 12 else struct.pack("<H", length & 0xFFFF)
    return data[: at + head - len(size)] + size + data[at + head :]


def no_element(data, rng):
    at, head, length = any_element(data, rng)
    return data[:at] + data[at + head + length :]


def twice_an_element(data, rng):
    at, head, length = any_element(data, rng)
    return data[: at + head + length] + data[at:]


def odd_number(data, rng):
    found = element_of(data, WRITTEN_NUMBERS[rng.integers(len(WRITTEN_NUMBERS))])
    number = NUMBERS[rng.integers(len(NUMBERS))]
    count = rng.integers(1, 4) if rng.integers(2) else (2, 3, 6)[rng.integers(3)]
    return data if found is None else with_value(data, found, b"\\".join([number] * count))


def odd_layout(data, rng):
    """Sizes and layouts that the pixels do not have, huge ones among them."""
    for _ in range(rng.integers(1, 3)):
        found = element_of(data, NUMERIC[rng.integers(len(NUMERIC))])
        number = (0, 1, 2, 8, 12, 15, 16, 31, 33, 64, 512, 8192, 8193, 65535)[rng.integers(14)]
        data = data if found is None else with_value(data, found, struct.pack("<H", number))
    return data


def odd_text(data, rng):
    value = (b"\\", b"\xff" * 8, b"\0", b"1" * 70, b"\x1b$B\x1b(B", "ü".encode() * 40, b"a\\b\\c", b"1.2..3", b"\r\n")
    return with_value(data, any_element(data, rng), value[rng.integers(len(value))])


def odd_character_set(data, rng):
    found = element_of(data, "SpecificCharacterSet")
    name = CHARACTER_SETS[rng.integers(len(CHARACTER_SETS))]
    if found is not None:
        data = with_value(data, found, name)
    else:
        at = next((at for at, _, _ in elements(data) if data[at : at + 2] != b"\x02\x00"), len(data))
        name += b" " * (len(name) % 2)
        data = data[:at] + b"\x08\x00\x05\x00CS" + struct.pack("<H", len(name)) + name + data[at:]
    for keyword in ("PatientName", "SeriesDescription", "ImageType", "ConvolutionKernel"):
        found = element_of(data, keyword)
        if found is not None and rng.integers(2):
            data = with_value(data, found, rng.bytes(rng.integers(30)))
    return data


def another_syntax(data, rng):
    value = str(SYNTAXES[rng.integers(len(SYNTAXES))]).encode()
    found = element_of(data, "TransferSyntaxUID")
    return data if found is None else with_value(data, found, value + b"\0" * (len(value) % 2))


def sequences_in_sequences(data, rng):
    """Source images of source images of ..., of known or unknown length."""
    depth, tag = int((3, 50, 400, 3000)[rng.integers(4)]), b"\x08\x00\x12\x21SQ\0\0"
    if rng.integers(2):
        start, end = tag + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4, b"\xfe\xff\x0d\xe0" + bytes(4)
        end += b"\xfe\xff\xdd\xe0" + bytes(4)
        nest = start * depth + (end * depth if rng.integers(2) else b"")
    else:
        nest = b""
        for _ in range(depth):
            nest = tag + struct.pack("<I", len(nest) + 8) + b"\xfe\xff\x00\xe0" + struct.pack("<I", len(nest)) + nest
    after = [at for at, _, _ in elements(data) if data[at : at + 4] > tag[:4] and data[at] != 2]
    at = after[0] if after else len(data)
    return data[:at] + nest + data[at:]


def odd_fragments(data, rng):
    """Lengths, order and number of the fragments of compressed pixels."""
    start = pixel_offset(data)
    items = [at for at in range(start, min(len(data) - 8, start + 400)) if data[at : at + 4] == b"\xfe\xff\x00\xe0"]
    if not items:
        return flip_start_of_pixels(data, rng)
    at = items[rng.integers(len(items))]
    length = (0, 1, 3, 0xFFFE, 0x7FFFFFFF, 0xFFFFFFFF)[rng.integers(6)]
    changes = (
        data[: at + 4] + struct.pack("<I", length) + data[at + 8 :],
        data[:at] + b"\xfe\xff\x00\xe0" + bytes(4) + data[at:],
        data[:at] + data[at + 8 :],
        data[:-8],
        data[:at] + data[at : at + 60] + data[at:],
    )
    return changes[rng.integers(len(changes))]


MUTATIONS = (
    flip_anywhere, flip_header, flip_pixels, flip_start_of_pixels, random_bytes, cut, another_vr, another_tag,
    another_length, no_element, twice_an_element, odd_number, odd_layout, odd_text, odd_character_set, another_syntax,
    sequences_in_sequences, odd_fragments,
)  # fmt: skip


def damaged(files, number):
    """The damaged file of a number, always the same: (what was done, bytes)."""
    rng = np.random.default_rng(number)
    name, data = files[rng.integers(len(files))]
    steps = [MUTATIONS[number % len(MUTATIONS)]]
    if not rng.integers(4):
        steps.append(MUTATIONS[rng.integers(len(MUTATIONS))])
    for step in steps:
        data = step(data, rng) or b"\0"
    return f"{name}: {', '.join(step.__name__ for step in steps)}", data


def independent_hu(path):
    """HU by pydicom alone and bits; None where pydicom does not decode the file."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        bits, high = int(dataset.BitsStored), dataset.get("HighBit")
        shift = 0 if high is None or high == "" else int(high) + 1 - bits
        stored = dataset.pixel_array.astype(np.int64)
        if shift:  # which pydicom does not know
            stored = pydicom.pixels.pixel_array(dataset, raw=True, correct_unused_bits=False).astype(np.int64) & 0xFFFF
        # Bits above BitsStored mean nothing; pydicom drops them from uncompressed pixels only.
        stored = (stored >> shift) & ((1 << bits) - 1)
        stored -= (stored >> (bits - 1)) * (int(dataset.PixelRepresentation) << bits)
        return stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    except Exception:
        return None


def verdict(path):
    """What became of the one file of a folder: "refused", "equal", "alone" (accepted, pydicom gives no pixels), or what
    is wrong."""
    begun = time.monotonic()
    try:
        scan = scan_folder(path.parent)
    except Exception as error:
        return f"the folder: {type(error).__name__}: {error}"
    if len(scan.series) + len(scan.skipped) != 1 or any(str(path) not in skipped.reason for skipped in scan.skipped):
        return f"the folder: {scan}"
    try:
        slice_ = read_slice(path)
    except DicomError as error:
        answer = "refused" if str(path) in str(error) else f"names no file: {error}"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    else:
        expected = independent_hu(path)
        if not np.isfinite(slice_.hu).all():
            answer = "HU that are not finite"
        elif expected is None:
            answer = "alone"
        else:
            same = slice_.hu.shape == expected.shape and np.array_equal(slice_.hu, expected.astype(np.float32))
            answer = "equal" if same else "other HU than pydicom's"
        try:
            write_slice(derive(slice_), path.with_name("derived.dcm")).unlink()
        except DicomError as error:
            answer = answer if str(path.parent) in str(error) else f"derived: names no file: {error}"
        except Exception as error:
            answer = f"derived: {type(error).__name__}: {error}"
    seconds = time.monotonic() - begun
    return answer if seconds < SLOWEST else f"took {seconds:.0f} s"


def run(files, numbers, folder):
    """Counter of (what became of a file), and the wrong ones as sentences."""
    counts, wrong = collections.Counter(), []
    path = Path(folder, "damaged.dcm")
    for number in numbers:
        done, data = damaged(files, number)
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = verdict(path)
        known = answer in ("refused", "equal", "alone")
        counts[answer if known else "wrong"] += 1
        if not known:
            wrong.append(f"{number} ({done}): {answer}")
    return counts, wrong


if __name__ == "__main__":
    import logging

    logging.disable()
    begun = time.monotonic()
    counts, wrong = run(corpus(), range(*map(int, sys.argv[1:])), tempfile.mkdtemp())
    print(dict(counts), f"{time.monotonic() - begun:.0f} s", *wrong, sep="\n")
