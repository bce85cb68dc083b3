"""A checkpoint of a training is whole or not there, and `latest` is the newest whole one, whatever cut a save short."""

import errno
import os

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from diffusionct_pipeline.train import checkpoints
from diffusionct_pipeline.train.checkpoints import KEEP, Clock, list_checkpoints, load_checkpoint, save_checkpoint


class Run:
    """A network whose weight is the step at which it was saved."""

    def __init__(self, output):
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator, self.output, self.clock = Accelerator(cpu=True), output, Clock()
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.model, self.optimizer = self.accelerator.prepare(self.model, torch.optim.AdamW(self.model.parameters()))
        self.accelerator.register_for_checkpointing(self.clock)

    def save(self, step):
        self.clock.step = step
        torch.nn.init.constant_(self.model.weight, step)
        save_checkpoint(self.accelerator, self.output, step)

    def resume(self, resume="latest"):
        """Step that it goes on from."""
        load_checkpoint(self.accelerator, self.output, resume)
        assert self.model.weight.item() == self.clock.step
        return self.clock.step


def names(output):
    return sorted(path.name for path in (output / "checkpoints").iterdir())


@pytest.fixture
def saved(tmp_path):
    run = Run(tmp_path)
    for step in (1, 2, 3):
        run.save(step)
    return tmp_path


def test_the_newest_are_kept_and_nothing_else(saved):
    assert names(saved) == ["step-00000002", "step-00000003"] and KEEP == 2
    assert Run(saved).resume() == 3


def test_a_step_that_is_saved_again_is_replaced(saved):
    run = Run(saved)
    run.resume()
    run.save(3)
    assert names(saved) == ["step-00000002", "step-00000003"] and Run(saved).resume() == 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_save_that_fails_leaves_what_was_there(saved, monkeypatch, code):
    run = Run(saved)

    def fail(*arguments, **options):
        raise RuntimeError(f"unexpected pos 64 vs 0: {os.strerror(code)}")  # as PyTorch says it

    with monkeypatch.context() as patch:
        patch.setattr("accelerate.accelerator.save_custom_state", fail)
        with pytest.raises(OSError if code == errno.ENOSPC else RuntimeError, match=os.strerror(code)) as caught:
            run.save(4)
    assert code == errno.EIO or caught.value.filename.endswith("step-00000004")
    assert names(saved) == ["step-00000002", "step-00000003"] and Run(saved).resume() == 3


@pytest.mark.parametrize("killed_in", ["save_state", "_drop"])
def test_a_kill_in_the_middle_of_a_save_leaves_whole_ones_and_the_next_save_clears_up(saved, monkeypatch, killed_in):
    class Killed(BaseException):
        """Nothing is cleaned up after it."""

    def die(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patch:
        if killed_in == "_drop":
            patch.setattr(checkpoints.shutil, "rmtree", die)
        else:
            patch.setattr("accelerate.accelerator.save_custom_state", die)
        with pytest.raises(Killed):
            Run(saved).save(4)
    assert any(name.startswith(".step") for name in names(saved))
    run = Run(saved)
    assert run.resume() == (4 if killed_in == "_drop" else 3)
    run.save(5)
    assert not any(name.startswith(".step") for name in names(saved)) and Run(saved).resume() == 5


@pytest.mark.parametrize("length", [0, 100, -1])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.bin", "custom_checkpoint_0.pkl"])
def test_a_half_written_one_is_passed_over_by_name(saved, caplog, file, length):
    path = saved / "checkpoints/step-00000003" / file
    path.write_bytes(path.read_bytes()[:length])
    assert Run(saved).resume() == 2
    assert "step-00000003 cannot be loaded" in caplog.text


def test_none_that_is_whole_is_an_error_that_names_one(saved):
    for folder in list_checkpoints(saved):
        (folder / "optimizer.bin").unlink()
    with pytest.raises(ValueError, match='"latest".*step-00000002.*cannot be loaded'):
        Run(saved).resume()
    with pytest.raises(ValueError, match="holds no checkpoint"):
        load_checkpoint(Run(saved).accelerator, saved / "elsewhere", "latest")
    with pytest.raises(ValueError, match='`resume` must be .*nowhere"'):
        Run(saved).resume(str(saved / "nowhere"))
