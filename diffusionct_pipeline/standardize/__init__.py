"""What is done to folders: every CT series and volume standardized, resumed, checked and reported."""

from .folder import standardize_folder
from .listed import merge_reports, standardize_listed
from .on_ray import standardize_on_ray

__all__ = ["merge_reports", "standardize_folder", "standardize_listed", "standardize_on_ray"]
