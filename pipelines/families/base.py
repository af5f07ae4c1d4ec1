"""What every model family answers: where text and image tokens sit, how latents are packed, phrase → tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pipelines.attention.kernel import Site
from pipelines.attention.tap import sites
from pipelines.errors import CutOffError, PhraseError, UnsupportedError
from pipelines.families.spans import negative_text
from pipelines.methods.base import Inputs, Reach
from pipelines.pictures import Pixels
from pipelines.request import LayerRequest, RenderRequest

NO_LOOK = "learned embeddings are for Stable Diffusion 1 and 2, XL and FLUX.1"
NO_IMAGE_PROMPT = "masked image prompts (IP-Adapter) are for Stable Diffusion 1 and XL"
NO_CONTROL = "ControlNets are for Stable Diffusion 1, 2 and XL"
NOTHING: Mapping[str, str] = MappingProxyType({})


class Family:
    """What the families share. Stateless."""

    name = ""
    models = ""
    """What the family is called outside."""
    text_to_image = ""
    image_to_image = ""
    """Names of stock pipeline classes; "" where diffusers has no image-to-image with a strength."""
    multiple = 8
    """Sides of a picture are multiples of this."""
    prediction: str | None = None
    """What the denoiser's output is, where the scheduler's config does not say."""
    parts: tuple[str, ...] = ()
    """The values of `Site.part` that occur."""
    half_step = 0.5
    """Added to the steps when a strength is made of them, so that the pipeline's rounding cannot miss the count."""
    keeps_float32 = False
    """Whether the pipeline keeps latents in float32 whatever the denoiser's dtype."""
    encoders: tuple[tuple[str, str], ...] = ()
    """Tokenizers and text encoders by name that diffusers loads learned embeddings into (`pipelines.learning`)."""
    image_prompts = False
    """Whether diffusers has IP-Adapters with masks for it."""
    controlled = False
    """Whether a ControlNet can run beside the denoiser (`control`, `put_control`)."""
    refused: Mapping[str, str] = NOTHING
    """Fields of a request or of its layers that this family cannot do, and why; asked for, they are refused by name."""

    def check(self, request: RenderRequest, pipe: Any = None) -> None:
        """`UnsupportedError` for what a request asks of this family in vain, without ``pipe`` of any model of it."""
        for side in ("width", "height"):
            value = getattr(request, side)
            if value % self.multiple:
                raise UnsupportedError(
                    f"{side} is {value}, and {request.model} needs a multiple of {self.multiple}; change the canvas."
                )
        for part in request.spread_parts:
            if part not in self.parts:
                raise UnsupportedError(
                    f"spread_parts names {part!r}, which {request.model} does not have; "
                    f"choose from {', '.join(self.parts)}."
                )
        self.refuse(request, self.refused)

    def refuse(self, request: RenderRequest, refused: Mapping[str, str]) -> None:
        """`UnsupportedError` for the first of ``refused`` (word, why) that a request or a layer of it asks for."""
        for word, why in refused.items():
            for layer in request.layers:
                if getattr(layer, word, None):
                    raise UnsupportedError(
                        f"layer {layer.name!r}: {word.replace('_', ' ')} cannot be used with {request.model}: {why}; "
                        "leave it off or empty."
                    )
            if getattr(request, word, None):
                raise UnsupportedError(
                    f"{word.replace('_', ' ')} cannot be used with {request.model}: {why}; leave it off or empty."
                )

        other = "use learn look" if self.encoders else "lower harmonize to keep the cut-out's own look"
        for layer in request.layers:
            if layer.is_image_prompt and not self.image_prompts:
                raise UnsupportedError(
                    f"layer {layer.name!r}: image prompt cannot be used with {request.model}: {NO_IMAGE_PROMPT}; set "
                    f"it to 0, and {other}."
                )
            if layer.keeps_shape and not self.controlled:
                raise UnsupportedError(
                    f"layer {layer.name!r}: keep shape cannot be used with {request.model}: {NO_CONTROL}; set it to 0, "
                    "and lower harmonize to keep the cut-out's own shape."
                )
        if not self.encoders:
            for layer in request.layers:
                if layer.look is not None:
                    raise UnsupportedError(
                        f"layer {layer.name!r}: look cannot be used with {request.model}: {NO_LOOK}; switch it off, "
                        "and lower harmonize to keep the cut-out's own look."
                    )

    def pipeline(self, base: Any, scheduler: Any, *, from_picture: bool) -> Any:
        """A stock pipeline object of our own over the parts of ``base``, so that ``base`` is never changed."""
        import diffusers

        kind = getattr(diffusers, self.image_to_image if from_picture else self.text_to_image)
        parts = {**base.components, "scheduler": scheduler}
        return kind(**parts, **self.options(base))

    def options(self, base: Any) -> dict[str, Any]:
        """Constructor arguments that are not parts."""
        return {}

    def denoiser(self, pipe: Any) -> torch.nn.Module:
        """The module that is tapped and hooked."""
        raise TypeError("a family says which part denoises")

    def site(self, name: str, module: torch.nn.Module) -> Site | None:
        """A module of the denoiser as a `Site`, None to leave it alone."""
        raise TypeError("a family says what its attention modules are")

    def levels(self, pipe: Any) -> set[tuple[str, int | None]]:
        """Where image tokens look at each other: parts of the denoiser, each with the `level` of its modules."""
        denoiser = self.denoiser(pipe)
        return {
            (site.part, self.level(pipe, name))
            for name, _, site in sites(denoiser, self.site)
            if not site.cross
        }

    def level(self, pipe: Any, name: str) -> int | None:
        """How often the latents' grid is halved where the module called ``name`` is; None in joint attention, which has
        one grid everywhere.
        """
        raise TypeError("a family says on which grid its attention modules are")

    def rows(self, count: int, images: int, turn: int = 0) -> tuple[list[int], list[list[int]]]:
        """Conditional rows and guidance branches of call number ``turn`` of a step, a batch of ``count`` rows.

        Here [negative…, positive…] in one call, or one branch.
        """
        branches = [list(range(start, start + images)) for start in range(0, count, images)]
        return branches[-1], branches

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Whether a run has negative rows, which guidance steers away from."""
        return request.guidance > 1

    def steering(self, pipe: Any, request: RenderRequest, branches: list[list[int]]) -> float:
        """How far guidance moves the picture for each unit the negative branch moves by; 0 without such a branch.

        Here u + g (c − u), so g − 1.
        """
        return request.guidance - 1 if len(branches) > 1 else 0.0

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """For each layer the positions of its words among the text tokens. Raises `PhraseError`."""
        raise TypeError("a family says where words stand")

    def reaches(self, pipe: Any, request: RenderRequest) -> tuple[Reach, ...]:
        """Text keys that only part of the picture sees. Raises `PhraseError` where words are not among the keys.

        Here the negative words of layers, at the end of one negative prompt.
        """
        text, spans = negative_text(request)
        if not any(spans) or not self.guided(pipe, request):
            return ()
        layers = tuple(
            dataclasses.replace(layer, span=span) for layer, span in zip(request.layers, spans, strict=True)
        )
        found = self.tokens(pipe, request.replace(prompt=text, layers=layers))
        return tuple(Reach("negative", tuple(keys), (number,)) for number, keys in enumerate(found) if keys)

    def cut_off(self, pipe: Any, request: RenderRequest, prompt: str) -> bool:
        """Whether the model reads less than the whole of ``prompt``; its last character is asked for like a layer's."""
        end = len(prompt.rstrip())
        if end == 0:
            return False
        last = LayerRequest(name="", mask="", span=(end - 1, end), harmonize=1.0)
        try:
            self.tokens(pipe, request.replace(prompt=prompt, collage="", layers=(last,), avoids=()))
        except CutOffError:
            return True
        except PhraseError:
            pass  # it is changed on its way, which matters to layers alone
        return False

    def set_timesteps(self, pipe: Any, scheduler: Any, request: RenderRequest, steps: int) -> None:
        """Set the whole schedule; the pipeline sets its own again when it is called."""
        scheduler.set_timesteps(steps)

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """The words and numbers of the stock call that differ between families."""
        return {
            "prompt": request.prompt,
            "negative_prompt": negative_text(request)[0] or None,
            "guidance_scale": request.guidance,
        }

    def copies(self, picture: Any, count: int) -> Any:
        """What image-to-image is given for ``count`` images of one picture."""
        return picture

    def pack(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) → what pipeline and scheduler keep."""
        return latents

    def unpack(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The inverse of `pack`; ``size`` is (h, w) in latent cells."""
        return latents

    def given(self, latents: torch.Tensor) -> torch.Tensor:
        """Start latents (n, C, h, w) as the stock call takes them."""
        return self.pack(latents)

    def start(self, latents: torch.Tensor) -> torch.Tensor:
        """What image-to-image gives its scheduler to be noised → (n, C, h, w)."""
        return latents

    def read(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Inputs:
        """The arguments of a denoiser call."""
        raise TypeError("a family says how its denoiser is called")

    def write(self, inputs: Inputs, args: Any) -> tuple[Any, dict[str, Any]]:
        """The inverse of `read`: positional and keyword arguments."""
        raise TypeError("a family says how its denoiser is called")

    @torch.no_grad()
    def encode_picture(self, pipe: Any, picture: Pixels) -> torch.Tensor:
        """uint8 (H, W, 3) → clean scaled latents (1, C, h, w); the mean of the posterior, so without chance."""
        vae = pipe.vae
        dtype = vae.dtype
        # XL's autoencoder overflows in 16 bit; stock pipelines widen it for the call just so
        upcast = dtype == torch.float16 and vae.config.get("force_upcast", False)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        try:
            if upcast:
                vae.to(torch.float32)
            encoded = vae.encode(
                self.pixels(pixels).to(pipe._execution_device, torch.float32 if upcast else dtype)
            )
        finally:
            if upcast:
                vae.to(dtype)
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return self.clean_latents(pipe, latents).to(dtype)

    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) in −1..1 as the autoencoder takes it."""
        return pixels

    def clean_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's numbers in the denoiser's scale."""
        scaled: torch.Tensor = latents * pipe.vae.config.scaling_factor
        return scaled

    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """The empty prompt as one row of the denoiser's text inputs."""
        raise TypeError("a family says how it encodes the empty prompt")

    def texts(self, kwargs: dict[str, Any]) -> list[torch.Tensor]:
        """The token states of each row, (T, D)."""
        return list(kwargs["encoder_hidden_states"].unbind(0))

    def put_texts(self, kwargs: dict[str, Any], texts: list[torch.Tensor]) -> None:
        """The inverse of `texts`; what the pipeline keeps is left as it was."""
        kwargs["encoder_hidden_states"] = torch.stack(texts)

    def text(self, pipe: Any, prompt: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """``prompt`` as one row of what `predict` reads, with its gradient; ``size`` is the picture's (h, w)."""
        raise TypeError("a family that learns looks says how it encodes a prompt")

    def moment(self, pipe: Any, share: float) -> tuple[float, tuple[float, float]]:
        """The model's own time and the (alpha, sigma) at ``share`` of its training's noise levels, 0 the least."""
        raise TypeError("a family that learns looks says how much noise there is when")

    def predict(
        self,
        pipe: Any,
        noisy: torch.Tensor,
        times: torch.Tensor,
        text: dict[str, torch.Tensor],
        guidance: float,
    ) -> torch.Tensor:
        """One denoiser call without a run: (n, C, h, w) at (n,) times, with one row of ``text`` for all."""
        raise TypeError("a family that learns looks says how its denoiser is called")

    def control(
        self, controlnet: Any, inputs: Inputs, picture: torch.Tensor, mode: int, rows: int, words: int | None
    ) -> list[torch.Tensor]:
        """What a ControlNet adds to each of the denoiser's levels, (rows, C, h, w), for its first ``rows`` rows.

        ``picture`` (1, 3, H, W) in 0..1 is what it is shown, ``mode`` the number of its kind to one that knows several.
        It reads the first ``words`` text tokens, None all.
        """
        raise TypeError("a family with ControlNets says how they are called")

    def put_control(self, kwargs: dict[str, Any], residuals: list[torch.Tensor]) -> None:
        """Give the denoiser what a ControlNet adds, of all rows."""
        raise TypeError("a family with ControlNets says what its denoiser takes")

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Append ``count`` rows of ``text`` to the denoiser's keyword arguments."""
        raise TypeError("a family says which arguments have rows")
