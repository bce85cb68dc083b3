"""`--fast`: the networks in bfloat16, which the files say, and nothing else changes for anybody."""

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import make_slice, ramp
from helpers.runs import tree, write_scans
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.dicom.deriving import content_id, derived_uid
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.loading import make_fast

HU = ramp(64, 64)


@pytest.fixture
def scans(tmp_path):
    hu = np.rint(np.random.default_rng(0).normal(0, 200, (64, 64)))
    return write_scans(tmp_path / "in", hu=hu)


class TestTheFiles:
    def test_have_other_uids_and_pixels_close_to_those_of_float32(self, scans, tmp_path, model):
        reports = [
            standardize_folder(scans, tmp_path / name, model=model, fast=fast)
            for name, fast in (("exact", False), ("fast", True))
        ]
        assert [report["options"]["fast"] for report in reports] == [False, True]
        for name in tree(tmp_path / "exact"):
            exact, fast = (read_slice(tmp_path / folder / name) for folder in ("exact", "fast"))
            assert exact.dataset.SOPInstanceUID != fast.dataset.SOPInstanceUID
            assert exact.series_uid != fast.series_uid
            source = read_slice(scans / name).hu
            assert np.abs(fast.hu - exact.hu).mean() < 0.1 * np.abs(exact.hu - source).mean()

    def test_name_the_precision_only_if_it_is_not_the_full_one(self, scans, tmp_path, model):
        for fast in (False, True):
            standardize_folder(scans, tmp_path / str(fast), model=model, fast=fast)
            derived = pydicom.dcmread(tmp_path / str(fast) / "1/1.dcm")
            assert ("precision=bfloat16" in derived.DerivationDescription) == fast
            assert ("precision" in derived.DerivationDescription) == fast

    def test_of_float32_keep_their_uids(self):
        """Their precision is no part of what these UIDs are made of."""
        derivation = tiny_pipeline().derivation(5)
        source = read_slice(make_slice(HU))
        derived = derivation.derive(source.hu, source, 7)
        options = {"num_inference_steps": 5, "reference": "standard", "seed": 7, "target": "Bl64"}
        uid, series_uid = source.dataset.SOPInstanceUID, source.series_uid
        of_instance = {**options, "content": content_id(source)}
        assert derived.SOPInstanceUID == derived_uid(uid, derivation.model_id, of_instance)
        assert derived.SeriesInstanceUID == derived_uid(series_uid, derivation.model_id, {**options, "level": "series"})

    def test_differ_by_precision_alone(self):
        """Two precisions of equal weights: those of this network are whole numbers, which bfloat16 holds exactly."""
        pipe, source = tiny_pipeline(), read_slice(make_slice(HU))
        for weight in pipe.denoiser.parameters():
            weight.data.round_()
        derivations = [pipe.derivation(5), make_fast(pipe).derivation(5)]
        assert derivations[0].model_id == derivations[1].model_id
        uids = {derivation.derive(source.hu, source, 0).SOPInstanceUID for derivation in derivations}
        assert len(uids) == 2

    def test_are_resumed_by_the_same_precision_only(self, scans, tmp_path, model):
        found = []
        for fast in (True, True, False, False):
            report = standardize_folder(scans, tmp_path / "out", model=model, fast=fast)
            found.append((report["written"], report["finished_before"], report["failures"]))
        assert found == [(3, 0, 0), (0, 3, 0), (3, 0, 0), (0, 3, 0)]


class TestThePipeline:
    def test_says_its_precision(self):
        pipe = tiny_pipeline()
        assert pipe.precision == "float32"
        assert make_fast(pipe).precision == "bfloat16"

    def test_is_compiled_on_a_gpu_only(self, monkeypatch, caplog):
        compiled = []
        monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **options: compiled.append(options))
        make_fast(tiny_pipeline())
        assert compiled == [] and "slower than float32" in caplog.text
        pipe = tiny_pipeline()
        monkeypatch.setattr(DiffusionCTPipeline, "device", torch.device("cuda"))
        make_fast(pipe)
        assert compiled == [{"mode": "reduce-overhead"}]

    @pytest.mark.parametrize("tokens", [None, 7])
    def test_its_denoiser_is_one_graph(self, tokens):
        """A break in the graph would cost what the graph saves; `tokens` of a reference, None for the standard's."""
        denoiser = tiny_pipeline().denoiser
        whole = torch.compile(denoiser, backend="eager", fullgraph=True)
        generator = torch.Generator().manual_seed(0)
        sample, latent = torch.randn(2, 2, denoiser.channels.total, 16, generator=generator)
        reference = torch.randn(1, tokens or 1, denoiser.channels.total, generator=generator)
        target = denoiser.standard[None] if tokens is None else reference
        shift = torch.randn(1, denoiser.channels.rings, generator=generator)
        whitening = torch.randn(2, denoiser.channels.rings, generator=generator)
        tails = torch.zeros(1, 3)
        with torch.no_grad():
            arguments = (sample, torch.tensor(400), latent, target, shift, whitening, tails, 4)
            torch.testing.assert_close(whole(*arguments).sample, denoiser(*arguments).sample)

    @pytest.mark.gpu
    def test_is_close_to_float32_on_a_gpu(self):
        hu = np.random.default_rng(0).normal(0, 200, (4, 64, 64)).astype(np.float32)
        exact = np.stack(tiny_pipeline()(hu, pixel_spacing=0.7).images)
        pipe = make_fast(tiny_pipeline().to("cuda"))
        for _ in range(2):  # the second replays the graph
            fast = np.stack(pipe(hu, pixel_spacing=0.7).images)
            assert np.abs(fast - exact).mean() < 0.1 * np.abs(exact - hu).mean()


def test_the_command_has_it(scans, tmp_path, model, capfd):
    assert main(["standardize", str(scans), str(tmp_path / "out"), "--model", model, "--fast"]) == 0
    captured = capfd.readouterr()
    assert "3 of 3 slices" in captured.out and "should be kept in float32" not in captured.err
    assert "bfloat16" in pydicom.dcmread(tmp_path / "out/1/1.dcm").DerivationDescription
