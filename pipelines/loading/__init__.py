"""Loading: from a model card and `LoadOptions` to a stock pipeline in memory, with progress and one error a cause."""

from pipelines.loading.control import at_hand, controlnet_asked, controlnet_of, no_shape, prepare_controlnet
from pipelines.loading.load import load_pipeline, load_tiny
from pipelines.loading.options import DTYPES, OFFLOADS, QUANTIZERS, LoadOptions, Lora

__all__ = [
    "DTYPES",
    "OFFLOADS",
    "QUANTIZERS",
    "LoadOptions",
    "Lora",
    "at_hand",
    "controlnet_asked",
    "controlnet_of",
    "load_pipeline",
    "load_tiny",
    "no_shape",
    "prepare_controlnet",
]
