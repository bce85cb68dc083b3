"""`standardize_folder(pipe=load_as_pipeline(...))`: derived DICOM by any system of the comparison."""

import json

import numpy as np
import pydicom
import pytest
from helpers.dicom import make_slice, ramp, save
from helpers.tiny import tiny_pipeline
from helpers.tiny_systems import TINY, noise_hu, tiny_system

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.comparison.systems import (
    ALL_SYSTEMS,
    SYSTEMS,
    EncoderDecoder,
    FittingPair,
    System,
    as_pipeline,
    band_energies,
    load_as_pipeline,
    load_system,
)
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.models import AutoencoderResNet18
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.utils.seeds import derive_seed

HU = ramp(48, 64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> folder of a system, saved once."""
    pipeline = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline().save_pretrained(pipeline)
    made = {}

    def folder_of(name):
        if name in made:
            return made[name]
        made[name] = folder = tmp_path_factory.mktemp("system")
        if name in TINY:
            tiny_system(name).save_pretrained(folder)
        elif name == "encoder-decoder":
            EncoderDecoder(AutoencoderResNet18(8, (8, 8, 8, 8, 16), decoder_channels=(8,) * 5)).save_pretrained(folder)
        elif name.startswith("DiffusionCT"):
            make = ALL_SYSTEMS[name]
            how = {"by_reference": "reference" in name, "by_pairs": "adapted" in name}
            system = make(pipeline, **how, num_inference_steps=1)
            system.fit([FittingPair(noise_hu(1, (64, 64)), noise_hu(2, (64, 64)), 0.7)]).save_pretrained(folder)
        else:
            SYSTEMS[name]().fit([FittingPair(noise_hu(1), noise_hu(2), 0.7)]).save_pretrained(folder)
        return folder

    return folder_of


@pytest.fixture
def scan(tmp_path):
    (tmp_path / "in").mkdir()
    save(make_slice(HU), tmp_path / "in" / "1.dcm")
    return tmp_path / "in"


@pytest.mark.parametrize("name", ALL_SYSTEMS)
def test_every_system_writes_what_it_gives_in_python(name, folders, scan, tmp_path):
    folder = folders(name)
    report = standardize_folder(scan, tmp_path / "out", pipe=load_as_pipeline(name, folder, "cpu"))
    assert report["written"] == 1 and report["failures"] == 0 and report["options"]["system"] == name
    source, derived = read_slice(scan / "1.dcm"), read_slice(tmp_path / "out" / "1.dcm")
    place = (source.spacing_mm, source.position_mm, source.thickness_mm)
    seed = derive_seed(0, source.series_uid)
    expected = load_system(name, folder).standardize_slice(source.hu, *place, seed)
    inside = (expected > -1000) & (expected < 3000)  # what the file holds
    np.testing.assert_allclose(derived.hu[inside], expected[inside], atol=0.51)


def test_derived_files_name_the_system(folders, scan, tmp_path):
    chosen = ["--system", "STAN-CT", "--model", str(folders("STAN-CT"))]
    assert main(["standardize", str(scan), str(tmp_path / "out"), *chosen]) == 0
    derived = pydicom.dcmread(tmp_path / "out" / "1.dcm")
    assert derived.SeriesDescription.endswith(" STAN-CT") and "model STAN-CT " in derived.DerivationDescription
    assert derived.ContributingEquipmentSequence[-1].ManufacturerModelName == "STAN-CT"
    assert derived.DerivationCodeSequence[-1].CodeMeaning == "Kernel standardization by STAN-CT"
    assert derived.ConvolutionKernel == "Bl64 synthetic"


def test_the_uid_changes_with_weights_and_constants(folders, tmp_path, monkeypatch):
    folder = folders("GANai")
    first = as_pipeline.system_id("GANai", folder)
    assert as_pipeline.system_id("GANai", folder) == first != as_pipeline.system_id("STAN-CT", folders("STAN-CT"))
    monkeypatch.setattr(band_energies, "TOLERANCE", 0.5)
    assert as_pipeline.system_id("GANai", folder) != first
    monkeypatch.undo()
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"downs": 3}))
    assert as_pipeline.system_id("GANai", tmp_path) != first


def test_the_uid_changes_with_the_embedded_checkpoint():
    system = SYSTEMS["DiffusionCT"]()
    first = as_pipeline.system_id("DiffusionCT", None, system)
    next(system.pipe.denoiser.parameters()).data += 1e-3
    assert as_pipeline.system_id("DiffusionCT", None, system) != first


@pytest.mark.parametrize("name", ["conditional Gaussian", "DiffusionCT"])
def test_what_is_drawn_belongs_to_its_place(name):
    hu = noise_hu(0, (64, 64))
    system = SYSTEMS[name]().fit([FittingPair(hu, 2 * noise_hu(1, (64, 64)), 0.7)])
    here, again, elsewhere = (system.standardize_slice(hu, 0.7, z, 1.0, seed=3) for z in (5.0, 5.0, 9.0))
    np.testing.assert_array_equal(here, again)
    assert not np.array_equal(here, elsewhere)


@pytest.mark.parametrize("wrong", [{"num_inference_steps": 5}, {"num_samples": 2}, {"reference": "itself"}])
def test_what_a_system_cannot_do_is_refused(wrong, folders, scan, tmp_path):
    wrong = {name: scan if value == "itself" else value for name, value in wrong.items()}
    with pytest.raises(ValueError, match="with `system`"):
        standardize_folder(scan, tmp_path / "out", pipe=load_as_pipeline("pix2pix", folders("pix2pix")), **wrong)
    assert not (tmp_path / "out").exists()


def test_padding_keeps_its_value_and_the_system_sees_air():
    seen = []

    class Spy(System):
        target_kernel = "Bl64"

        def standardize(self, hu, pixel_spacing):
            seen.append(hu)
            return hu + 7

    pipe = as_pipeline.SystemPipeline("spy", Spy(), None, "cpu")
    hu = HU.astype(np.float32)
    hu[0, :5] = -2000
    (slice_,) = pipe.image_processor.load(hu, 0.7)
    (output,) = pipe.standardize_batch([slice_], [0])
    assert (seen[0][0, :5] == -1024).all() and (output[0, :5] == -2000).all() and (output[1:] == hu[1:] + 7).all()
