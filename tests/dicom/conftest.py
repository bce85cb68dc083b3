import pydicom
import pytest
from pydicom.data import get_testdata_file


@pytest.fixture
def ct_small_path():
    return get_testdata_file("CT_small.dcm")


@pytest.fixture
def ct_small(ct_small_path):
    return pydicom.dcmread(ct_small_path)
