"""Tiny real pipelines of the transformer families: stock classes, tokenizers' too, random weights, 64×64 pixels."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import AddedToken, Tokenizer, models, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from pipelines.models.card import FLOW_SCHEDULERS, ModelCard
from tests.pipelines import tiny

WIDE = 32


@cache
def t5_words() -> T5TokenizerFast:
    """T5's tokenizer class over the letters and two words in pieces, so that phrases have several tokens."""
    pieces = ["▁", *(f"▁{word}" for word in ("a", "red", "and", "on", "the")), "be", "ach", "c", "ar", "at"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1) if chr(code) != "c"]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(piece, -2.0) for piece in pieces] + [(letter, -6.0) for letter in [*letters, ",", "."]]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, additional_special_tokens=[], model_max_length=512)


def t5_encoder(seed: int) -> T5EncoderModel:
    """Two layers, 32 wide."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(t5_words()),
        d_model=WIDE,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        is_encoder_decoder=False,
    )
    return T5EncoderModel(config).eval()


def autoencoder(seed: int) -> AutoencoderKL:
    """Factor 8, four latent channels, with the shift that these families have."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        shift_factor=0.06,
        scaling_factor=1.5,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def awake(model: Any) -> Any:
    """Weights wide enough that attention and text show in the picture."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.2 / parameter.shape[-1] ** 0.5)
        looks = (".to_q.", ".to_k.", ".add_q_proj.", ".add_k_proj.")
        if any(part in name for part in looks) and parameter.ndim > 1:
            parameter.data *= 2
    return model.eval()


def sd3() -> StableDiffusion3Pipeline:
    """As Stable Diffusion 3.5 medium: the first block has a second attention, inside the picture only."""
    torch.manual_seed(20)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=WIDE,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    torch.manual_seed(20)
    encoders = tiny.text_encoder(21, pooled=True), tiny.text_encoder(22, pooled=True)
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_words()),
            d_model=64,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            is_encoder_decoder=False,
        )
    ).eval()
    return StableDiffusion3Pipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(23),
        text_encoder=encoders[0],
        tokenizer=tiny.tokenizer(),
        text_encoder_2=encoders[1],
        tokenizer_2=tiny.tokenizer(),
        text_encoder_3=t5,
        tokenizer_3=t5_words(),
    )


def flux(*, guided: bool = True) -> FluxPipeline:
    """As FLUX.1 dev, or schnell, which has no guidance and no shift by size."""
    torch.manual_seed(30)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDE,
        pooled_projection_dim=WIDE,
        guidance_embeds=guided,
        axes_dims_rope=(4, 6, 6),
    )
    torch.manual_seed(30)
    return FluxPipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if guided else 1.0, use_dynamic_shifting=guided),
        vae=autoencoder(31),
        text_encoder=tiny.text_encoder(32),
        tokenizer=tiny.tokenizer(),
        text_encoder_2=t5_encoder(33),
        tokenizer_2=t5_words(),
    )


CHAT = """{%- for message in messages %}\
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}\
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}\
{%- endif %}"""
"""Qwen 3's chat template, as far as a user's message without tools reaches."""
TEMPLATE_WORDS = (
    "system user assistant Describe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:"
)


def byte_level(lines: list[str]) -> Tokenizer:
    """Byte pairs learned from ``lines``, so that each of their words is one token."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bare.decoder = ByteLevelDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=5000, min_frequency=1, initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False
    )
    bare.train_from_iterator(lines * 3, trainer)
    return bare


@cache
def qwen_words() -> Qwen2Tokenizer:
    """Qwen's tokenizer class; the words of `tiny.WORDS` and of its image template are one token each."""
    bare = byte_level(
        [
            TEMPLATE_WORDS,
            "\nuser\n",
            *TEMPLATE_WORDS.split(),
            *tiny.WORDS,
            *(f" {word}" for word in tiny.WORDS),
        ]
    )
    model = json.loads(bare.to_str())["model"]
    vocab = dict(model["vocab"])
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    for mark in marks:
        vocab[mark] = len(vocab)
    words = Qwen2Tokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]], chat_template=CHAT)
    words.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return words


def language_model(seed: int, layers: int) -> Qwen3ForCausalLM:
    """Qwen 3, 16 wide."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(qwen_words()) + 8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


def flow(**more: Any) -> FlowMatchEulerDiscreteScheduler:
    """The shift by size that these families have."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **more)


def chroma() -> ChromaPipeline:
    """As Chroma: FLUX without CLIP and with masks."""
    torch.manual_seed(40)
    with warnings.catch_warnings():  # diffusers' own class uses what diffusers calls deprecated
        warnings.simplefilter("ignore", FutureWarning)
        transformer = chroma_transformer()
    torch.manual_seed(40)
    return ChromaPipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder(41),
        text_encoder=t5_encoder(42),
        tokenizer=t5_words(),
    )


def chroma_transformer() -> ChromaTransformer2DModel:
    """One block of each kind."""
    return ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDE,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )


def zimage() -> ZImagePipeline:
    """As Z-Image: one line of blocks after two short ones."""
    torch.manual_seed(50)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[640, 64, 64],
    )
    torch.manual_seed(50)
    return ZImagePipeline(
        transformer=awake(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(51),
        text_encoder=language_model(52, 2),
        tokenizer=qwen_words(),
    )


def flux2_transformer(guided: bool) -> Flux2Transformer2DModel:
    """One block of each kind."""
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )


def flux2_autoencoder() -> AutoencoderKLFlux2:
    """With statistics of its own, as a trained one has."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
    ).eval()
    vae.bn.running_mean.normal_(std=0.2)
    vae.bn.running_var.uniform_(0.2, 0.6)
    return vae


def klein() -> Flux2KleinPipeline:
    """As FLUX.2 Klein base: three of the text model's 28 layers are read."""
    torch.manual_seed(60)
    transformer, vae = flux2_transformer(guided=False), flux2_autoencoder()
    torch.manual_seed(60)
    return Flux2KleinPipeline(
        transformer=awake(transformer),
        scheduler=flow(),
        vae=vae,
        text_encoder=language_model(62, 28),
        tokenizer=qwen_words(),
        is_distilled=False,
    )


MISTRAL_CHAT = """{{- bos_token }}{%- for message in messages %}\
{%- set text = message.content | map(attribute='text') | join('') %}\
{%- if message.role == 'system' %}{{- '[SYSTEM_PROMPT]' + text + '[/SYSTEM_PROMPT]' }}\
{%- else %}{{- '[INST]' + text + '[/INST]' }}{%- endif %}{%- endfor %}"""
"""Mistral Small's chat template, as far as a system message and a user's text reach."""
MISTRAL_MARKS = (
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[INST]",
    "[/INST]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
)


class WordProcessor(ProcessorMixin):
    """The base of FLUX.2's processor, whose template and call are what it reads words with.

    The class itself, PixtralProcessor, adds pictures and wants torchvision for them, which the tests do without.
    """

    def __init__(self, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any) -> None:
        super().__init__(tokenizer, chat_template=chat_template, **kwargs)


@cache
def mistral_words() -> WordProcessor:
    """A processor over a byte-level vocabulary with Mistral's marks; it pads on the left."""
    bare = byte_level([*tiny.WORDS, *(f" {word}" for word in tiny.WORDS)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        padding_side="left",
        chat_template=MISTRAL_CHAT,
        model_input_names=["input_ids", "attention_mask"],
    )
    words.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in MISTRAL_MARKS])
    return WordProcessor(words, chat_template=MISTRAL_CHAT)


def flux2() -> Flux2Pipeline:
    """As FLUX.2 dev: three of the text model's 30 layers are read."""
    torch.manual_seed(80)
    transformer, vae = flux2_transformer(guided=True), flux2_autoencoder()
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "head_dim": 8}
    config = Mistral3Config(
        text_config={
            **size,
            "model_type": "mistral",
            "vocab_size": len(mistral_words().tokenizer) + 8,
            "num_hidden_layers": 30,
            "num_key_value_heads": 1,
        },
        vision_config={
            **size,
            "model_type": "pixtral",
            "num_hidden_layers": 1,
            "image_size": 16,
            "patch_size": 8,
        },
        image_token_index=1,
    )
    torch.manual_seed(80)
    return Flux2Pipeline(
        transformer=awake(transformer),
        scheduler=flow(),
        vae=vae,
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=mistral_words(),
    )


def qwen() -> QwenImagePipeline:
    """As Qwen-Image: a film autoencoder and a vision-language model that only reads."""
    torch.manual_seed(70)
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[0.8, 1.2, 1.0, 0.9],
    ).eval()
    size = len(qwen_words()) + 8
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": size,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2], "rope_type": "default"},
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        image_token_id=1,
        video_token_id=2,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    torch.manual_seed(71)
    return QwenImagePipeline(
        transformer=awake(transformer),
        scheduler=flow(shift_terminal=0.02),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=qwen_words(),
    )


KINDS: dict[str, Any] = {
    "sd3": sd3,
    "flux": flux,
    "schnell": lambda: flux(guided=False),
    "chroma": chroma,
    "zimage": zimage,
    "flux2": flux2,
    "klein": klein,
    "qwen": qwen,
}
FAMILY = {"schnell": "flux"}


def card_for(name: str) -> ModelCard:
    """A card for one of `KINDS`."""
    return ModelCard(
        name=name,
        family=FAMILY.get(name, name),
        source=name,
        side=tiny.SIDE,
        scheduler="flow_euler",
        schedulers=FLOW_SCHEDULERS,
        steps=4,
        guidance=0.0 if name == "schnell" else 3.5,
        factor=16 if name in ("flux2", "klein") else 8,
        negtome_blocks=("double", "single"),
        origin="tests",
    )
