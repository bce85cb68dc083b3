import json

import pytest
from helpers.runs import tree

from diffusionct_pipeline.simulation import SeriesOptions, simulate


class TestSimulate:
    def test_writes_one_folder_per_phantom_and_tells_its_progress(self, tmp_path):
        calls = []
        options = SeriesOptions(
            kernels=("Br40",), thickness_mm=3, phantoms=2, seed=4, slices=1, size=32, spacing_mm=(1.5, 2), mas=(10, 150),
            kernel_jitter=0.1,
        )  # fmt: skip
        out = simulate(tmp_path / "out", options, progress=lambda done, total: calls.append((done, total)))
        assert calls == [(1, 2), (2, 2)]
        assert [folder.name for folder in out] == ["phantom_0004", "phantom_0005"]
        sidecars = [json.loads((folder / "simulation.json").read_text()) for folder in out]
        for sidecar in sidecars:
            assert 10 <= sidecar["mas"] <= 150 and 1.5 <= sidecar["spacing_mm"] <= 2
            assert sidecar["thickness_mm"] == 3 and len(sidecar["tumours"]) == 3
        assert sidecars[0]["mas"] != sidecars[1]["mas"]
        with pytest.raises(FileExistsError, match="phantom_0005"):
            simulate(tmp_path / "out", SeriesOptions(phantoms=1, seed=5, slices=1))

    def test_resumes_with_the_phantoms_that_are_missing(self, tmp_path):
        options = SeriesOptions(("Br40",), thickness_mm=3, phantoms=2, seed=4, slices=2, size=32, kernel_jitter=0.1)

        def interrupt(done, total):
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            simulate(tmp_path / "out", options, progress=interrupt)
        left = tree(tmp_path / "out")
        assert {name.split("/")[0] for name in left} == {"phantom_0004"}
        before = (tmp_path / "out/phantom_0004/simulation.json").stat()
        (tmp_path / "out/.phantom_0005.part/.0.part/Br40").mkdir(parents=True)  # what a kill leaves
        calls = []
        simulate(tmp_path / "out", options, progress=lambda done, total: calls.append(done))
        assert calls == [2, 3, 4]
        assert (tmp_path / "out/phantom_0004/simulation.json").stat() == before
        simulate(tmp_path / "undisturbed", options)
        assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["phantom_0004", "phantom_0005"]

    def test_a_damaged_phantom_is_not_taken_for_a_finished_one(self, tmp_path):
        options = SeriesOptions(("Br40",), thickness_mm=3, phantoms=1, slices=2, size=32)
        (folder,) = simulate(tmp_path, options)
        (folder / "Br40/0002.dcm").unlink()
        with pytest.raises(FileExistsError, match="phantom_0000"):
            simulate(tmp_path, options)

    @pytest.mark.parametrize(
        "bad",
        [{"phantoms": 0}, {"slices": 0}, {"slices": 1000}, {"mas": (9, 1)}, {"kernels": ("Q",)}, {"style": "dog"}],
    )
    def test_bad_options_are_refused_before_anything_is_written(self, bad, tmp_path):
        with pytest.raises(ValueError, match="must be"):
            simulate(tmp_path / "out", SeriesOptions(**{"phantoms": 1, "slices": 1, **bad}))
        assert not (tmp_path / "out").exists()

    def test_what_is_drawn_depends_on_the_phantom_only(self):
        options = SeriesOptions(mas=(10, 150), kernel_jitter=0.1, seed=4)
        assert options.scan_options(5) == SeriesOptions(mas=(10, 150), kernel_jitter=0.1, seed=5).scan_options(5)
        assert options.scan_options(5) != options.scan_options(4)
