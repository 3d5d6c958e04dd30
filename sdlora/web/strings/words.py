"""Every word that the page itself says, in both languages, in the order of the page."""

from __future__ import annotations

from sdlora.core.text import Text

# Header
TAGLINE = Text("Teach a picture model your style", "あなたの画風を画像生成モデルに教える")
OTHER_LANGUAGE = Text("日本語", "English")
OTHER_LANGUAGE_HINT = Text("この画面を日本語で表示", "Show this page in English")
THEME = Text("Light / dark", "明 / 暗")
SKIP_LINK = Text("Skip to the first step", "最初の手順へ移動")
STEP = Text("Step {n}", "手順 {n}")
LEAD = Text(
    "sdlora trains a LoRA: a small add-on for Stable Diffusion. The pre-trained model stays frozen; beside its layers two small low-rank "
    "matrices (A and B) are added, and only these learn from your pictures. That is why 10 to 200 pictures and one ordinary computer are enough.",
    "sdlora は LoRA(Stable Diffusion に足す小さな追加ファイル)を学習します。事前学習済みモデルは凍結したまま、その層の横に低ランクの 2 つの小さな行列"
    "(A マトリクスと B マトリクス)を加え、そこだけを画像から学習します。だから画像は 10〜200 枚、パソコンは普通のもので足ります。",
)

# Messages
REFUSED = Text("That did not work", "実行できませんでした")
UNEXPECTED = Text(
    "Something went wrong inside sdlora; nothing of yours was lost. Try again. If it happens again, the log in the terminal has the details.",
    "sdlora の内部で問題が起きました。データは失われていません。もう一度お試しください。繰り返す場合は、ターミナルのログに詳細があります。",
)
OUTDATED = Text(
    "The page shows an older state of the data set. Reload it and try again.",
    "表示中のデータセットが古くなっています。ページを再読み込みしてからもう一度お試しください。",
)
NO_EFFECT = Text("No effect now: {why}.", "現在は効果がありません({why})。")
NO_NUMBER = Text("“{label}” is empty or not a number.", "「{label}」が空欄か、数値ではありません。")

# 1 Pictures
PICTURES = Text("Pictures", "画像")
PICTURES_LEAD = Text(
    "10 to 200 pictures in one style or of one character. A caption says what a picture shows; what the captions do not say, the LoRA learns as the style.",
    "同じ画風、または同じキャラクターの画像を 10〜200 枚。キャプションには画像に写っているものを書きます。書かれていないことを、LoRA は画風として学びます。",
)
UPLOAD = Text("Pictures or a zip", "画像または zip")
DROP = Text("Drop pictures or a zip here, or click to choose", "画像か zip をここにドロップ、またはクリックして選択")
DROP_MORE = Text(
    "PNG, JPEG, WebP, … Captions come along as .txt files of the same name, metadata.jsonl / .csv, or kohya folders.",
    "PNG・JPEG・WebP など。キャプションは同名の .txt、metadata.jsonl / .csv、kohya 形式のフォルダーから読み込みます。",
)
READING = Text("Reading picture {done} of {total}", "画像を読み込み中 {done} / {total}")
GALLERY_EMPTY = Text("No pictures yet", "画像がまだありません")
GALLERY_EMPTY_HINT = Text(
    "Drop some above. They stay on this computer.", "上の枠に入れてください。画像はこのパソコンの外には出ません。"
)
EXAMPLE = Text("Try it with 24 example pictures", "サンプル画像 24 枚で試す")
EXAMPLE_NAME = Text("blueprint example", "設計図のサンプル")
COUNT = Text("{count} pictures", "{count} 枚")
CAPTION_OF = Text("Caption of {name}", "{name} のキャプション")
NO_CAPTION = Text("No caption yet: say what the picture shows", "キャプションなし: 写っているものを書きます")
REMOVE = Text("Remove", "外す")
REMOVE_ONE = Text("Remove {name}", "{name} を外す")
SKIPPED = Text("{count} files were left out", "{count} 個のファイルは読み込みませんでした")
NOTES = Text("Notes about the import", "読み込み時のメモ")
DOCTOR = Text("Check-up", "データセットの診断")
DOCTOR_FINE = Text("Nothing stands out: the set is ready.", "問題は見つかりませんでした。このまま学習できます。")
SEVERITY = {
    "error": Text("Problem", "問題"),
    "warning": Text("Better to fix", "要確認"),
    "note": Text("Good to know", "参考"),
}
CAPTIONS = Text("Edit all captions", "キャプションの一括編集")
CAPTION_WORDS = Text("Text to add", "追加する文字列")
PREFIX = Text("Put in front of all", "すべての先頭に追加")
SUFFIX = Text("Put behind all", "すべての末尾に追加")
FIND = Text("Find", "検索")
REPLACE_BY = Text("Replace by", "置換後")
REPLACE = Text("Replace in all", "すべて置換")
UNDO = Text("Undo", "元に戻す")
UNDO_COUNT = Text("Undo ({count})", "元に戻す({count})")
NOTHING_TO_UNDO = Text("There is nothing to undo.", "元に戻す操作はありません。")
NOTHING_CHANGED = Text("No caption changed.", "変更されたキャプションはありません。")
NO_PICTURES = Text(
    "There are no pictures yet. Drop some in step 1.", "画像がまだありません。手順 1 で画像を入れてください。"
)
EARLIER = Text("Earlier data sets", "以前のデータセット")
EARLIER_NONE = Text("What you import is kept here.", "読み込んだデータセットがここに残ります。")
USE = Text("Use", "使う")
IN_USE = Text("in use", "使用中")
PAGE_OF = Text("{first}–{last} of {count}", "{count} 枚中 {first}〜{last} 枚目")
PREVIOUS = Text("Previous", "前へ")
NEXT = Text("Next", "次へ")

# 2 Settings
SETTINGS = Text("Settings", "設定")
SETTINGS_LEAD = Text(
    "Choose a goal; it fills in the numbers. Everything can stay as it is.",
    "目的を選ぶと数値が入ります。そのままで学習を始められます。",
)
PRESET = Text("Goal", "目的")
BUNDLED = Text("emoji — small, bundled, for learning and trying", "emoji(同梱の小型モデル。練習・お試し用)")
BASE_HELP = Text(
    "The pre-trained model that stays frozen. Or type a hub id such as owner/name.",
    "凍結したまま使う事前学習済みモデル。ハブ ID(owner/name)も入力できます。",
)
BASE_REFUSED = Text(
    "The base model “{name}” is not offered here. Choose one of the list, or type a hub id such as owner/name.",
    "基礎モデル「{name}」は選べません。一覧から選ぶか、owner/name 形式のハブ ID を入力してください。",
)
MORE_SETTINGS = Text("More settings", "詳細設定")
TRAINS = Text(
    "{lora} of {full} parameters train: {share}", "{full}個のパラメータのうち {lora}個({share})だけを学習します"
)
FILE_SIZE = Text("The file: about {size}", "ファイルは約 {size}")
SEEN = Text("Each picture is seen {times} times", "各画像を {times} 回学習します")
SEEN_RARELY = Text(
    "That is little: fewer than 20 times often shows no effect. Raise the steps.",
    "少なめです。20 回未満では効果が出ないことがあります。ステップ数を増やしてください。",
)
SEEN_OFTEN = Text(
    "That is a lot: beyond 300 times overfitting is likely. Lower the steps, or watch the held-out loss.",
    "多めです。300 回を超えると過学習しやすくなります。ステップ数を減らすか、検証損失に注意してください。",
)
FULL_TUNE = Text("A full fine-tune would train all of them", "フルファインチューニングなら全部を学習します")
ONLY_LORA = Text("This LoRA", "この LoRA")
SCALE = Text("Scale = alpha / rank = {scale}", "スケール = アルファ / ランク = {scale}")
SCALE_ONE = Text(
    "The update counts fully: ΔW = B·A.",
    "更新がそのまま効きます(ΔW = A マトリクスと B マトリクスの積)。",
)
SCALE_SMALL = Text(
    "The update counts {scale} times: gentler than the learning rate says.",
    "更新は {scale} 倍で効きます。学習率の数字より穏やかです。",
)
SCALE_LARGE = Text(
    "The update counts {scale} times: stronger than the learning rate says.",
    "更新は {scale} 倍で効きます。学習率の数字より強めです。",
)
BASE_NOT_HERE = Text(
    "This base is not on this computer yet; it is fetched when the training starts. The numbers follow then.",
    "この基礎モデルはまだこのパソコンにありません。学習開始時に取得し、数値はその後に表示します。",
)

# 3 Train
TRAIN = Text("Train", "学習")
TRAIN_LEAD = Text(
    "It runs on its own: you may close this page and come back from any browser.",
    "学習は単独で進みます。このページを閉じても、どのブラウザーからでも続きを見られます。",
)
START = Text("Start training", "学習を開始")
START_QUEUED = Text("Add to the queue", "待ち行列に追加")
STOP = Text("Stop and save", "保存して停止")
RESUME = Text("Resume", "再開")
RESUME_AT = Text("Resume at step {step}", "ステップ {step} から再開")
MORE = Text("Train {steps} steps more", "あと {steps} ステップ学習")
READY = Text("Ready to train.", "学習を始められます。")
WAITS = Text("A training is running; a new one waits for its turn.", "学習が実行中です。新しい学習は順番を待ちます。")
TRAIN_EMPTY = Text("Nothing has been trained yet", "まだ学習していません")
TRAIN_EMPTY_HINT = Text(
    "Progress, loss curve and sample pictures appear here.",
    "進み具合、損失のグラフ、サンプル画像がここに表示されます。",
)
STATUS = {
    "queued": Text("Waiting, place {place}", "順番待ち({place} 番目)"),
    "running": Text("Running", "実行中"),
    "stopping": Text("Stopping: finishes its step and saves", "停止中: 現在のステップを終えて保存します"),
    "interrupted": Text("Interrupted", "中断されました"),
    "paused": Text("Paused", "一時停止中"),
    "done": Text("Done", "完了"),
    "stopped": Text("Stopped", "停止しました"),
    "failed": Text("Failed", "失敗しました"),
}
PHASE = {
    "loading": Text("Loading the base model", "基礎モデルを読み込み中"),
    "caching": Text("Preparing the pictures", "画像を準備中"),
    "measuring": Text("Measuring what the run takes", "所要時間とメモリを測定中"),
    "training": Text("Training", "学習中"),
    "sampling": Text("Drawing samples", "サンプルを描画中"),
    "judging": Text("Judging the checkpoints", "チェックポイントを評価中"),
}
STARTS_IN = Text(
    "Starts in about {time}, when what is before it has ended.", "先の学習が終わり次第、約 {time}後に始まります。"
)
STARTS_NEXT = Text("Starts as soon as what is before it has ended.", "先の学習が終わり次第すぐに始まります。")
CONTINUES = Text("Continues “{name}” from step {step}", "「{name}」のステップ {step} からの続き")
CONTINUES_DELETED = Text(
    "Continues an earlier training, deleted since, from step {step}", "以前の学習(削除済み)のステップ {step} からの続き"
)
STARTING = Text("Starting", "開始しています")
STEP_OF = Text("Step {step} of {steps}", "ステップ {step} / {steps}")
LEFT = Text("about {time} left", "残り約 {time}")
SPEED = Text("{speed} steps per second", "毎秒 {speed} ステップ")
SLOW = Text("{seconds} s per step", "1 ステップ {seconds} 秒")
TOOK = Text("Took {time}", "所要時間 {time}")
SECONDS = Text("{n} s", "{n} 秒")
MINUTES = Text("{n} min", "{n} 分")
HOURS = Text("{hours} h {minutes} min", "{hours} 時間 {minutes} 分")
INTERRUPTED_HINT = Text(
    "The training process ended without a word (a crash, a restart of the computer). What was saved is safe.",
    "学習プロセスが突然終了しました(クラッシュ、パソコンの再起動など)。保存済みの状態は無事です。",
)
SAVED_UP_TO = Text(
    "It is saved up to step {step} and goes on from there.", "ステップ {step} まで保存済みで、そこから再開します。"
)
NOTHING_SAVED = Text(
    "No step was saved yet, so it begins again.", "まだ保存されたステップがないため、最初から始めます。"
)
RETRIES = Text(
    "It goes on by itself in a few seconds; Resume does it at once.",
    "数秒後に自動的に再開します。「再開」を押すとすぐに再開します。",
)
RETRIES_NO_MORE = Text(
    "It ended several times at the same step, so it waits for you: look at the log, then resume.",
    "同じステップで繰り返し終了したため、自動再開を止めました。ログを確認してから「再開」を押してください。",
)
PAUSED_HINT = Text(
    "It goes on by itself once there is room on the disk. If it is the graphics card, look after that first, then resume.",
    "ディスクに空きができると自動的に再開します。GPU の問題の場合は、解決してから「再開」を押してください。",
)
STOPPED_HINT = Text(
    "Checkpoints up to here can be tried in step 4. Resume goes on from here.",
    "ここまでのチェックポイントは手順 4 で試せます。「再開」で続きから学習できます。",
)
FAILED_HINT = Text(
    "Change what the sentence says and start again, or resume.",
    "上の説明に従って設定を見直し、開始し直すか再開してください。",
)
RUNS_ON = Text("{device}, {precision}", "{device}、{precision}")
ON_NODE = Text("on {node}", "ノード: {node}")
LOSS = Text("Loss", "損失")
LOSS_HELP = Text(
    "How far the model's guess is from the pictures. It is noisy by nature: watch the thick line. When the held-out loss rises again, overfitting begins.",
    "モデルの予測と画像とのずれ。もともと大きく揺れるので太い線を見てください。検証損失が再び上がり始めたら過学習の始まりです。",
)
LOSS_EMPTY = Text("The loss curve appears with the first steps.", "最初のステップから損失のグラフが表示されます。")
SAMPLES = Text("Samples", "サンプル")
SAMPLES_HELP = Text(
    "The same prompt and seed at every step: strength 0 is the base model, 1 the whole LoRA.",
    "どのステップも同じプロンプトとシードで描きます。強さ 0 は基礎モデル、1 は LoRA をそのまま適用した絵です。",
)
SAMPLES_EMPTY = Text("Sample pictures appear while it trains.", "学習中にサンプル画像が表示されます。")
SAMPLE_ALT = Text("Step {step}, strength {strength}: {prompt}", "ステップ {step}、強さ {strength}: {prompt}")
EARLIER_STEPS = Text("Earlier steps", "以前のステップ")
AT_STEP = Text("Step {step}", "ステップ {step}")
STRENGTH_IS = Text("Strength {strength}", "強さ {strength}")
BASE_ALONE = Text("Base model", "基礎モデル")
LOG = Text("Log", "ログ")
LOG_EMPTY = Text("The log of the training process appears here.", "学習プロセスのログがここに表示されます。")
JOBS = Text("All trainings", "学習の一覧")
JOBS_MORE = Text("{count} older ones are not listed", "ほかに古いものが {count} 件あります")
JOBS_NONE = Text("Your trainings are listed here.", "行った学習がここに並びます。")
ABOUT_JOB = Text("rank {rank} · {steps} steps", "ランク {rank} · {steps} ステップ")
SHOW = Text("Show", "表示")
SHOWN = Text("shown", "表示中")
NO_JOB = Text("There is no training yet. Start one first.", "学習がまだありません。先に学習を開始してください。")

# 4 Try it
TRY = Text("Try it", "試す")
TRY_LEAD = Text(
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
    "The strength must be a number from 0 to {maximum}.", "強さは 0 から {maximum} までの数値にしてください。"
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

# Login
LOGIN = Text("Log in", "ログイン")
USER_NAME = Text("Name", "ユーザー名")
PASSWORD = Text("Password", "パスワード")
LOGIN_WRONG = Text("The password is not right.", "パスワードが違います。")
LOGIN_WAIT = Text(
    "Too many wrong passwords. Wait {seconds} seconds.", "パスワードの誤りが続きました。{seconds} 秒待ってください。"
)
