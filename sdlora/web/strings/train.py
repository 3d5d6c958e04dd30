"""Strings of screen 3, Train: buttons, progress, loss, samples, log, the list of jobs."""

from __future__ import annotations

from sdlora.core.text import Text

TITLE = Text("Train", "学習")
LEAD = Text(
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
SPEED = Text("{speed} steps per second", "毎秒 {speed} ステップ")
SLOW = Text("{seconds} s per step", "1 ステップ {seconds} 秒")
TOOK = Text("Took {time}", "所要時間 {time}")
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
