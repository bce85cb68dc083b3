"""One thread, however many there are: results must not depend on what a machine or a batch system grants."""

import json

import numpy as np
import torch
from helpers.bodies import body_slice
from helpers.tiny import tiny_pipeline
from threadpoolctl import threadpool_info, threadpool_limits

from diffusionct_pipeline.estimation import estimate_kernel_of_slices
from diffusionct_pipeline.utils.devices import one_thread


def blas_threads():
    return {item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas"}


class TestOneThread:
    def test_is_that_of_every_library_and_ends_with_the_block(self):
        torch.set_num_threads(2)
        try:
            with threadpool_limits(2, user_api="blas"):
                before = blas_threads()
                with one_thread():
                    assert blas_threads() == {1} and torch.get_num_threads() == 1
                assert blas_threads() == before and torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)

    def test_gives_one_estimate_on_one_thread_and_two(self):
        """To the last bit. Without it this scan has two where there are two cores."""
        hu = [body_slice(seed=seed)[0] for seed in range(2)]
        slices = tiny_pipeline().image_processor.load(np.stack(hu), 0.7)
        found = []
        for threads in (1, 2):
            with threadpool_limits(threads, user_api="blas"), one_thread():
                found.append(json.dumps(estimate_kernel_of_slices(slices).to_json()))
        assert found[0] == found[1]
