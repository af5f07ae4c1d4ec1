"""Picture as prompt: a cut-out prompts the model inside its layer's visible mask (IP-Adapter, arXiv 2308.06721)."""

from pipelines.image_prompts.prompts import adapter_asked, prepare, prompting, with_image_prompts

__all__ = ["adapter_asked", "prepare", "prompting", "with_image_prompts"]
