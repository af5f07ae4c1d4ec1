"""The small CLIP: text tower for the denoiser, picture tower for similarity in the studio.

``python -m pipelines.embedded.training.clip --pool POOL --out CLIP --minutes 6``

Trained on crops and half-size scenes with the pairwise sigmoid loss (SigLIP, arXiv 2303.15343): every picture is
compared with every caption of the batch, equal captions counting as pairs. Resumable: the folder is the state.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from rich.progress import Progress
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from pipelines.embedded.training.captions import all_words, caption, crop_caption
from pipelines.embedded.training.latents import Pool
from pipelines.embedded.training.tokenizer import TOKENS, build_tokenizer, widen_tokenizer
from pipelines.embedded.training.world import WORLDS

WIDTH, LAYERS, PROJECTION, SIDE, PATCH = 192, 3, 128, 128, 16
BATCH, RATE = 96, 1.5e-3


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A `CLIPModel` of 3 + 4 layers, width 192, for pictures of 128×128 (about 3 M parameters)."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        projection_dim=PROJECTION,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        max_position_embeddings=TOKENS,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        projection_dim=PROJECTION,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
    )
    model = CLIPModel(
        CLIPConfig(
            text_config=text.to_dict(),
            vision_config=vision.to_dict(),
            projection_dim=PROJECTION,
            logit_scale_init_value=2.3,
        )
    )
    # the library's 0.02 for pictures' patches leaves so narrow a tower asleep for the first thousand steps
    torch.nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.05)
    return model


def sigmoid_loss(
    pictures: torch.Tensor, texts: torch.Tensor, pairs: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
):
    """SigLIP, equation 1: mean over pictures of −Σ log σ(z (scale·cos + bias)).

    pictures, texts: (n, d) unit vectors; pairs: (n, n), True where picture i and caption j belong together.
    """
    logits = pictures @ texts.T * scale.exp() + bias
    return -F.logsigmoid(torch.where(pairs, logits, -logits)).sum(1).mean()


def main() -> None:
    """Command line: train for some minutes, going on from what ``--out`` holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6)
    options = parser.parse_args()
    the_world = WORLDS[options.world]
    accelerator = Accelerator(mixed_precision="bf16")
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    if (options.out / "config.json").exists():
        tokenizer = CLIPTokenizer.from_pretrained(options.out)
        tokenizer = widen_tokenizer(tokenizer, all_words(the_world))
        model = CLIPModel.from_pretrained(options.out)
    else:
        tokenizer = build_tokenizer(all_words(the_world))
        model = new_clip(tokenizer)
    scale = torch.nn.Parameter(model.logit_scale.detach().clone())
    bias = torch.nn.Parameter(torch.tensor(-6.0))
    model.set_attn_implementation(
        "eager"
    )  # on a CPU the fused kernel's backward pass costs more than it saves
    model, optimizer = accelerator.prepare(
        model,
        torch.optim.AdamW([*model.parameters(), scale, bias], lr=RATE, betas=(0.9, 0.98), weight_decay=0.02),
    )
    pools = [Pool(options.pool, "crops", pixels=True), Pool(options.pool, "whole", pixels=True)]
    for pool in pools:
        pool.refresh()
    start, step, mean_loss, right = time.time(), 0, 0.0, 0.0
    with Progress() as progress:
        task = progress.add_task("clip", total=options.minutes * 60)
        while (elapsed := time.time() - start) < options.minutes * 60:
            done = elapsed / (options.minutes * 60)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 100) * min(1.0, 2 * (1 - done) + 0.02)
            pool = pools[step % 3 == 2]
            chosen = rng.integers(len(pool), size=BATCH)
            texts = [
                caption(the_world, pool.scenes[k], rng)
                if pool.named[k] is None
                else crop_caption(the_world, pool.scenes[k], pool.named[k], rng)
                for k in chosen
            ]
            x = torch.from_numpy(pool.pictures[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1
            tokens = tokenizer(
                texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
            )
            pairs = torch.tensor([[a == b for b in texts] for a in texts], device=accelerator.device)
            with accelerator.autocast():
                out = model(
                    input_ids=tokens.input_ids.to(accelerator.device), pixel_values=x.to(accelerator.device)
                )
            loss = sigmoid_loss(out.image_embeds.float(), out.text_embeds.float(), pairs, scale, bias)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            found = (out.image_embeds.float() @ out.text_embeds.float().T).argmax(1)
            right = 0.98 * right + 0.02 * pairs[torch.arange(BATCH), found].float().mean().item()
            mean_loss = 0.98 * mean_loss + 0.02 * loss.item()
            if step % 50 == 0:
                for pool in pools:
                    pool.refresh()
                progress.update(task, completed=time.time() - start)
                print(
                    f"step {step} loss {mean_loss:.3f} batch accuracy {right:.3f} {elapsed:.0f} s", flush=True
                )
    model = accelerator.unwrap_model(model)
    model.logit_scale.data.copy_(scale.data)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
