"""What is known of a scan, kept between runs."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.estimates import kernel_estimate, scan_estimate

from diffusionct_pipeline.scan_estimate import ScanEstimate


@pytest.fixture(params=[None, "Br59"])
def estimate(request):
    return scan_estimate(request.param and kernel_estimate(request.param))


class TestJSON:
    def test_and_back_is_the_same_bit_for_bit(self, estimate):
        again = ScanEstimate.from_json(json.loads(json.dumps(estimate.to_json())))
        assert torch.equal(again.tokens, estimate.tokens) and again.tokens.dtype == torch.float16
        assert again.kernel == estimate.kernel and again.digest() == estimate.digest()
        denoised = replace(estimate, removed=0.8125)
        again = ScanEstimate.from_json(json.loads(json.dumps(denoised.to_json())))
        assert again.removed == 0.8125 and again.digest() == denoised.digest() != estimate.digest()
        assert (
            again.told_by
            == estimate.told_by
            == ("nothing" if estimate.kernel is None else "skin and noise of 4 slices")
        )

    @pytest.mark.parametrize(
        "damage",
        [
            lambda values: {},
            lambda values: None,
            lambda values: values | {"tokens": None},
            lambda values: values | {"tokens": values["tokens"] | {"shape": [4, 8]}},
            lambda values: values | {"tokens": values["tokens"] | {"shape": [40]}},
            lambda values: values | {"tokens": values["tokens"] | {"float16": "?" + values["tokens"]["float16"][1:]}},
            lambda values: values | {"tokens": values["tokens"] | {"float16": values["tokens"]["float16"][:-4]}},
            lambda values: values | {"tokens": {"shape": [1, 1], "float16": "AH4="}},  # no number
            lambda values: values | {"kernel": {"mtf50": 3.0}},
            lambda values: values | {"kernel": "Br40"},
            lambda values: values | {"removed": float("nan")},
            lambda values: values | {"removed": "much"},
        ],
    )
    def test_a_damaged_one_is_refused(self, estimate, damage):
        with pytest.raises(ValueError, match="the estimate of the source cannot be read"):
            ScanEstimate.from_json(damage(estimate.to_json()))


def test_the_digest_depends_on_all_of_it():
    estimates = [
        scan_estimate(), scan_estimate(seed=1), scan_estimate(tokens=6), scan_estimate(kernel_estimate("Br40")),
        scan_estimate(kernel_estimate("Br44")), scan_estimate(kernel_estimate("Br40", noise_hu={"soft tissue": 21.0})),
    ]  # fmt: skip
    digests = [estimate.digest() for estimate in estimates]
    assert len(set(digests)) == len(digests) and digests[0] == scan_estimate().digest()


def test_what_the_denoiser_would_put_back_tells_a_smoothed_scan():
    plain = scan_estimate(kernel_estimate("Br40"))
    assert plain.smoothed < 0.01 and replace(plain, removed=0.2).smoothed < 0.01
    assert replace(plain, removed=1.0).smoothed > 0.99
    heavy = scan_estimate(kernel_estimate("Br40", tails=(1.5, 0.5)), seed=0)
    assert replace(heavy, removed=-0.2).smoothed > 0.95, "either sign will do"
    assert scan_estimate().smoothed == 0 == replace(scan_estimate(), removed=2.0).smoothed, "no kernel, nothing known"
