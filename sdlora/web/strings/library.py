"""Strings of screen 5, Library: rows, tasks, trash, comparison, tools."""

from __future__ import annotations

from sdlora.core.text import Text

TITLE = Text("Library", "ライブラリー")
LEAD = Text(
    "Every finished LoRA, and files from elsewhere: kohya, OneTrainer, ai-toolkit, diffusers, LyCORIS. Compare, merge, make smaller, convert, publish.",
    "完成したすべての LoRA と、外部のファイル(kohya・OneTrainer・ai-toolkit・diffusers・LyCORIS)。比較、マージ、縮小、変換、公開ができます。",
)
SEARCH = Text("Search", "検索")
SEARCH_HINT = Text("Name, trigger word, base, trainer", "名前、トリガーワード、基礎モデル、学習ツール")
ADD = Text("Add LoRA files", "LoRA ファイルを追加")
EMPTY = Text("No LoRA yet", "LoRA がまだありません")
EMPTY_HINT = Text(
    "What you train appears here by itself. LoRA files of other programs can be added above.",
    "学習が終わった LoRA はここに自動で並びます。他のソフトの LoRA は上のボタンで追加できます。",
)
NOTHING_FOUND = Text("Nothing matches “{query}”", "「{query}」に一致する LoRA はありません")
NOTHING_FOUND_HINT = Text("Try fewer letters.", "検索する文字を減らしてみてください。")
MORE = Text("{count} more; search to find them", "ほかに {count} 件あります。検索で絞り込めます")

# One row
NAME_OF = Text("Name of {name}", "{name} の名前")
COVER_OF = Text("Sample of {name}", "{name} のサンプル")
FAMILY_UNKNOWN = Text("base unknown", "基礎モデル不明")
RANK = Text("rank {rank}", "ランク {rank}")
ORIGIN = {
    "trained": Text("trained here", "ここで学習"),
    "added": Text("added", "追加"),
    "merged": Text("merged here", "ここでマージ"),
    "resized": Text("made smaller here", "ここで縮小"),
    "converted": Text("converted here", "ここで変換"),
    "extracted": Text("extracted here", "ここで抽出"),
}
TRIGGER = Text("Trigger: {trigger}", "トリガー: {trigger}")
COMPARE = Text("Compare", "比較")
COMPARE_ONE = Text("Compare {name}", "{name} を比較")
FILE = Text("Download", "ダウンロード")
FILE_ONE = Text("Download {name}", "{name} をダウンロード")
ZIP = Text("Zip", "zip")
ZIP_ONE = Text("Zip of {name} with everything", "{name} 一式の zip")
ZIP_HINT = Text(
    "File, sidecar for Forge and A1111, preview, captions, settings, model card",
    "ファイル、Forge・A1111 用の付属ファイル、プレビュー、キャプション、設定、モデルカード",
)
EVERYTHING = Text("Everything as a zip", "一式を zip で")
DELETE = Text("Delete", "削除")
DELETE_ONE = Text("Delete {name}", "{name} を削除")
DETAILS = Text("Details", "詳細")
DETAIL = {
    "format": Text("Format", "形式"),
    "trainer": Text("Written by", "作成ツール"),
    "base": Text("Base model", "基礎モデル"),
    "rank": Text("Rank, alpha", "ランク、アルファ"),
    "targets": Text("Layers", "対象の層"),
    "parameters": Text("Parameters", "パラメータ数"),
    "strength": Text("Recommended strength", "おすすめの強さ"),
    "of": Text("Made of", "元の LoRA"),
    "energy": Text("Energy kept", "保たれたエネルギー"),
    "sha256": Text("sha256", "sha256"),
    "checked": Text("Checked", "確認"),
}
UNREADABLE = Text("The file cannot be read any more.", "ファイルを読み込めなくなりました。")

# What is being made
PHASE = {
    "": Text("Starting", "開始しています"),
    "merging": Text("Merging", "マージ中"),
    "cutting": Text("Cutting to the rank", "ランクを削減中"),
    "resizing": Text("Making smaller", "縮小中"),
    "extracting": Text("Extracting the difference", "差分を抽出中"),
}
OF = Text("{done} of {total} layers", "{total} 層中 {done} 層")
CANCEL = Text("Cancel", "中止")
CANCEL_ONE = Text("Cancel {name}", "{name} を中止")
FAILED = Text("“{name}” could not be made", "「{name}」を作成できませんでした")
DISMISS = Text("Dismiss", "閉じる")

# Deleted
DELETED = Text("Deleted ({count})", "削除済み({count})")
WAS_DELETED = Text("“{name}” was deleted.", "「{name}」を削除しました。")
PUT_BACK = Text("Put back", "元に戻す")
PUT_BACK_ONE = Text("Put {name} back", "{name} を元に戻す")
EMPTY_TRASH = Text("Delete for good ({size})", "完全に削除({size})")
TRASH_HINT = Text("Kept for {days} days.", "{days} 日間保管します。")

# Compare
COMPARE_TITLE = Text("Compare two", "2 つを比較")
COMPARE_HELP = Text(
    "The same prompt and seed on one base model. “Compare” in a row chooses the first, then the second.",
    "同じ基礎モデル、同じプロンプトとシードで描きます。各行の「比較」で 1 つ目、2 つ目の順に選べます。",
)
FIRST = Text("First", "1 つ目")
SECOND = Text("Second", "2 つ目")
NO_LORA = Text("The base model alone", "基礎モデルのみ")
BASE_AUTO = Text("The one that the first was trained on", "1 つ目を学習したモデル")
DRAW_BOTH = Text("Draw both", "両方を描く")
PAIR_EMPTY = Text("Nothing to compare yet", "まだ比較するものがありません")
PAIR_EMPTY_HINT = Text(
    "Choose one or two LoRAs, write a prompt, draw.", "LoRA を選び、プロンプトを書いて描いてください。"
)
AT_STRENGTH = Text("{name}, strength {strength}", "{name}、強さ {strength}")
CHOOSE_FIRST = Text("Choose a LoRA first.", "先に LoRA を選んでください。")

# Made of others
LORA = Text("LoRA", "LoRA")
NEW_NAME = Text("Name of the new file", "新しいファイルの名前")
NAME_EMPTY = Text("empty: made up from the others", "空欄なら自動で付けます")
MERGE = Text("Merge into one", "1 つにマージ")
MERGE_HELP = Text(
    "One file with the sum of their effects, each at its strength. Exact unless a rank is given; then the nearest file of that rank (SVD).",
    "それぞれの強さで足し合わせた効果を 1 つのファイルにします。ランクが 0 なら厳密、指定すると特異値分解でそのランクに近似します。",
)
MERGE_RANK = Text("Rank (0: exact)", "ランク(0: 厳密)")
MERGE_FEW = Text("Choose at least one LoRA to merge.", "マージする LoRA を選んでください。")
MERGE_STRENGTH = Text("A strength to merge with is a number from -10 to 10.", "マージの強さは -10 から 10 の数値です。")
RESIZE = Text("Make smaller", "小さくする")
RESIZE_HELP = Text(
    "The nearest LoRA of a lower rank: fewer parameters and a smaller file, as much of the effect as that rank can hold.",
    "低いランクで最も近い LoRA を作ります。パラメータとファイルが小さくなり、効果はそのランクで表せる限り保たれます。",
)
RESIZE_BY = Text("By", "方法")
BY_RANK = Text("to this rank", "このランクにする")
BY_ENERGY = Text("keep this share of the energy", "エネルギーをこの割合だけ保つ")
RESIZE_VALUE = Text("Rank, or percent", "ランク、または %")
RESIZE_REFUSED = Text(
    "Give a rank from 1 to 1024, or a percentage above 0 and up to 100.",
    "ランクは 1〜1024、割合は 0 より大きく 100 以下の % で指定してください。",
)
CONVERT = Text("Convert", "変換")
CONVERT_HELP = Text(
    "Other names for the same weights. kohya is for ComfyUI, Forge, A1111 and diffusers; the others are for diffusers or PEFT alone.",
    "重みはそのままで名前だけを変えます。kohya は ComfyUI・Forge・A1111・diffusers 用、他は diffusers または PEFT 専用です。",
)
FORMAT = Text("Format", "形式")
NUMBERS = Text("Number format", "数値形式")
KEEP = Text("as it is", "そのまま")
EXTRACT = Text("Difference of two base models", "2 つの基礎モデルの差分")
EXTRACT_HELP = Text(
    "What a fine-tuned model changed in its base, as a LoRA of low rank (difference tuning).",
    "微調整されたモデルと元のモデルとの差を、低ランクの LoRA として取り出します(差分微調整)。",
)
BEFORE = Text("Before", "元のモデル")
AFTER = Text("After", "微調整後のモデル")
NEW_RANK = Text("Rank", "ランク")
RANK_REFUSED = Text(
    "The rank must be a whole number from {least} to 1024.", "ランクは {least} から 1024 の整数にしてください。"
)
MAKE_MERGED = Text("Merge", "マージする")
MAKE_RESIZED = Text("Make it smaller", "小さくする")
MAKE_CONVERTED = Text("Convert it", "変換する")
MAKE_EXTRACTED = Text("Extract", "抽出する")
