"""Loading: from a model card and `LoadOptions` to a stock pipeline in memory, with progress and one error a cause."""

from pipelines.loading.control import controlnet_of, load_controlnet
from pipelines.loading.load import load_pipeline, load_tiny
from pipelines.loading.options import DTYPES, OFFLOADS, QUANTIZERS, LoadOptions, Lora

__all__ = [
    "DTYPES",
    "OFFLOADS",
    "QUANTIZERS",
    "LoadOptions",
    "Lora",
    "controlnet_of",
    "load_controlnet",
    "load_pipeline",
    "load_tiny",
]
