"""No network unless asked, no code in checkpoints, and nothing of the patient where it need not be. See SECURITY.md."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import make_slice, save
from helpers.runs import HU, REPORT, tree, write_scans
from helpers.tiny import tiny_pipeline
from PIL import Image

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.pipeline import PRETRAINED
from diffusionct_pipeline.standardize import previews as folder_previews
from diffusionct_pipeline.standardize.folder import standardize_folder

ROOT = Path(__file__).parents[1]

# Every way out ends in the list; telemetry runs in a thread whose errors nobody sees, so raising is not enough.
WITHOUT_NETWORK = """
import json, socket, sys, threading

asked = []

def refuse(name):
    def call(*arguments, **options):
        asked.append(f"{name}{arguments}")
        raise OSError(f"no network: {name}{arguments}")
    return call

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse(name))
for name in ("getaddrinfo", "create_connection", "gethostbyname"):
    setattr(socket, name, refuse(name))

def finish(**found):
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(10)
    print(json.dumps({"asked": asked, **found}))
"""


def run(code, *arguments):
    """A Python process without a network and without settings that would keep the Hub's client from it."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "DIFFUSERS_"))},
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", WITHOUT_NETWORK + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


class TestNetwork:
    @pytest.mark.skipif(not (PRETRAINED / "model_index.json").is_file(), reason="no embedded checkpoint")
    def test_is_not_touched_by_the_embedded_checkpoint(self, tmp_path):
        scans = write_scans(tmp_path / "in", [(1, 1)])
        code = """
import numpy as np
from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands._main import main

pipe = DiffusionCTPipeline.from_pretrained()
hu = pipe(np.linspace(-1000, 500, 4096, dtype=np.float32).reshape(64, 64), pixel_spacing=0.7).images[0]
finish(code=main(["standardize", *sys.argv[1:]]), shape=hu.shape)
"""
        done = run(code, scans, tmp_path / "out")
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout.splitlines()[-1]) == {"asked": [], "code": 0, "shape": [64, 64]}
        assert (tmp_path / "out/1/1.dcm").is_file()

    def test_is_asked_for_by_the_hubs_client(self):
        """The test above must not pass because nothing would be seen."""
        code = """
import huggingface_hub
from diffusionct_pipeline import DiffusionCTPipeline

try:
    huggingface_hub.HfApi().model_info("user/absent")
except Exception as error:
    finish(error=type(error).__name__)
"""
        done = run(code)
        assert json.loads(done.stdout.splitlines()[-1])["asked"] != [], done.stderr[-3000:]


class TestCheckpoints:
    def test_are_safetensors_and_json(self):
        suffixes = {path.suffix for path in PRETRAINED.rglob("*") if path.is_file()}
        assert suffixes <= {".safetensors", ".json", ".md"}

    def test_whose_weights_are_a_pickle_are_refused(self, tmp_path):
        pipe = tiny_pipeline()
        pipe.save_pretrained(tmp_path, safe_serialization=False)
        assert list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.safetensors"))
        with pytest.raises(OSError, match="safetensors"):
            DiffusionCTPipeline.from_pretrained(str(tmp_path))

    @pytest.mark.parametrize(("where", "reason"), [("pipeline", "trust_remote_code"), ("component", "must be one of")])
    def test_that_bring_code_are_refused_before_it_runs(self, tmp_path, model, where, reason):
        folder, ran = tmp_path / "checkpoint", tmp_path / "ran"
        shutil.copytree(model, folder)
        index = json.loads((folder / "model_index.json").read_text())
        if where == "pipeline":
            index["_class_name"], place = ["code", "Pipeline"], folder
        else:
            index["denoiser"], place = ["code", "Denoiser"], folder / "denoiser"
        (place / "code.py").write_text(f"open({str(ran)!r}, 'w')")
        (folder / "model_index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=reason):
            DiffusionCTPipeline.from_pretrained(str(folder))
        assert not ran.exists()


# Names of folders, which nothing may carry on, and values of headers, which only derived headers carry on.
FOLDERS = ("Doe", "Jane")
VALUES = ("Roe", "Richard", "4711", "1960", "Mercy", "Watson")
SECRET = "told-in-private"


@pytest.fixture(scope="module")
def patient_run(tmp_path_factory, model):
    """Scans of one patient in a folder named after another, with errors; the log of a run over them, and its OUT."""
    home = tmp_path_factory.mktemp("home")
    identity = {
        "PatientName": "Roe^Richard",
        "PatientID": "4711",
        "InstitutionName": "Mercy",
        "ReferringPhysicianName": "Watson",
        "ImageOrientationPatient": None,  # both are warned of
    }
    scans = write_scans(home / "Doe_Jane/scan", [(1, 1), (1, 2)], **identity)
    for path in scans.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0099, "Roe private", create=True).add_new(1, "LO", SECRET)
        with pydicom.config.disable_value_validation():
            dataset.PatientBirthDate = "1960.01.02 Roe"
            save(dataset, path)
    save(make_slice(HU, number=3, **identity), scans / "1/3.dcm")
    (scans / "1/3.dcm").write_bytes((scans / "1/3.dcm").read_bytes()[:-1000])
    save(make_slice(HU, number=4, PixelSpacing=None, **identity), scans / "1/4.dcm")
    (scans / "notes.txt").write_text("Roe")
    reference = write_scans(home / "Doe_Jane/reference", [(3, 1)], **identity)
    (reference / "3/notes.txt").write_text("Roe")
    out = home / "Doe_Jane_out"
    code = "from diffusionct_pipeline.commands._main import main; sys.exit(main())"
    done = run(code, "standardize", scans, out, "--reference", reference / "3", "--model", model, "--samples", "2",
               "--preview")  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return scans, out, done.stdout + done.stderr


class TestPrivacy:
    def test_the_log_names_neither_folders_nor_values(self, patient_run):
        log = patient_run[2]
        assert [word for word in (*FOLDERS, *VALUES, SECRET) if word in log] == [], log
        told = ('"IN/1/1.dcm" has no ImageOrientationPatient', 'failed: "IN/1/3.dcm"', '"IN/1/4.dcm"', '"REFERENCE/')
        assert [part for part in told if part not in log] == [], "what is wrong, and where"

    def test_the_report_names_neither_folders_nor_values(self, patient_run):
        text = (patient_run[1] / REPORT).read_text()
        assert [word for word in (*FOLDERS, *VALUES, SECRET) if word in text] == []
        report = json.loads(text)
        assert (report["written"], report["failures"]) == (2, 2)
        assert report["unusable"][0]["reason"].startswith('"IN/1/4.dcm" has no pixel spacing')

    def test_derived_headers_hold_the_patient_of_the_source_and_no_folder(self, patient_run):
        scans, out, _ = patient_run
        for name in ("1/1.dcm", "1/2.dcm"):
            data = (out / name).read_bytes()
            assert [word for word in (*FOLDERS, SECRET) if word.encode() in data] == []
            source, derived = pydicom.dcmread(scans / name), pydicom.dcmread(out / name)
            for keyword in ("PatientName", "PatientID", "InstitutionName", "StudyInstanceUID"):
                assert derived[keyword].value == source[keyword].value
            added = {element.keyword for element in derived} - {element.keyword for element in source}
            assert "DerivationDescription" in added and not {key for key in added if key.startswith("Patient")} - {
                "PatientPosition"
            }

    def test_samples_and_pictures_hold_pixels_and_uids(self, patient_run):
        out = patient_run[1]
        names = tree(out)
        samples, pictures = [n for n in names if n.endswith(".npz")], [n for n in names if n.endswith(".png")]
        assert len(samples) == len(pictures) == 2
        for name in samples:
            with np.load(out / name) as file:
                texts = {key: str(file[key]) for key in file if file[key].dtype.kind == "U"}
            assert set(texts) == {"source_uid", "derived_uid"}
        for name in pictures:
            with Image.open(out / name) as picture:
                assert set(picture.info) <= {"dpi"}

    def test_a_pictures_title_names_no_path(self, tmp_path, model, monkeypatch):
        titles = []
        monkeypatch.setattr(folder_previews, "preview_png", lambda *arguments: titles.append(arguments[3]) or b"")
        scans = write_scans(tmp_path / "in/Doe_Jane")
        pytest.importorskip("matplotlib")
        standardize_folder(scans.parent, tmp_path / "out", model=model, preview=True)
        assert titles == [
            "series 1, slice 1 of 2   B70f to uncertain synth",
            "series 1, slice 2 of 2   B70f to uncertain synth",
            "series 2, slice 1 of 1   B70f to uncertain synth",
        ]
