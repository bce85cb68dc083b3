import pydicom
import pytest
from pydicom.data import get_testdata_file

from diffusionct_pipeline.dicom import read_slice


@pytest.fixture
def ct_small_path():
    return get_testdata_file("CT_small.dcm")


@pytest.fixture
def ct_small(ct_small_path):
    return pydicom.dcmread(ct_small_path)


@pytest.fixture
def source(ct_small_path):
    return read_slice(ct_small_path)
