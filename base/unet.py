"""The UNet and the text encoder, and the loss they are trained on together."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from base.precision import HALF, autocast
from base.tokenizer import POSITIONS

WIDTH = 192
MOST_FOR_WORDS = 25.0
LOW_NOISE_MORE = 1.3


class Denoiser(nn.Module):
    """Text encoder and UNet as one module, so that one optimizer and one state hold both."""

    def __init__(self, vocabulary: int, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.text = CLIPTextModel(text_config(vocabulary))
        for name, rms in {"token_embedding": 0.5, "position_embedding": 0.1}.items():
            nn.init.normal_(
                self.text.get_parameter(_parameter_name(self.text, name)), std=rms
            )  # CLIP's 0.02 drowns the words
        self.unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(96, 160, 224),
            down_block_types=("CrossAttnDownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=WIDTH,
            attention_head_dim=8,
            norm_num_groups=16,
        )
        # On a CPU the fused attention of torch 2.13 is slow in bf16 for heads this narrow: a step of 32 pictures on one core
        # took 1.56 s with it, 1.01 s with plain matrix products. In fp32 on two cores: 1.64 s fused, 1.89 s plain, and 1.54 s
        # fused with channels last.
        if HALF is torch.bfloat16:
            self.text.set_attn_implementation("eager")
            self.unet.set_attn_processor(AttnProcessor())
        else:
            self.unet.to(memory_format=torch.channels_last)

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Noise in x_t (B, 4, 16, 16) at t (B,), for tokens (B, 24)."""
        labels = self.text(tokens).last_hidden_state  # (B, 24, 192)
        return self.unet(x_t, t, labels).sample


def _parameter_name(text: CLIPTextModel, name: str) -> str:
    return next(n for n, _ in text.named_parameters() if name in n)


def text_config(vocabulary: int) -> CLIPTextConfig:
    """Start and end are the last two pieces of the vocabulary, as in CLIP."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        projection_dim=WIDTH,
        attention_dropout=0.0,
    )


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's own."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False
    )


def denoising_loss(
    denoiser: Denoiser, x_0: Tensor, part: Tensor, tokens: Tensor, schedule: DDPMScheduler, rng: torch.Generator
) -> Tensor:
    """Epsilon loss weighted by 1 + min(1 / SNR, 25), with t = 1000 (a + (b - a) u^1.3) for u spread evenly over the batch.

    `part` (B, 2) is a and b, the part of the schedule that a picture is shown in.

    Two things must be smoothed. Words: noise so strong that only the caption could tell what to draw (t = 950, SNR 0.008)
    adds next to nothing to a plain epsilon loss. Surfaces: they are settled where there is little noise, which
    min-SNR weights all but ignore (0.06 at SNR 100).
    """
    size = len(x_0)
    noise = torch.randn(x_0.shape, generator=rng)
    spread = (torch.rand(1, generator=rng) + torch.arange(size) / size) % 1  # stratified: a steadier loss
    t = (torch.lerp(part[:, 0], part[:, 1], spread**LOW_NOISE_MORE) * 1000).long().clamp(max=999)
    x_t = schedule.add_noise(x_0, noise, t)
    with autocast():
        guess = denoiser(x_t, t, tokens).float()
    alpha_bar = schedule.alphas_cumprod[t]
    weight = 1 + ((1 - alpha_bar) / alpha_bar).clamp(max=MOST_FOR_WORDS)
    return ((guess - noise).square().mean((1, 2, 3)) * weight).mean()
