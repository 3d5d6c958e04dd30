"""Strings of screen 4, Try it: prompt, strength, drawing, verdict, download."""

from __future__ import annotations

from sdlora.core.text import Text

TITLE = Text("Try it", "試す")
LEAD = Text(
    "The same seed without and with your LoRA. The slider is the same kind of number as alpha: it scales the whole update.",
    "同じシードで LoRA なしと LoRA ありを比べます。スライダーはアルファと同じ種類の数で、更新全体の大きさを変えます。",
)
TRY_EMPTY = Text("Nothing to try yet", "まだ試せるものがありません")
TRY_EMPTY_HINT = Text(
    "Checkpoints can be tried as soon as the first one is saved, also while the training runs.",
    "最初のチェックポイントが保存されると、学習中でもここで試せます。",
)
DRAW_FIRST = Text("Ready to draw", "描く準備ができました")
DRAW_FIRST_HINT = Text(
    "Press Draw, or move the slider. Base and LoRA appear side by side.",
    "「描く」を押すか、スライダーを動かしてください。基礎モデルと LoRA の絵が並びます。",
)
PROMPT = Text("Prompt", "プロンプト")
PROMPT_HELP = Text(
    "What to draw. Use the trigger word if you set one.", "描きたいもの。トリガーワードを設定した場合は入れてください。"
)
NEGATIVE = Text("Negative prompt", "ネガティブプロンプト")
DICE = Text("Another seed", "別のシード")
STRENGTH = Text("Strength", "強さ")
STRENGTH_HELP = Text(
    "0 is the base model, 1 the LoRA as trained. The picture is drawn anew when you let go.",
    "0 は基礎モデル、1 は学習したままの LoRA。スライダーを離すと描き直します。",
)
CHECKPOINT = Text("Checkpoint", "チェックポイント")
CHECKPOINT_SO_FAR = Text("Step {step} — best so far", "ステップ {step}(現時点で最良)")
CHECKPOINT_NONE = Text("None saved yet", "まだ保存されていません")
CHECKPOINT_BEST = Text("Step {step} — recommended", "ステップ {step}(おすすめ)")
DRAW = Text("Draw", "描く")
STRENGTH_REFUSED = Text(
    "The strength must be a number from {minimum} to {maximum}.",
    "強さは {minimum} から {maximum} までの数値にしてください。",
)
PROMPT_REFUSED = Text("A prompt may have {maximum} letters at most.", "プロンプトは {maximum} 文字以内にしてください。")
DRAWING_OPTIONS = Text("Drawing options", "描画の設定")
WITH_LORA = Text("With your LoRA, strength {strength}", "LoRA あり、強さ {strength}")
WITHOUT_LORA = Text("Base model alone", "基礎モデルのみ")
DRAWING = Text("Drawing, {step} of {steps}", "描画中 {step} / {steps}")
WAITING_TO_DRAW = Text("Waiting for the model", "モデルの準備を待っています")
NO_CHECKPOINT = Text(
    "There is no checkpoint to try yet. The first one is saved while the training runs.",
    "試せるチェックポイントがまだありません。最初の 1 つは学習中に保存されます。",
)
PREVIEWER_DIED = Text(
    "The process that draws previews ended unexpectedly. Try again: it is started anew.",
    "プレビューを描くプロセスが突然終了しました。もう一度お試しください。自動的に起動し直します。",
)
PREVIEWER_RELEASED = Text(
    "A training starts on this GPU, so the preview gave its memory back. Try again: it is drawn beside the training where there is room.",
    "この GPU で学習が始まるため、プレビューはメモリを解放しました。もう一度お試しください。空きがあれば学習と並行して描画します。",
)
VERDICT = Text("Verdict", "評価")
VERDICT_BEST = Text(
    "Step {step} is the best checkpoint: on pictures it has never seen, its loss is {gain} % below the base model's.",
    "最良のチェックポイントはステップ {step} です。学習に使っていない画像での損失が基礎モデルより {gain} % 下がりました。",
)
VERDICT_OVERFIT = Text("After that it gets worse: overfitting.", "その後は悪化しています(過学習)。")
VERDICT_NOISE = Text(
    "Held-out pictures show no clear gain over the base model. Trust your eyes, or train longer or with more pictures.",
    "検証画像では基礎モデルとの明確な差がありません。目で確かめるか、学習を長くする・画像を増やすことを検討してください。",
)
VERDICT_UNJUDGED = Text(
    "There were too few pictures to hold some out, so the last checkpoint is offered. Compare them by eye.",
    "画像が少なく検証用を取り分けられなかったため、最後のチェックポイントを提示しています。目で見て比べてください。",
)
VERDICT_LATER = Text("The verdict comes when the training is done.", "学習が終わると評価を表示します。")
VERDICT_STRENGTH = Text("Recommended strength: {strength}.", "おすすめの強さは {strength} です。")
DOWNLOAD = Text("Download the LoRA", "LoRA をダウンロード")
DOWNLOAD_NAME = Text("{name}, {size}", "{name}({size})")
DOWNLOAD_NONE = Text(
    "The file can be downloaded once a checkpoint is saved.", "チェックポイントが保存されるとダウンロードできます。"
)
DOWNLOAD_HELP = Text(
    "Put it into the folder for LoRAs: ComfyUI models/loras, Forge and A1111 models/Lora. diffusers: load_lora_weights(file).",
    "LoRA 用フォルダーに入れて使います。ComfyUI は models/loras、Forge と A1111 は models/Lora、diffusers では load_lora_weights(ファイル)。",
)
