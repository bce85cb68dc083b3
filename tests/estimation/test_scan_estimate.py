"""What is known of a scan, kept between runs."""

import json

import pytest
import torch
from helpers.estimates import kernel_estimate, scan_estimate

from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate


@pytest.fixture(params=[None, "Br59"])
def estimate(request):
    return scan_estimate(request.param and kernel_estimate(request.param))


class TestJSON:
    def test_and_back_is_the_same_bit_for_bit(self, estimate):
        again = ScanEstimate.from_json(json.loads(json.dumps(estimate.to_json())))
        assert torch.equal(again.tokens, estimate.tokens) and again.tokens.dtype == torch.float16
        assert again.kernel == estimate.kernel and again.digest() == estimate.digest()
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
