"""The learnt eye as a network: shapes, what it is told, and that it comes back from its file."""

import pytest
import torch

from diffusionct_pipeline.models.kernel_eye import LOG_VARIANCE, KernelEye


@pytest.fixture
def eye():
    torch.manual_seed(0)
    return KernelEye(frequencies=5, width=8, layers_per_stage=1, patch_pixels=32).eval()


def patches(count, side=32):
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(1))


def test_answers_for_every_patch(eye, no_gradients):
    mean, log_variance = eye(patches(3), torch.tensor([5.0, 6.0, 7.0]))
    assert mean.shape == log_variance.shape == (3, 5)
    assert log_variance.min() >= LOG_VARIANCE[0] and log_variance.max() <= LOG_VARIANCE[1]


@pytest.mark.parametrize("training", [False, True])
def test_an_answer_does_not_depend_on_the_batch(eye, training, no_gradients):
    eye.train(training)
    sample, nyquist = patches(3), torch.tensor([5.0, 6.0, 7.0])
    together = eye(sample, nyquist)[0]
    apart = torch.cat([eye(sample[i : i + 1], nyquist[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_detail_relative_to_itself_knows_no_contrast(eye):
    sample = 0.2 * patches(2)
    torch.testing.assert_close(eye.views(3 * sample)[:, 2], eye.views(sample)[:, 2], rtol=0.05, atol=0.02)


def test_comes_back_from_its_file_with_what_is_known_of_its_errors(eye, tmp_path, no_gradients):
    eye.error_moments.copy_(torch.eye(5) + 0.5)
    eye.save_pretrained(tmp_path)
    again = KernelEye.from_pretrained(tmp_path)
    assert torch.equal(again.error_moments, eye.error_moments)
    sample, nyquist = patches(1), torch.tensor([6.0])
    torch.testing.assert_close(again(sample, nyquist)[0], eye(sample, nyquist)[0])


def test_errors_stay_in_single_precision(eye, tmp_path):
    eye.save_pretrained(tmp_path)
    half = KernelEye.from_pretrained(tmp_path, torch_dtype=torch.float16)
    assert half.stem[0].weight.dtype == torch.float16 and half.error_moments.dtype == torch.float32


def test_is_small_enough_to_be_embedded():
    eye = KernelEye(width=32)
    assert 2 * sum(p.numel() for p in eye.parameters()) < 12e6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"width": 12}, "`width`"), ({"patch_pixels": 40}, "`patch_pixels`"), ({"frequencies": 0}, "`frequencies`")],
)
def test_names_a_wrong_argument(arguments, named):
    with pytest.raises(ValueError, match=named):
        KernelEye(**arguments)


def test_names_a_patch_of_another_size(eye):
    with pytest.raises(ValueError, match="`sample`"):
        eye(patches(1, side=48), torch.tensor([6.0]))
