"""The worker beside a real Orthanc: every series once, in its study, to the bytes of the command line."""

import io
import json

import pydicom
import pytest
from helpers.dicom import ROOT, dciodvfy_errors, make_slice
from helpers.node import RULES, data_of, push, results, states
from helpers.runs import HU

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.node.orthanc import Orthanc
from diffusionct_pipeline.node.state import Record, all_states
from diffusionct_pipeline.node.worker import serve
from diffusionct_pipeline.standardize.folder import standardize_folder


@pytest.fixture
def orthanc(server):
    return Orthanc(server.url)


def by_command(folder, files, model, **options):
    """What a run over a folder of these files gives, in the same form."""
    (folder / "in").mkdir(parents=True)
    for number, data in enumerate(files):
        (folder / f"in/{number}.dcm").write_bytes(data)
    standardize_folder(folder / "in", folder / "out", model=model, **options)
    found = [path.read_bytes() for path in (folder / "out").rglob("*.dcm")]
    return {pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID: data for data in found}


def test_standardizes_what_rules_want_and_leaves_the_rest_alone(server, orthanc, tmp_path, model, capsys):
    files = push(orthanc, 1, 2, 3)
    push(orthanc, 1, series=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    push(orthanc, 1, series=3, ConvolutionKernel="B10s")
    push(orthanc, 1, series=4, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    push(orthanc, 1, series=5, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
    damaged = make_slice(HU, series=6)
    damaged.PixelData = damaged.PixelData[:-100]
    orthanc.store(data_of(damaged))
    for _ in range(2):  # results are new series themselves
        serve(server.url, RULES, tmp_path / "work", model=model, poll=0.2, once=True)
    found = states(orthanc)
    assert {name: state.state for name, state in found.items() if "." not in name} == {
        "1": "done",
        "2": "left alone",
        "3": "left alone",
        "4": "left alone",
        "5": "refused",
        "6": "refused",
    }
    assert all(state.reason for name, state in found.items() if name != "1")
    assert results(orthanc, found["1"]) == by_command(tmp_path / "command", files, model)
    study = orthanc.get(f"/series/{found['1'].result}/study")
    assert study["MainDicomTags"]["StudyInstanceUID"] == f"{ROOT}.900" and len(study["Series"]) == 7
    for number, data in enumerate(results(orthanc, found["1"]).values()):
        (tmp_path / f"{number}.dcm").write_bytes(data)
        assert dciodvfy_errors(tmp_path / f"{number}.dcm") == []
    log = capsys.readouterr().err
    assert [json.loads(line)["event"] for line in log.splitlines()].count("begun") == 4
    assert "Test" not in log and "thorax" not in log and ROOT not in log
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["changes.txt"]
    assert main(["serve", "--orthanc", server.url, "--status"]) == 1
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["series", "slices", "state"] and "refused" in table[1] and len(table) == 8


def test_adds_late_slices_with_the_estimate_of_the_first(server, orthanc, tmp_path, model):
    files = push(orthanc, 1, 2, 3)
    serve(server.url, RULES, tmp_path / "work", model=model, poll=0.2, once=True)
    before = results(orthanc, states(orthanc)["1"])
    files += push(orthanc, 4, 5)
    serve(server.url, RULES, tmp_path / "elsewhere", model=model, poll=0.2, once=True)
    state = states(orthanc)["1"]
    after = results(orthanc, state)
    assert state.slices == 5 and len(after) == 5 and before.items() <= after.items()
    (series,) = [series for series, item in all_states(orthanc).items() if item.result == state.result]
    record = Record.of(orthanc, series)
    assert len(record.instances) == 5
    (tmp_path / "known.json").write_text(json.dumps(record.report))
    assert after == by_command(tmp_path / "command", files, model, known_source=tmp_path / "known.json")
    assert after != by_command(tmp_path / "without", files, model)
