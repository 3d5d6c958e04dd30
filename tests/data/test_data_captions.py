"""Captions: every format and encoding finds its picture; edits change what they say and nothing else."""

from __future__ import annotations

import json

import pytest

from sdlora.data import add_prefix, add_suffix, import_pictures, replace, with_trigger
from sdlora.data.captions import clean_caption, join_tags, split_tags, tags_in_front, without_trigger


def captions(dataset):
    return {item.name: item.caption for item in dataset.items}


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        ("青い猫".encode(), "青い猫"),
        ("青い猫".encode("utf-8-sig"), "青い猫"),
        ("青い猫".encode("cp932"), "青い猫"),
        ("青い猫".encode("utf-16"), "青い猫"),
        (b"two\r\nlines\n", "two lines"),
        (b"{0} %s $(x) <b>", "{0} %s $(x) <b>"),
        (b"", ""),
    ],
)
def test_encodings(draw, write, datasets, data, caption):
    dataset = import_pictures([draw("a.png", 1), write("a.txt", data)], datasets)
    assert captions(dataset) == {"a.png": caption}
    assert not dataset.notes


def test_a_guessed_encoding_is_a_note_with_the_text(draw, write, datasets):
    dataset = import_pictures([draw("a.png", 1), write("a.txt", "café".encode("latin-1"))], datasets)
    assert captions(dataset) == {"a.png": "café"}
    assert any("a.txt (Windows-1252) “café”" in note.en for note in dataset.notes)


def test_what_is_not_a_caption_stays_out_by_name(draw, write, datasets):
    files = [write("a.txt", b"\x89PNG\0\0"), write("b.txt", b"x" * 65537), write("c.txt", b"x" * 65536)]
    dataset = import_pictures([draw(f"{n}.png", i) for i, n in enumerate("abc")] + files, datasets)
    assert captions(dataset) == {"a.png": "", "b.png": "", "c.png": "x" * 65536}
    assert {one.name for one in dataset.skipped} == {"a.txt", "b.txt"}


def test_pairing_by_stem(draw, write, datasets):
    """As macOS and Windows write names; .txt before .caption; only within one folder."""
    source = draw("か\u3099.png", 1).parent
    draw("B.PNG", 2, format="PNG")
    draw("c.png", 3)
    draw("sub/c.png", 4)
    write("が.txt", "ga")
    write("b.Caption", "bee")
    write("c.png.txt", "whole name")
    write("sub/C.txt", "from txt")
    write("sub/c.caption", "from caption")
    write("sub/d.txt", "no picture")
    dataset = import_pictures([source], datasets)
    found = [(item.name, item.caption) for item in dataset.items]
    assert found == [("B.PNG", "bee"), ("c.png", "whole name"), ("が.png", "ga"), ("c.png", "from txt")]
    assert any("without a picture" in note.en and "d.txt" in note.en for note in dataset.notes)


def test_loose_files_of_many_folders(draw, write, datasets):
    """A browser's uploads come in a folder each; a command line gives folders with their own captions."""
    uploads = [draw("1f/a.png", 1), write("2f/a.txt", "one")]
    assert captions(import_pictures(uploads, datasets)) == {"a.png": "one"}
    given = [draw("x/1.png", 1), write("x/1.txt", "x"), draw("y/1.png", 2), write("y/1.txt", "y"), draw("z/1.png", 3)]
    assert [item.caption for item in import_pictures(given, datasets).items] == ["", "x", "y"]


def test_metadata_jsonl(draw, write, datasets):
    source = draw("a.png", 1).parent
    draw("train/b.png", 2)
    draw("c.png", 3)
    write("c.txt", "beside wins")
    rows = [
        {"file_name": "A.png", "text": "first\ud800"},
        {"file_name": "train/b.png", "caption": "second"},
        {"file_name": "c.png", "text": "not this"},
        {"file_name": "../../a.png", "text": "outside"},
        {"file_name": "a.png", "text": 5},
        {"file_name": "gone.png", "text": "x"},
    ]
    write("metadata.jsonl", "\n".join(map(json.dumps, rows)) + "\nnot json\n" + "[" * 100_000 + "\n\n")
    dataset = import_pictures([source], datasets)
    assert captions(dataset) == {"a.png": "first\ufffd", "b.png": "second", "c.png": "beside wins"}
    text = " ".join(note.en for note in dataset.notes)
    assert "Lines of metadata.jsonl that cannot be used: 4" in text
    assert "Lines of metadata.jsonl without use: 2" in text


def test_metadata_csv(draw, write, datasets):
    source = draw("a.png", 1).parent
    draw("b.png", 2)
    write(
        "Metadata.csv", 'file_name,text,extra\na.png,"one, with a comma",x\nb.png,"two ""quoted"""\n'.encode("utf-16")
    )
    assert captions(import_pictures([source], datasets)) == {"a.png": "one, with a comma", "b.png": 'two "quoted"'}


@pytest.mark.parametrize(
    "content", ["", "name,words\na,b\n", "file_name\na.png\n", 'file_name,text\na.png,"' + "x" * 200_000]
)
def test_a_csv_that_is_none_stays_out_by_name(draw, write, datasets, content):
    dataset = import_pictures([draw("a.png", 1), write("metadata.csv", content)], datasets)
    assert captions(dataset) == {"a.png": ""}
    assert [one.name for one in dataset.skipped] == ["metadata.csv"]


def test_kohya_folders(draw, write, datasets):
    source = draw("10_sks dog/a.png", 1).parent
    draw("10_sks dog/b.png", 2)
    write("10_sks dog/b.txt", "own caption")
    expected = {"a.png": "sks dog", "b.png": "own caption"}
    assert captions(import_pictures([source], datasets)) == expected
    assert captions(import_pictures([source.parent], datasets)) == expected
    assert captions(import_pictures(sorted(source.iterdir()), datasets)) == expected


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (" a \n b ", "a b"),
        ("a\x00\x07b", "ab"),
        ("\ufeffa", "a"),
        ("a\u2028b", "a b"),
        ("\ud83d\ude00", "😀"),
        ("a  b", "a  b"),
        ("１ｇｉｒｌ，ｓｍｉｌｅ＿ｘ", "1girl，smile_x"),
        ("ｶﾅ　ァ", "ｶﾅ ァ"),
    ],
)
def test_clean(raw, clean):
    assert clean_caption(raw) == clean
    assert clean_caption(clean) == clean


def test_prefix_and_suffix():
    assert add_prefix(["cat", ""], "photo of") == ["photo of cat", "photo of"]
    assert add_prefix(["cat", ""], "sks, ") == ["sks, cat", "sks"]
    assert add_suffix(["cat", ""], ", 8k") == ["cat, 8k", "8k"]
    assert add_suffix(["cat"], "on white") == ["cat on white"]
    assert add_prefix(["cat"], " ") == add_suffix(["cat"], "") == ["cat"]


def test_replace_is_letter_for_letter():
    assert replace(["a.b (c)", "aXb"], "a.b", "\\1{0}") == ["\\1{0} (c)", "aXb"]
    assert replace(["cat"], "", "x") == ["cat"]


@pytest.mark.parametrize(
    ("caption", "trigger", "result"),
    [
        ("a cat", "sks", "sks, a cat"),
        ("", "sks", "sks"),
        ("a cat", " ", "a cat"),
        ("a SKS cat", "sks", "a SKS cat"),
        ("asks why", "sks", "sks, asks why"),
        ("sks dog, sitting", "sks dog", "sks dog, sitting"),
        ("a cat", "a.*", "a.*, a cat"),
        ("猫、白い", "猫", "猫、白い"),
        ("魔法少女の絵", "魔法少女", "魔法少女の絵"),
        ("魔法少女隊", "魔法少女", "魔法少女, 魔法少女隊"),
        ("mystyleの絵", "mystyle", "mystyleの絵"),
        ("ｍｙｓｔｙｌｅ, red", "mystyle", "ｍｙｓｔｙｌｅ, red"),
        ("red", "ｍｙｓｔｙｌｅ", "mystyle, red"),
        ("ミクロの絵", "ミク", "ミク, ミクロの絵"),
        ("かわいいねこの絵", "ねこ", "かわいいねこの絵"),
        ("빨간 소녀의 그림", "소녀", "빨간 소녀의 그림"),
    ],
)
def test_trigger(caption, trigger, result):
    assert with_trigger(caption, trigger) == result
    assert with_trigger(result, trigger) == result


@pytest.mark.parametrize(
    ("caption", "trigger", "class_words", "result"),
    [
        ("魔法少女の絵、赤い髪", "魔法少女", "少女", "少女の絵、赤い髪"),
        ("魔法少女の絵、赤い髪", "魔法少女", "", "絵、赤い髪"),
        ("赤い髪、魔法少女、笑顔", "魔法少女", "", "赤い髪、笑顔"),
        ("ｍｙｓｔｙｌｅ, red", "mystyle", "", "red"),
        ("a photo of sks dog", "sks", "a", "a photo of a dog"),
        ("asks why", "sks", "x", "asks why"),
    ],
)
def test_without_trigger(caption, trigger, class_words, result):
    assert without_trigger(caption, trigger, class_words) == result


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("mystyle, red hair , ,smile", ["mystyle", "red hair", "smile"]),
        ("魔法少女、赤い髪､青い目", ["魔法少女", "赤い髪", "青い目"]),
        ("mystyle，红发，蓝眼", ["mystyle", "红发", "蓝眼"]),
        ("", []),
    ],
)
def test_tags_between_commas_of_any_script(caption, tags):
    assert split_tags(caption) == tags
    assert split_tags(join_tags(tags, caption)) == tags


def test_the_trigger_is_the_first_tag_that_stays_in_front():
    tags = ["red hair", "MyStyle", "smile"]
    assert tags_in_front(tags, 1, "mystyle") == (["MyStyle"], ["red hair", "smile"])
    assert tags_in_front(tags, 2, "mystyle") == (["MyStyle", "red hair"], ["smile"])
    assert tags_in_front(tags, 1, "") == (["red hair"], ["MyStyle", "smile"])
    assert tags_in_front(tags, 0, "mystyle") == ([], tags)
    assert tags_in_front([], 1, "mystyle") == ([], [])
