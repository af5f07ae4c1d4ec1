"""Learn look: vectors that stand for one cut-out, learned by textual inversion, kept, and worn for one run."""

from pipelines.learning.cache import folder
from pipelines.learning.looks import Worn, with_looks

__all__ = ["Worn", "folder", "with_looks"]
