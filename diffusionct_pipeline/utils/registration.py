"""Register this package with diffusers' loader, so that `DiffusionPipeline.from_pretrained("user/repo")` works.

diffusers (as of 0.42.1) refuses a Hub repository whose components come from a library that is not in its table
`LOADABLE_CLASSES`, and looks up the pipeline class as an attribute of `diffusers`. This module fills in both, as there is no
public interface for it. Importing diffusers loads torch and takes seconds, so `import diffusionct_pipeline` must not do that:
the registration waits until diffusers defines `DiffusionPipeline`. tests/test_hub.py covers all of this.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "diffusionct_pipeline"
AWAITED = "diffusers.pipelines.pipeline_utils"  # the module that defines DiffusionPipeline


def register(pipeline_class: type) -> None:
    """Add a pipeline class and this package's components to diffusers' tables."""
    import diffusers
    from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

    methods = ["save_pretrained", "from_pretrained"]
    base_classes = ("ModelMixin", "SchedulerMixin", "DiffusionPipeline")  # each available as diffusionct_pipeline.X
    LOADABLE_CLASSES.setdefault(PACKAGE, {name: list(methods) for name in base_classes})
    setattr(diffusers, pipeline_class.__name__, pipeline_class)


def register_with_diffusers() -> None:
    """Import the pipeline, which registers itself: now if diffusers has been imported, otherwise as soon as it is."""
    if AWAITED in sys.modules:
        importlib.import_module(f"{PACKAGE}.pipeline")
    elif not any(isinstance(finder, _AfterDiffusers) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterDiffusers())


class _AfterDiffusers(MetaPathFinder):
    """Find `AWAITED` as usual and import the pipeline after it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != AWAITED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        run_module = spec.loader.exec_module

        def run_then_register(module: ModuleType) -> None:
            run_module(module)
            importlib.import_module(f"{PACKAGE}.pipeline")

        spec.loader.exec_module = run_then_register  # type: ignore[method-assign]  # this loader is of one module only
        return spec
