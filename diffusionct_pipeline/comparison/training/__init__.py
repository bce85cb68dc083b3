"""Training of the rivals, each by its own recipe."""

from .options import SystemOptions
from .rivals import RIVALS, RivalsOptions, train_rivals
from .system_phase import SystemPhase, train_system

__all__ = ["RIVALS", "RivalsOptions", "SystemOptions", "SystemPhase", "train_rivals", "train_system"]
