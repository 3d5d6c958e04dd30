"""Inactive settings (no effect beside the others) and contradictions: refused with the reason, greyed in the form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdlora.config.adapters import PRODUCT_KINDS
from sdlora.core.text import Text


@dataclass(frozen=True)
class InactiveRule:
    """`path` has no effect while `when` is true of the flat values. Its default value is never refused."""

    path: str
    when: Callable[[Mapping[str, Any]], bool]
    why: Text


INACTIVE_RULES = (
    InactiveRule(
        "lora.text_encoder_rank",
        lambda v: v["train.text_encoder_lr"] == 0,
        Text(
            "the text encoder is frozen (train.text_encoder_lr is 0)",
            "テキストエンコーダーが凍結されているため(train.text_encoder_lr が 0)",
        ),
    ),
    InactiveRule(
        "lora.blocks",
        lambda v: v["train.unet_lr"] == 0,
        Text("the UNet is frozen (train.unet_lr is 0)", "UNet が凍結されているため(train.unet_lr が 0)"),
    ),
    *(
        InactiveRule(
            path,
            lambda v: not v["sample.draw"],
            Text("no samples are drawn (sample.draw is off)", "サンプルを描かないため(sample.draw がオフ)"),
        )
        for path in ("train.sample_every", "sample.prompts")
    ),
    InactiveRule(
        "lora.dropout",
        lambda v: v["lora.kind"] in PRODUCT_KINDS,
        Text("LoHa and LoKr have no inputs to drop", "LoHa と LoKr には落とす入力がないため"),
    ),
    InactiveRule(
        "train.lora_plus",
        lambda v: v["lora.kind"] in PRODUCT_KINDS,
        Text("LoHa and LoKr have no B", "LoHa と LoKr には B マトリクスがないため"),
    ),
    InactiveRule(
        "train.lora_plus",
        lambda v: v["train.optimizer"] == "prodigy",
        Text("Prodigy finds one rate for all", "Prodigy は全体で 1 つの学習率を決めるため"),
    ),
    InactiveRule(
        "data.class_prompt",
        lambda v: v["train.prior_weight"] == 0,
        Text(
            "prior preservation is off (train.prior_weight is 0)", "事前知識の保持が無効なため(train.prior_weight が 0)"
        ),
    ),
    InactiveRule(
        "data.keep_tokens",
        lambda v: not v["data.shuffle"],
        Text("tags are not shuffled (data.shuffle is off)", "タグをシャッフルしないため(data.shuffle がオフ)"),
    ),
)


def inactive_settings(values: Mapping[str, Any]) -> dict[str, Text]:
    """Path -> reason, of every setting without effect beside these flat values, whether it was changed or not."""
    return {rule.path: rule.why for rule in INACTIVE_RULES if rule.when(values)}


def contradictions(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Text]:
    """One sentence for each inactive setting that was changed and each combination that cannot work."""
    sentences = [
        Text(
            f"{path} is {values[path]!r}, but it would do nothing: {why.en}. Leave it at {defaults[path]!r}, or change the other.",
            f"{path} は {values[path]!r} ですが効果がありません({why.ja})。{defaults[path]!r} に戻すか、もう一方を変えてください。",
        )
        for path, why in inactive_settings(values).items()
        if values[path] != defaults[path]
    ]
    unet, text = values["train.unet_lr"], values["train.text_encoder_lr"]
    if unet == text == 0:
        sentences.append(
            Text(
                "train.unet_lr and train.text_encoder_lr are both 0, so nothing would be trained. Set one of them above 0.",
                "train.unet_lr と train.text_encoder_lr がどちらも 0 のため何も学習されません。どちらかを 0 より大きくしてください。",
            )
        )
    elif values["train.optimizer"] == "prodigy" and (max(unet, text) < 0.01 or (unet and text and unet != text)):
        sentences.append(
            Text(
                "train.optimizer is prodigy, which finds the rate itself: set train.unet_lr to 1, and train.text_encoder_lr to 1 or 0.",
                "train.optimizer が prodigy のときは学習率を自動で決めるため、train.unet_lr を 1、train.text_encoder_lr を 1 か 0 にしてください。",
            )
        )
    processes, samples = values["train.processes"], values["train.batch_size"] * values["train.gradient_accumulation"]
    if samples % processes:
        sentences.append(
            Text(
                f"train.processes is {processes}, which does not divide the {samples} pictures of an update (train.batch_size × train.gradient_accumulation). Make that a multiple of {processes}.",
                f"train.processes の {processes} では、1 回の更新の {samples} 枚(train.batch_size × train.gradient_accumulation)を割り切れません。{processes} の倍数にしてください。",
            )
        )
    if values["train.warmup_steps"] > values["train.steps"]:
        sentences.append(
            Text(
                f"train.warmup_steps is {values['train.warmup_steps']}, but the run has {values['train.steps']} steps: the learning rate would never be reached. Set it to a tenth of train.steps, or 0.",
                f"train.warmup_steps の {values['train.warmup_steps']} は総ステップ数 {values['train.steps']} を超えているため、学習率に到達しません。train.steps の 1 割程度か 0 にしてください。",
            )
        )
    if values["train.prior_weight"] > 0 and not values["data.trigger"].strip():
        sentences.append(
            Text(
                "train.prior_weight needs a data.trigger: without a trigger word every caption would be held to what the base does. Set a trigger word, or train.prior_weight to 0.",
                "train.prior_weight には data.trigger が必要です。トリガーワードがないと、すべてのキャプションで基礎モデルの答えを保つことになります。トリガーワードを設定するか、train.prior_weight を 0 にしてください。",
            )
        )
    return sentences
