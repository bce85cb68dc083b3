"""`standardize --bids`: a dataset in, a derived dataset out."""

import gzip
import json
from pathlib import Path

import pytest
from helpers.runs import REPORT, tree, write_scans
from helpers.volumes import affine_ras, nifti, phantom, volume_of

from diffusionct_pipeline import __version__
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.standardize.bids import derivative_name
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.listed import merge_reports, standardize_listed

VOXELS, AFFINE = volume_of(phantom()), affine_ras()
CT = "sub-01/anat/sub-01_rec-B70f_ct.nii.gz"
RESULT = "sub-01/anat/sub-01_rec-B70f_desc-standardized_ct"
DOI = "doi:10.0000/none"


@pytest.fixture
def dataset(tmp_path):
    """A CT and a mask of it."""
    folder = tmp_path / "data/study"
    (folder / CT).parent.mkdir(parents=True)
    (folder / CT).write_bytes(gzip.compress(nifti(VOXELS, AFFINE)))
    mask = gzip.compress(nifti((VOXELS > 0).astype("<i2"), AFFINE))
    (folder / "sub-01/anat/sub-01_label-tumor_mask.nii.gz").write_bytes(mask)
    described = {"Name": "study", "BIDSVersion": "1.8.0", "DatasetDOI": DOI}
    (folder / "dataset_description.json").write_text(json.dumps(described))
    return folder


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("sub-01_ct.nii.gz", "sub-01_desc-standardized_ct.nii.gz"),
        (
            "sub-01_ses-a1_acq-low_rec-B70f_run-2_ct.NII",
            "sub-01_ses-a1_acq-low_rec-B70f_run-2_desc-standardized_ct.NII",
        ),
        ("sub-01_desc-cropped_ct.nrrd", "sub-01_desc-croppedStandardized_ct.nrrd"),
        ("sub-01.nii", "sub-01.nii"),
        ("chest_ct.nii.gz", "chest_ct.nii.gz"),
        ("sub-01_rec-Br40d/3_ct.nii", "sub-01_rec-Br40d/3_ct.nii"),
        ("sub-0_1_ct.nii", "sub-0_1_ct.nii"),
    ],
)
def test_names(name, result):
    assert derivative_name(Path("sub-01/anat", name)) == Path("sub-01/anat", result)


class TestDataset:
    def test_has_the_files_of_a_derived_one(self, dataset, tmp_path, model):
        before, out = tree(dataset), tmp_path / "derived"
        assert main(["standardize", str(dataset), str(out), "--model", model, "--bids", "--target", "Br40"]) in (0, 3)
        found = {"dataset_description.json", ".bidsignore", f"{RESULT}.nii.gz", f"{RESULT}.json"}
        assert set(tree(out)) == found and tree(dataset) == before
        described = read(out / "dataset_description.json")
        assert (described["DatasetType"], described["DatasetLinks"]) == ("derivative", {"source": "../data/study"})
        assert described["SourceDatasets"] == [{"DOI": DOI}]
        (maker,) = described["GeneratedBy"]
        assert (maker["Name"], maker["Version"]) == ("DiffusionCT", __version__)
        report = read(out / REPORT)
        assert maker["Description"] == report["model_id"] and report["others"] == [] and report["options"]["bids"]

    def test_has_sidecars_that_say_how(self, dataset, tmp_path, model):
        report = standardize_folder(dataset, tmp_path / "out", model=model, target="Br40", seed=7, bids=True)
        said = read(tmp_path / "out" / f"{RESULT}.json")
        (entry,) = report["series"]
        assert said["Sources"] == [f"bids:source:{CT}"] and entry["path"] == CT
        assert (said["ConvolutionKernel"], said["SpatialReference"]) == ("uncertain synth", "orig")
        ours = said["DiffusionCT"]
        assert (ours["Target"], ours["Seed"], ours["Noise"], ours["Model"]) == ("Br40", 7, "keep", report["model_id"])
        assert ours["Warnings"] == [*entry["remarks"], *entry["unlike_training"]] != []
        assert str(tmp_path) not in (tmp_path / "out" / f"{RESULT}.json").read_text()

    def test_has_the_voxels_of_a_run_without(self, dataset, tmp_path, model):
        standardize_folder(dataset, tmp_path / "plain", model=model)
        standardize_folder(dataset, tmp_path / "out", model=model, bids=True, page=True)
        assert tree(tmp_path / "out")[f"{RESULT}.nii.gz"] == tree(tmp_path / "plain")[CT]
        assert (tmp_path / "out/page_01.html").is_file()

    def test_is_taken_up_where_it_was_left(self, dataset, tmp_path, model):
        options = dict(model=model, bids=True)
        standardize_folder(dataset, tmp_path / "out", **options)
        whole = tree(tmp_path / "out")
        (tmp_path / "out" / f"{RESULT}.json").unlink()
        report = standardize_folder(dataset, tmp_path / "out", **options)
        assert (report["written"], report["finished_before"]) == (0, 3) and tree(tmp_path / "out") == whole

    def test_is_made_by_several_jobs(self, dataset, tmp_path, model, capsys):
        assert main(["plan", str(dataset)]) == 0
        (tmp_path / "series.tsv").write_text(capsys.readouterr().out)
        listed = [line.split("\t")[1] for line in (tmp_path / "series.tsv").read_text().splitlines()[1:]]
        standardize_listed(
            dataset, tmp_path / "out", tmp_path / "series.tsv", listed.index(CT) + 1, model=model, bids=True
        )
        report = merge_reports(tmp_path / "out")
        assert (report["others"], report["lost"]) == ([], [])
        standardize_folder(dataset, tmp_path / "whole", model=model, bids=True)
        made = {name: data for name, data in tree(tmp_path / "out").items() if not name.startswith(".series")}
        made.pop(".diffusionct.lock", None)
        assert made == tree(tmp_path / "whole")


class TestWhatIsNotSo:
    def test_an_input_that_is_no_dataset_is_refused(self, dataset, tmp_path, model, capsys):
        command = ["standardize", str(dataset / "sub-01"), str(tmp_path / "out"), "--model", model, "--bids"]
        assert main(command) == 2 and not (tmp_path / "out").exists()
        assert "dataset_description.json" in capsys.readouterr().err

    def test_a_description_of_somebody_else_is_not_replaced(self, dataset, tmp_path, model):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/dataset_description.json").write_text('{"GeneratedBy": [{"Name": "fMRIPrep"}]}')
        before = tree(tmp_path / "out")
        report = standardize_folder(dataset, tmp_path / "out", model=model, bids=True)
        assert (report["written"], report["failures"]) == (0, 1) and tree(tmp_path / "out") == before
        assert "not of a dataset by DiffusionCT" in report["series"][0]["failures"][0]["reason"]

    def test_other_names_are_kept_and_said_so(self, dataset, tmp_path, model):
        (dataset / CT).rename(dataset / "sub-01/anat/chest.nii.gz")
        report = standardize_folder(dataset, tmp_path / "out", model=model, bids=True)
        assert {"sub-01/anat/chest.nii.gz", "sub-01/anat/chest.json"} < set(tree(tmp_path / "out"))
        assert any("not named as BIDS wants" in remark for remark in report["series"][0]["remarks"])

    def test_dicom_beside_it_is_mirrored_as_ever(self, dataset, tmp_path, model):
        write_scans(dataset / "sourcedata", [(1, 1)])
        standardize_folder(dataset, tmp_path / "out", model=model, bids=True)
        assert "sourcedata/1/1.dcm" in tree(tmp_path / "out")
