"""Standardize one DICOM slice to the checkpoint's own standard (simulated Siemens Bl64) and write it as DICOM.

    python examples/01_standardize_one_slice.py [slice.dcm [standardized.dcm]]

Without arguments it uses the CT slice that comes with pydicom. Runs offline in seconds.
"""

import sys

from pydicom.data import get_testdata_file

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import write_slice

source = sys.argv[1] if len(sys.argv) > 1 else get_testdata_file("CT_small.dcm")
target = sys.argv[2] if len(sys.argv) > 2 else "standardized.dcm"

pipe = DiffusionCTPipeline.from_pretrained()
standardized = pipe(source).images[0]  # a pydicom Dataset, as the input was a DICOM file
write_slice(standardized, target)

print(f"{source} -> {target}")
print(f"kernel: {standardized.ConvolutionKernel}; series: {standardized.SeriesDescription}")
print(standardized.DerivationDescription)
