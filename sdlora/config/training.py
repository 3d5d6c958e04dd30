"""Section `train`."""

from __future__ import annotations

from typing import Literal

from sdlora.config.declare import Section, setting
from sdlora.core.text import Text


class TrainSettings(Section):
    steps: int = setting(
        1000,
        Text("Steps", "ステップ数"),
        Text(
            "Optimizer updates. Steps × batch size / pictures = how often each picture is seen, where all have one shape: a batch holds one shape only. 50 to 150 times is usual; the page says the true number.",
            "オプティマイザの更新回数。画像の形がすべて同じなら、ステップ数 × バッチサイズ ÷ 画像数 = 1 枚あたりの学習回数です(1 つのバッチに入るのは同じ形だけ)。50〜150 回が目安で、正確な回数は画面に表示されます。",
        ),
        basic=True,
        ge=1,
        le=1_000_000,
    )
    unet_lr: float = setting(
        1e-4,
        Text("Learning rate", "学習率"),
        Text(
            "How far each step moves the UNet's adapters. Too small: no effect. Too large: the pictures fall apart or repeat the training pictures.",
            "1 ステップで UNet のアダプターを動かす大きさ。小さすぎると効果がなく、大きすぎると絵が崩れたり学習画像を繰り返したりします(過学習)。",
        ),
        basic=True,
        ge=0.0,
        le=1.0,
    )
    text_encoder_lr: float = setting(
        0.0,
        Text("Text encoder learning rate", "テキストエンコーダーの学習率"),
        Text(
            "The same for the text encoder's adapters. 0 freezes it: faster, and safe for styles. About half of the learning rate helps characters.",
            "テキストエンコーダー側の学習率。0 で凍結し、速く、画風の学習には安全です。キャラクターには学習率の半分程度が有効です。",
        ),
        basic=True,
        ge=0.0,
        le=1.0,
    )
    batch_size: int = setting(
        1,
        Text("Batch size", "バッチサイズ"),
        Text(
            "Pictures in one forward pass. More is steadier and needs more memory.",
            "一度に処理する画像数。多いほど安定しますがメモリを使います。",
        ),
        basic=True,
        ge=1,
        le=256,
    )
    gradient_accumulation: int = setting(
        1,
        Text("Gradient accumulation", "勾配累積"),
        Text(
            "Forward passes before one update: the effect of a larger batch without its memory.",
            "1 回の更新までに行う順伝播の回数。メモリを増やさずに大きなバッチと同じ効果が得られます。",
        ),
        ge=1,
        le=1024,
    )
    processes: int = setting(
        1,
        Text("Processes", "プロセス数"),
        Text(
            "Share each update's pictures among so many GPUs (without one, processes), started by `accelerate launch`: the same LoRA, sooner. Must divide batch size × gradient accumulation.",
            "1 回の更新で使う画像を、この数の GPU(なければプロセス)で分担します(`accelerate launch` で起動)。できる LoRA は同じで、早く終わります。バッチサイズ × 勾配累積を割り切る数にしてください。",
        ),
        ge=1,
        le=64,
    )
    resolution: int = setting(
        0,
        Text("Resolution", "解像度"),
        Text(
            "Side of the training pictures in pixels. 0 takes the size that the base was trained on.",
            "学習画像の一辺のピクセル数。0 で基礎モデル本来のサイズを使います。",
        ),
        ge=0,
        le=4096,
    )
    schedule: Literal["cosine", "constant", "linear"] = setting(
        "cosine",
        Text("Learning-rate schedule", "学習率スケジュール"),
        Text("How the learning rate falls over the run.", "学習の進行に伴う学習率の下げ方。"),
    )
    warmup_steps: int = setting(
        0,
        Text("Warm-up steps", "ウォームアップ"),
        Text("Steps over which the learning rate rises from zero.", "学習率をゼロから立ち上げるステップ数。"),
        ge=0,
        le=100_000,
    )
    min_snr_gamma: float = setting(
        5.0,
        Text("Min-SNR gamma", "Min-SNR ガンマ"),
        Text(
            "Weighs noise levels so that easy ones do not dominate (arXiv 2303.09556). 5 is usual, 0 turns it off.",
            "簡単なノイズレベルに偏らないよう損失に重みを付けます(arXiv 2303.09556)。通常は 5、0 で無効。",
        ),
        ge=0.0,
        le=100.0,
    )
    high_noise_weight: float = setting(
        0.0,
        Text("Weight of high noise", "強いノイズの重み"),
        Text(
            "Counts noise so strong that only large things show up to this many times more: adds min(1 / SNR, this) to the loss's weight. Grounds, colours and composition are learned sooner; 8 suits the bundled base, 0 turns it off.",
            "大きな形しか見えない強いノイズの重みを増やします(損失の重みに min(1 / SNR, この値) を加算)。背景・色・構図が早く身につきます。付属の基礎モデルでは 8、0 で無効。",
        ),
        ge=0.0,
        le=100.0,
    )
    prior_weight: float = setting(
        0.0,
        Text("Prior preservation", "事前知識の保持"),
        Text(
            "Weight of a second goal: for captions without the trigger word, answer as the base does. Needs no regularisation pictures; a step takes a good two times as long. 0 turns it off, 1 counts both goals alike.",
            "トリガーワードのないキャプションでは基礎モデルと同じ答えを返す、という第 2 の目標の重み。正則化画像は不要ですが、1 ステップの時間は 2 倍強になります。0 で無効、1 で両者を同じ重みにします。",
        ),
        ge=0.0,
        le=10.0,
    )
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] = setting(
        "adamw",
        Text("Optimizer", "オプティマイザ"),
        Text(
            "`adamw` suits nearly all. `adamw8bit` (package bitsandbytes) and `adafactor` remember less; `prodigy` (package prodigyopt) finds the learning rate itself: set it to 1.",
            "ほとんどの場合は `adamw`。`adamw8bit`(bitsandbytes が必要)と `adafactor` は省メモリ。`prodigy`(prodigyopt が必要)は学習率を自動で決めるため、学習率は 1 にします。",
        ),
    )
    lora_plus: float = setting(
        1.0,
        Text("LoRA+ ratio", "LoRA+ の比率"),
        Text(
            "How many times faster B learns than A (arXiv 2402.12354); 4 to 16 finds the same in fewer steps. 1 turns it off.",
            "B マトリクスを A より何倍速く学習するか(arXiv 2402.12354)。4〜16 で少ないステップで済みます。1 で無効。",
        ),
        ge=1.0,
        le=64.0,
    )
    noise_offset: float = setting(
        0.0,
        Text("Noise offset", "ノイズオフセット"),
        Text(
            "Noise that shifts whole pictures, so that very dark and very bright ones are learned; 0.05 is usual, 0 turns it off.",
            "画像全体の明るさをずらすノイズを加え、暗い絵や明るい絵も学習できるようにします。通常は 0.05、0 で無効。",
        ),
        ge=0.0,
        le=1.0,
    )
    weight_decay: float = setting(
        0.01,
        Text("Weight decay", "重み減衰"),
        Text("Pulls the adapters towards zero.", "アダプターをゼロへ引き戻す強さ。"),
        ge=0.0,
        le=1.0,
    )
    max_grad_norm: float = setting(
        1.0,
        Text("Gradient clipping", "勾配クリッピング"),
        Text("Longest gradient that is applied; 0 applies all.", "適用する勾配の最大ノルム。0 で無制限。"),
        ge=0.0,
        le=1000.0,
    )
    ema: float = setting(
        0.0,
        Text("Weight averaging (EMA)", "重みの指数移動平均(EMA)"),
        Text(
            "Save a running average of the adapters instead of their last values: 0.99 smooths over about 100 steps, 0 turns it off.",
            "アダプターの最終値ではなく移動平均を保存します。0.99 で約 100 ステップ分をならし、0 で無効です。",
        ),
        ge=0.0,
        le=0.9999,
    )
    gradient_checkpointing: bool = setting(
        False,
        Text("Gradient checkpointing", "勾配チェックポイント"),
        Text(
            "Needs much less memory and about a third more time (more on a CPU); the result is the same.",
            "メモリを大きく節約し、時間は約 3 割(CPU ではそれ以上)増えます。結果は同じです。",
        ),
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        Text("Precision", "精度"),
        Text(
            "Number format of the frozen base. `auto`: bf16 where the machine has it, else fp32. Adapters always train in fp32.",
            "凍結した基礎モデルの数値形式。`auto` は対応機では bf16、それ以外は fp32。アダプターは常に fp32 で学習します。",
        ),
    )
    seed: int = setting(
        0,
        Text("Seed", "シード"),
        Text(
            "Start of all random choices. On a processor the same seed and settings give the same file; GPUs add in changing order, so the last digits differ.",
            "乱数の種。CPU では同じシードと設定なら同じファイルになります。GPU では加算の順序が変わるため、末尾の桁が異なります。",
        ),
        ge=0,
        le=2**32 - 1,
    )
    save_every: int = setting(
        0,
        Text("Checkpoint every (steps)", "チェックポイント間隔"),
        Text(
            "Steps between saved LoRAs to choose from. 0 saves ten over the run.",
            "選択候補の LoRA を保存する間隔(ステップ)。0 なら全体で 10 回保存します。",
        ),
        ge=0,
        le=1_000_000,
    )
    sample_every: int = setting(
        0,
        Text("Sample every (steps)", "サンプル間隔"),
        Text(
            "Steps between sample pictures. 0 draws five times over the run.",
            "サンプル画像を描く間隔(ステップ)。0 なら全体で 5 回描きます。",
        ),
        ge=0,
        le=1_000_000,
    )
    state_every: int = setting(
        50,
        Text("Save state every (steps)", "状態の保存間隔"),
        Text(
            "Steps between saves of what resuming needs: the most that a crash can cost. On a GPU at most one save in 20 seconds.",
            "再開に必要な状態を保存する間隔(ステップ)。クラッシュ時に失うのは最大でこのステップ数です。GPU では 20 秒に 1 回までです。",
        ),
        ge=1,
        le=1_000_000,
    )
