"""Strings of screen 1, Pictures: upload, gallery, captions, check-up, earlier data sets."""

from __future__ import annotations

from sdlora.core.text import Text

TITLE = Text("Pictures", "画像")
LEAD = Text(
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
REMOVED = Text("“{name}” was removed.", "「{name}」を外しました。")
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
OUTDATED = Text(
    "The page shows an older state of the data set. Reload it and try again.",
    "表示中のデータセットが古くなっています。ページを再読み込みしてからもう一度お試しください。",
)
