"""Several samples: the derived file is the first, the others lie beside it, and both are whole or absent."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import make_slice, ramp, save
from helpers.tiny import tiny_pipeline
from PIL import Image

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.dicom.sample_files import SliceSamples, find_samples, stored_hu
from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate
from diffusionct_pipeline.method.slices import sample_seed
from diffusionct_pipeline.standardize.folder import standardize_folder

COUNT = 3


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two noisy slices of a series, one with padding that no sample may touch, in a folder of its own each."""
    folder = tmp_path_factory.mktemp("scans")
    hu = np.rint(ramp(48, 64) + np.random.default_rng(0).normal(0, 30, (48, 64)))
    for number in (1, 2):
        (folder / f"{number}").mkdir()
        values = hu.copy()
        values[:8, :8] = -2000 if number == 2 else values[:8, :8]
        save(make_slice(values, number=number, bits=12), folder / f"{number}/a.dcm")
    return folder


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory, model):
    """Output folder, report and progress of a run with samples."""
    out, calls = tmp_path_factory.mktemp("out"), []
    report = standardize_folder(scans, out, model=model, num_samples=COUNT, progress=lambda *call: calls.append(call))
    return out, report, calls


def digests(folder, suffix):
    """Relative path -> hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob(f"*{suffix}"))
        if path.is_file()
    }


class TestStandardize:
    def test_the_derived_files_are_those_of_a_run_without_samples(self, scans, run, tmp_path, model):
        standardize_folder(scans, tmp_path / "one", model=model)
        assert digests(run[0], ".dcm") == digests(tmp_path / "one", ".dcm") != {}
        assert not (tmp_path / "one/samples").exists()

    def test_samples_mirror_the_paths(self, run):
        out, report, _ = run
        assert set(digests(out, "")) >= {"1/a.dcm", "samples/1/a.dcm.npz", "samples/2/a.dcm.npz"}
        assert (report["samples_folder"], report["options"]["num_samples"]) == ("samples", COUNT)
        assert json.loads((out / "run_report.json").read_text()) == report

    @pytest.mark.parametrize("number", [1, 2])
    def test_samples_are_those_of_the_pipeline(self, scans, run, model, number):
        out, name = run[0], f"{number}/a.dcm"
        record = SliceSamples.read(out / f"samples/{name}.npz")
        pipe = DiffusionCTPipeline.from_pretrained(model)
        source = ScanEstimate.from_json(run[1]["series"][0]["source"])  # of both slices
        result = pipe(str(scans / name), source=source, num_samples=COUNT, output_type="np")
        original, derived = read_slice(scans / name), read_slice(out / name)
        np.testing.assert_array_equal(record.samples, [stored_hu(hu, original) for hu in result.samples[0]])
        np.testing.assert_array_equal(record.samples[0], derived.hu)
        np.testing.assert_allclose(record.spread, result.spread[0], rtol=2e-3, atol=2e-3)
        assert (record.samples.dtype, record.spread.dtype) == (np.int16, np.float16)
        assert record.spread[8:].max() > 1, "samples differ"
        seed = pipe.noise_seeds(pipe.image_processor.load(str(scans / name)))[0]
        assert record.seeds.tolist() == [sample_seed(seed, k) for k in range(COUNT)]
        assert record.spacing_mm == 0.7
        assert (record.source_uid, record.derived_uid) == (
            original.dataset.SOPInstanceUID, derived.dataset.SOPInstanceUID,
        )  # fmt: skip

    def test_a_slice_is_encoded_once_for_all_its_samples(self, scans, tmp_path, model, monkeypatch):
        encoded, original = [], DiffusionCTPipeline.encode
        monkeypatch.setattr(DiffusionCTPipeline, "encode", lambda *call: encoded.append(1) or original(*call))
        counts = []
        for count in (1, COUNT):
            encoded.clear()
            standardize_folder(scans, tmp_path / f"{count}", model=model, num_samples=count)
            counts.append(len(encoded))
        assert counts[0] == counts[1] <= 3 * 2, "for the estimate, for the check and for the result"
        encoded.clear()
        DiffusionCTPipeline.from_pretrained(model)(str(scans / "1/a.dcm"), num_samples=COUNT)
        assert len(encoded) == 2

    def test_padding_has_no_spread(self, run):
        record = SliceSamples.read(run[0] / "samples/2/a.dcm.npz")
        assert (record.samples[:, :8, :8] == -2000).all() and (record.spread[:8, :8] == 0).all()

    def test_other_slices_and_batches_change_no_byte(self, scans, run, tmp_path, model):
        known = {"known_source": run[0] / "run_report.json"}
        standardize_folder(scans / "2", tmp_path / "out", model=model, num_samples=COUNT, batch_size=1, **known)
        (digest,) = digests(tmp_path / "out", ".npz").values()
        assert digest == digests(run[0], ".npz")["samples/2/a.dcm.npz"]

    def test_a_gpus_batches_give_every_slice_its_own_samples(self, scans, run, tmp_path, model, monkeypatch):
        monkeypatch.setattr(DiffusionCTPipeline, "batches", lambda self, slices, size=None: [list(range(len(slices)))])
        calls = []
        standardize_folder(
            scans, tmp_path, model=model, num_samples=COUNT, progress=lambda *call: calls.append(call[0])
        )
        for name in digests(run[0], ".npz"):
            one, other = SliceSamples.read(run[0] / name), SliceSamples.read(tmp_path / name)
            np.testing.assert_allclose(one.samples, other.samples, atol=1)
            assert one.derived_uid == other.derived_uid and (one.seeds == other.seeds).all()
        assert calls == sorted(calls) and calls[-1] == 2 * COUNT, "progress never goes back"

    def test_progress_counts_samples(self, run):
        assert run[2] == [(done, 2 * COUNT) for done in range(2 * COUNT + 1)]

    def test_a_picture_gets_a_panel_of_the_spread(self, scans, tmp_path, model):
        pytest.importorskip("matplotlib")
        widths = []
        for count in (1, 2):
            standardize_folder(scans / "1", tmp_path / f"{count}", model=model, num_samples=count, preview=True)
            (picture,) = (tmp_path / f"{count}/preview").iterdir()
            with Image.open(picture) as image:
                widths.append(image.width)
        assert widths[1] > 1.2 * widths[0]

    @pytest.mark.parametrize("broken", ["the derived file", "the samples"])
    def test_neither_is_there_without_the_other(self, scans, tmp_path, model, monkeypatch, broken):
        def fail(*_, **__):
            raise OSError(errno.EIO, "broken disk")

        if broken == "the samples":
            monkeypatch.setattr(SliceSamples, "to_bytes", fail)
        else:
            monkeypatch.setattr(pydicom, "dcmwrite", fail)
        report = standardize_folder(scans / "1", tmp_path / "out", model=model, num_samples=2)
        assert (report["written"], report["failures"]) == (0, 1)
        assert set(digests(tmp_path / "out", "")) == {"run_report.json"}

    @pytest.mark.parametrize("count", [0, -1, 2.0, True])
    def test_another_count_is_refused(self, scans, tmp_path, model, count):
        with pytest.raises(ValueError, match=f"`num_samples` must be an integer of at least 1, got {count}"):
            standardize_folder(scans, tmp_path / "out", model=model, num_samples=count)
        assert not (tmp_path / "out").exists()


class TestSpreadOfThePipeline:
    def test_is_the_deviation_of_its_samples(self):
        hu = ramp(48, 64).astype(np.float32)
        out = tiny_pipeline()(hu, pixel_spacing=0.7, num_samples=2, generator=torch.Generator().manual_seed(1))
        np.testing.assert_allclose(out.spread[0], np.abs(np.subtract(*out.samples[0])) / 2**0.5, atol=1e-3)


class TestFiles:
    def test_another_npz_is_named(self, tmp_path):
        np.savez(tmp_path / "mask.npz", mask=np.zeros(3))
        with pytest.raises(ValueError, match="mask.npz.*lacks derived_uid"):
            find_samples(tmp_path)

    def test_a_damaged_one_is_named(self, tmp_path, run):
        data = (run[0] / "samples/1/a.dcm.npz").read_bytes()
        (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="cut.npz.*damaged"):
            SliceSamples.read(tmp_path / "cut.npz")

    def test_none_at_all_and_the_same_twice_are_named(self, tmp_path, run):
        with pytest.raises(ValueError, match="nowhere"):
            find_samples(tmp_path / "nowhere")
        for name in ("x.npz", "y.npz"):
            (tmp_path / name).write_bytes((run[0] / "samples/1/a.dcm.npz").read_bytes())
        with pytest.raises(ValueError, match="x.npz.*y.npz"):
            find_samples(tmp_path)

    def test_another_shape_is_named(self, tmp_path, run):
        with np.load(run[0] / "samples/1/a.dcm.npz") as file:
            np.savez(tmp_path / "flat.npz", **{**file, "samples": file["samples"][0]})
        with pytest.raises(ValueError, match=r"flat.npz.*\(48, 64\)"):
            SliceSamples.read(tmp_path / "flat.npz")


class TestCommand:
    def test_writes_samples_and_says_where(self, scans, tmp_path, model, capsys):
        arguments = ["standardize", scans / "1", tmp_path / "out", "--model", model, "--samples", "2", "--steps", "1"]
        assert main([str(part) for part in arguments]) == 0
        assert "2 samples of each in its folder samples" in capsys.readouterr().out
        assert len(SliceSamples.read(tmp_path / "out/samples/a.dcm.npz").samples) == 2

    @pytest.mark.parametrize("count", ["0", "-1", "2.5", "many"])
    def test_another_count_is_wrong_usage(self, count, capsys):
        with pytest.raises(SystemExit) as stop:
            main(["standardize", "in", "out", "--samples", count])
        assert stop.value.code == 2
        assert "integer of at least 1" in capsys.readouterr().err
