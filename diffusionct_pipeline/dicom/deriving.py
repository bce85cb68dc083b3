"""Turn a standardized slice into a derived CT image that records what it was made from, and how.

    source = read_slice("slice.dcm")
    derived = derive_slice(source, hu, target_name="Bl64", model_id="diffusionct 1f3a...", options={"seed": 0})
    write_slice(derived, "out/slice.dcm")

The derived image keeps patient, study, frame of reference and geometry of its source, belongs to a new series, and
refers to the source (DICOM PS3.3 C.7.6.1.1.3, C.12.1; templates CID 7202, 7005).
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import logging
import uuid
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)
from pydicom.valuerep import DSfloat, format_number_as_ds

from ..utils.version import __version__
from .errors import DicomError, damage_named
from .headers import header_texts
from .hounsfield import PixelFormat, hu_to_cells, read_cells
from .reading import MANUFACTURER, CTSlice, content_id
from .values import LONGEST, is_decimal, mended, mended_integer

logger = logging.getLogger(__name__)

SHORT_STRING, LONG_STRING, SHORT_TEXT = (LONGEST[vr] for vr in ("SH", "LO", "ST"))
MAX_INTEGER_STRING = (1 << 31) - 1  # of VR IS
KERNEL_MARKS = (" synthetic", " synth", " syn")  # the longest that fits into ConvolutionKernel (SH)
SERIES_NUMBER_OFFSET = 9000  # far above the series of a study, so that viewers list derived series last

# Attributes that would be wrong for the new pixels, or would sign them.
DROPPED_KEYWORDS = (
    "DataSetTrailingPadding",
    "DigitalSignaturesSequence",
    "EncryptedAttributesSequence",
    "IconImageSequence",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "LargestImagePixelValue",
    "LargestPixelValueInSeries",
    "MACParametersSequence",
    "PixelData",
    "PlanarConfiguration",  # only valid with several samples per pixel
    "SmallestImagePixelValue",
    "SmallestPixelValueInSeries",
)
# Type 2 of the CT Image IOD: must be present, may be empty ("unknown"). De-identified sources often lack some.
REQUIRED_BUT_MAY_BE_EMPTY = (
    "AccessionNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "KVP",
    "Manufacturer",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientPosition",
    "PatientSex",
    "PositionReferenceIndicator",
    "ReferringPhysicianName",
    "SliceThickness",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
# Identifiers of patient, study and order that are too long are left out, not truncated, which could make them those of another.
NEVER_CUT = ("AccessionNumber", "IssuerOfPatientID", "OtherPatientIDs", "PatientID", "StudyID")
# Laterality must be present, empty if unknown, unless the body part is unpaired (PS3.16 annex L).
UNPAIRED_BODY_PARTS = (
    "ABDOMEN",
    "BRAIN",
    "CHEST",
    "CHESTABDOMEN",
    "CHESTABDPELVIS",
    "HEAD",
    "HEART",
    "LIVER",
    "NECK",
    "NECKCHEST",
    "PELVIS",
    "THORAX",
    "WHOLEBODY",
)
LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
}


def derived_uid(source_uid: str, model_id: str, options: dict[str, Any]) -> str:
    """Return the UID of a model's result for a source: the same for the same three arguments, on every machine.

    A second run therefore replaces the first one in an archive instead of being added beside it.

    Args:
        source_uid: UID of the source instance or series.
        model_id: Identifies the weights, for example a hash of the checkpoint.
        options: Everything else that changes the result; must be JSON.

    Returns:
        "2.25." and the decimal form of a UUID (PS3.5 B.2), at most 44 characters.

    Raises:
        ValueError: if `options` is not JSON.
    """
    try:
        text = json.dumps([str(source_uid), str(model_id), options], sort_keys=True)
    except TypeError as error:
        raise ValueError(f"`options` must hold only JSON values, got {options!r}: {error}.") from error
    digest = hashlib.sha256(text.encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def derive_slice(
    source: CTSlice,
    hu: np.ndarray,
    *,
    target_name: str,
    model_id: str,
    series_description_suffix: str = " DiffusionCT",
    options: dict[str, Any] | None = None,
    series_number: int | None = None,
    now: datetime.datetime | None = None,
    system: str = "",
    label: str = "",
    measured: str = "",
) -> Dataset:
    """Build the derived CT image of a standardized slice.

    Args:
        source: The slice that was standardized.
        hu: (H, W) Hounsfield units of the result, on the pixel grid of the source. Pixels of the source's padding
            keep their stored value.
        target_name: Requested kernel (or reference); part of the UIDs and of the description.
        model_id: Identifies the weights; part of the UIDs and of the description.
        series_description_suffix: Appended to the source's SeriesDescription.
        options: Whatever else changes the result (seed, steps, ...), JSON values; part of the UIDs and the description.
        series_number: None for the source's number + 9000.
        now: Time of processing, in the time zone of the source; written as creation, content, series and
            contribution time. None writes no time of processing: content and series keep the times of the acquisition.
            This is the default, so that two runs with the same seed give the same bytes.
        system: Name of the system of the comparison that made the pixels; "" for DiffusionCT's pipeline.
        label: Kernel of the result, written to ConvolutionKernel and marked as synthetic ("Bl64 synthetic"); "" for
            `target_name`.
        measured: What was measured on the results, in words, for the description.

    Returns:
        A dataset for `write_slice`, Explicit VR Little Endian, with the source's rescale and bit depth. Its attribute
        `clipped_pixels` counts the pixels outside the padding whose HU that bit depth cannot hold.

    Raises:
        DicomError: if the source has no SOPInstanceUID to refer to, or is damaged.
        ValueError: if `hu` does not have the source's shape or is not finite, or `options` is not JSON.
    """
    hu = np.asarray(hu)
    if hu.shape != source.hu.shape:
        raise ValueError(f"`hu` must have the shape {source.hu.shape} of {source.name}, got {hu.shape}.")
    options = dict(options or {})
    identity = {**options, "target": target_name}
    derived_uid("", model_id, identity)  # refuses options that are not JSON before the source is blamed
    # 1. Pixels: rescale, bit depth and padding of the source.
    padding_cells = read_cells(source.dataset, source.name) if source.padding.any() else None
    cells, clipped = hu_to_cells(hu, source.pixels, source.padding, padding_cells)
    if clipped:
        low, high = source.pixels.hu_range
        logger.info("%s: %d pixels clipped to [%g, %g] HU.", source.name, clipped, low, high)
    with damage_named(source.name):
        # 2. Patient, study, geometry and acquisition of the source.
        derived = _public_copy(source.dataset, source.name)
        for keyword in DROPPED_KEYWORDS:
            derived.pop(keyword, None)
        # 3. A new instance in a new series.
        source_uid = _instance_uid(source)
        _identify(derived, source, source_uid, model_id, identity)
        _describe_series(derived, series_description_suffix, series_number)
        derived.ConvolutionKernel = synthetic_kernel_name(label or target_name)
        # 4. Sources and method.
        _describe_derivation(derived, source, source_uid, target_name, model_id, options, system, measured)
        if now is not None:
            _stamp(derived, now)
        # 5. Required attributes that the source lacks.
        _complete(derived, source)
        set_pixels(derived, cells, source.pixels)
    derived.clipped_pixels = clipped
    return derived


def synthetic_kernel_name(target_name: str) -> str:
    """Return a name that cannot be taken for a kernel of the scanner: "Bl64" -> "Bl64 synthetic"; at most 16 characters."""
    target = _ascii(target_name).strip()
    for mark in KERNEL_MARKS:
        if len(target + mark) <= SHORT_STRING:
            return target + mark
    return target[: SHORT_STRING - len(KERNEL_MARKS[-1])].rstrip() + KERNEL_MARKS[-1]


def set_pixels(dataset: Dataset, cells: np.ndarray, pixels: PixelFormat) -> None:
    """Store cells (`hu_to_cells`) and the attributes that describe them in a dataset, as Explicit VR Little Endian.

    Args:
        dataset: Changed in place; needs SOPClassUID and SOPInstanceUID.
        cells: (H, W) of `pixels.dtype`.
        pixels: Their format.
    """
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = cells.shape
    dataset.BitsAllocated, dataset.BitsStored = 16, pixels.bits_stored
    dataset.HighBit = pixels.top_bit
    dataset.PixelRepresentation = int(pixels.signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = _decimal(pixels.slope), _decimal(pixels.intercept)
    dataset.RescaleType = "HU"
    vr = "SS" if pixels.signed else "US"
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        dataset.pop(keyword, None)
    if pixels.padding_cells is not None:
        low, high = pixels.padding_cells
        dataset.add(DataElement("PixelPaddingValue", vr, low))
        if high != low:
            dataset.add(DataElement("PixelPaddingRangeLimit", vr, high))
    dataset.add(DataElement("PixelData", "OW", np.ascontiguousarray(cells, dtype=pixels.dtype).tobytes()))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _public_copy(dataset: Dataset, name: str) -> Dataset:
    """Copy all standard attributes, but no private ones, overlays, curves, group lengths and unreadable values."""
    result = Dataset()
    for tag in sorted(dataset.keys()):
        tag = BaseTag(tag)
        repeating = 0x5000 <= tag.group <= 0x50FF or 0x6000 <= tag.group <= 0x60FF
        not_image_header = tag.group < 8 or tag.group == 0x7FE0  # commands, file meta information; pixel data
        if tag.is_private or repeating or tag.element == 0 or not_image_header:
            continue
        try:
            element = dataset[tag]
            if dictionary_has_tag(tag) and element.VR not in dictionary_VR(tag):  # such as "US or SS"
                raise ValueError(f"its VR is {element.VR}, not {dictionary_VR(tag)}")
            value = _legal_value(element, name)
            if value is None:
                raise ValueError("it violates the rules of its type")
            result.add(DataElement(tag, element.VR, value))
        except Exception as error:  # pydicom converts on access; the error for an invalid value depends on its type
            reason = type(error).__name__  # not the message, which quotes the value
            logger.warning("%s: %s was left out of the derived image: its value is unreadable (%s).", name, tag, reason)
    return result


def _legal_value(element: DataElement, name: str) -> Any:
    """Return an element's value for the derived image, corrected where it violates the rules of its type, or None."""
    if element.VR == "SQ":
        return [_public_copy(item, name) for item in element.value]
    values = list(element.value) if element.VM > 1 else [element.value]
    legal: list[float | int | str | None]
    if element.VR == "DS":
        legal = [_decimal(number) for number in values] if element.VM else [""]
    elif element.VR == "IS":
        legal = [mended_integer(number) for number in values] if element.VM else [""]
    elif element.VM and all(isinstance(value, str) for value in values):
        if element.keyword in NEVER_CUT and max(map(len, values)) > LONGEST.get(element.VR, SHORT_TEXT):
            return None
        legal = [mended(element.VR, value) for value in values]
        if legal != values:
            logger.info("%s: %s was corrected to the form of its type (%s).", name, element.tag, element.VR)
    else:
        return copy.deepcopy(element.value)
    if None in legal:
        return None
    return legal if element.VM > 1 else legal[0]


def _identify(derived: Dataset, source: CTSlice, source_uid: str, model_id: str, identity: dict[str, Any]) -> None:
    """Set the UIDs of a new instance and series, and the study and frame of reference of the source.

    Where the source has no series, study or frame of reference, their UIDs are derived from the next larger or smaller
    entity that it has: they are deterministic, shared by the slices of the series, and not used by anything else.
    """
    study = str(derived.get("StudyInstanceUID") or "")
    series = source.series_uid or study or source_uid
    derived.SOPClassUID = CTImageStorage
    # It depends on the content of the source, so that two images that share a UID, by an anonymizer's mistake, do not pass it on.
    derived.SOPInstanceUID = derived_uid(source_uid, model_id, {**identity, "content": content_id(source)})
    derived.SeriesInstanceUID = derived_uid(series, model_id, {**identity, "level": "series"})
    if not study:
        derived.StudyInstanceUID = derived_uid(series, "", {"level": "study"})
    if not derived.get("FrameOfReferenceUID"):
        derived.FrameOfReferenceUID = derived_uid(series, "", {"level": "frame of reference"})
    derived.Modality = "CT"
    # Values: pixels computed from other pixels; of the patient; a section. Further ones name steps of the scanner, such as
    # those of a spectral image.
    kinds = [kind.strip() for kind in header_texts(derived, "ImageType", source.name)]
    derived.ImageType = ["DERIVED", "PRIMARY", kinds[2] if len(kinds) > 2 and kinds[2] else "AXIAL", *kinds[3:]]


def _describe_series(derived: Dataset, suffix: str, series_number: int | None) -> None:
    """Set the description and number of the new series."""
    suffix = _ascii(suffix)[:LONG_STRING]
    description = str(derived.get("SeriesDescription") or "")
    derived.SeriesDescription = (description[: LONG_STRING - len(suffix)] + suffix).strip()
    if series_number is None:
        series_number = int(derived.get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET
        if series_number > MAX_INTEGER_STRING:
            series_number = SERIES_NUMBER_OFFSET
    derived.SeriesNumber = series_number


def _describe_derivation(
    derived: Dataset,
    source: CTSlice,
    source_uid: str,
    target_name: str,
    model_id: str,
    options: dict[str, Any],
    system: str,
    measured: str,
) -> None:
    """Record what the image was made from, how, and by which equipment."""
    # 1. In words.
    settings = ", ".join(f"{key}={value}" for key, value in sorted(options.items()))
    description = f"Standardized to the texture of {target_name} by DiffusionCT {__version__}, model {model_id}"
    description += f", {settings}" if settings else ""
    description += f". Measured: {measured}" if measured else ""
    earlier = str(derived.get("DerivationDescription") or "")
    derived.DerivationDescription = (_ascii(description) + (f". Source: {earlier}" if earlier else ""))[:SHORT_TEXT]
    # 2. In codes. CID 7203 has smoothing and edge enhancement, but no learned change of texture.
    step = _code("KERNELSTD", "99DIFFUSIONCT", "Kernel standardization by a diffusion model")
    if system:
        step = _code("KERNELSTDSYSTEM", "99DIFFUSIONCT", f"Kernel standardization by {_ascii(system)}"[:LONG_STRING])
    derived.DerivationCodeSequence = [*(derived.get("DerivationCodeSequence") or []), step]
    # 3. The source image and its series.
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, source_uid
    image = copy.deepcopy(reference)
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
    derived.SourceImageSequence = [image]
    derived.pop("ReferencedSeriesSequence", None)
    if source.series_uid:
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedInstanceSequence = source.series_uid, [reference]
        derived.ReferencedSeriesSequence = [series]
    # 4. The equipment, after that of the source.
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109102", "DCM", "Processing Equipment")]
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = _ascii(system or "DiffusionCTPipeline")[:LONG_STRING]
    equipment.SoftwareVersions = [__version__, _ascii(model_id)[:LONG_STRING]]
    equipment.ContributionDescription = _ascii(f"Standardized to the texture of {target_name}")
    derived.ContributingEquipmentSequence = [*(derived.get("ContributingEquipmentSequence") or []), equipment]


def _stamp(derived: Dataset, now: datetime.datetime) -> None:
    """Write the time of processing."""
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    derived.InstanceCreationDate = derived.ContentDate = derived.SeriesDate = day
    derived.InstanceCreationTime = derived.ContentTime = derived.SeriesTime = time
    derived.ContributingEquipmentSequence[-1].ContributionDateTime = day + time


def _complete(derived: Dataset, source: CTSlice) -> None:
    """Add what a valid CT image requires and the source lacks: empty for unknown, nothing is invented."""
    for keyword in REQUIRED_BUT_MAY_BE_EMPTY:
        if keyword not in derived:
            setattr(derived, keyword, None)
    if "Laterality" not in derived and derived.get("BodyPartExamined") not in UNPAIRED_BODY_PARTS:
        derived.Laterality = None
    if derived.get("PatientIdentityRemoved") == "YES" and not (
        derived.get("DeidentificationMethod") or derived.get("DeidentificationMethodCodeSequence")
    ):
        derived.DeidentificationMethod = "Not stated in the source image"
    # A source whose encoding loses information makes the derived image lossy, whether its header says so or not.
    method = LOSSY_METHODS.get(source.dataset.file_meta.TransferSyntaxUID)
    if method and derived.get("LossyImageCompression") != "01":
        derived.LossyImageCompression = "01"
        derived.LossyImageCompressionMethod = method
        derived.LossyImageCompressionRatio = _decimal(2 * source.hu.size / len(source.dataset.PixelData))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        if not derived.get(keyword):
            logger.warning(
                "%s has no %s, so the derived image has none either and is not valid DICOM.", source.name, keyword
            )


def _instance_uid(source: CTSlice) -> str:
    """Return the SOPInstanceUID of the source."""
    uid = source.dataset.get("SOPInstanceUID") or source.dataset.file_meta.get("MediaStorageSOPInstanceUID")
    if not uid:
        raise DicomError(f"{source.name} has no SOPInstanceUID, which a derived image must refer to.")
    return str(uid)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _decimal(number: float) -> float:
    """Return a number as a valid DS: as it was read if that is one, otherwise with as many digits as fit."""
    text = getattr(number, "original_string", None)
    if text and is_decimal(text):
        return number
    return DSfloat(format_number_as_ds(float(number)))


def _ascii(text: str) -> str:
    """Return text for any character set of a header; a backslash would separate two values."""
    return str(text).replace("\\", "/").encode("ascii", "replace").decode()
