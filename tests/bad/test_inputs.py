"""What people bring, as reported to other trainers: each picture gets its caption, or a sentence says why not. Never silently another."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from sdlora.cli import commands
from sdlora.data import Dataset, Upload, import_pictures
from sdlora.data.text_decoding import decode_name_bytes, decode_text
from tests.bad.pictures import drawing

pytestmark = pytest.mark.bad
Content = bytes | str | int  # a number is a picture drawn by this seed
WHITE = b"mask"


@dataclass(frozen=True)
class Input:
    """`files` below one folder; `captions` in the order of the pictures, as "name: caption", with " [mask]" behind where it has one."""

    name: str
    files: Mapping[str, Content]
    captions: tuple[str, ...]
    says: tuple[str, ...] = ()  # parts of notes and reasons, in English
    quiet: bool = False  # not a word may be said


def picture(seed: int, name: str) -> bytes:
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF"}
    stream = io.BytesIO()
    drawing(seed).save(stream, formats.get(Path(name).suffix.lower(), "PNG"))
    return stream.getvalue()


def content(name: str, value: Content) -> bytes:
    if value == WHITE:
        stream = io.BytesIO()
        Image.new("L", (80, 80), 255).save(stream, "PNG")
        return stream.getvalue()
    return picture(value, name) if isinstance(value, int) else value.encode() if isinstance(value, str) else value


def written(folder: Path, files: Mapping[str, Content]) -> Path:
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, value))
    return folder


def told(dataset: Dataset) -> str:
    return "\n".join([*(f"{s.name}: {s.reason.en}" for s in dataset.skipped), *(n.en for n in dataset.notes)])


def shown(dataset: Dataset) -> tuple[str, ...]:
    return tuple(f"{item.name}: {item.caption}{' [mask]' if item.mask else ''}" for item in dataset.items)


def judge(dataset: Dataset, case: Input) -> None:
    assert shown(dataset) == case.captions, told(dataset)
    for part in case.says:
        assert part in told(dataset)
    assert not (case.quiet and told(dataset)), told(dataset)
    assert all(note.ja and note.ja != note.en for note in dataset.notes)


def row(name: str, text: str) -> str:
    return json.dumps({"file_name": name, "text": text})


def table(name: str, text: bytes | str, *captions: str, says: tuple[str, ...] = (), quiet: bool = True) -> Input:
    """Two pictures, a.png and b.png, and a table beside them."""
    captions = captions or ("a.png: one", "b.png: two")
    return Input(f"table: {name} {len(text)}", {"a.png": 1, "b.png": 2, name: text}, captions, says, quiet and not says)


PAIRING = [
    Input(
        "names that differ in case only",
        {"Sun.png": 1, "Sun.txt": "a red sun", "sun.png": 2, "sun.txt": "a blue sun"},
        ("Sun.png: a red sun", "sun.png: a blue sun"),
        quiet=True,
    ),
    Input(
        "a caption that is exactly another picture's",
        {"Sun.png": 1, "sun.png": 2, "sun.txt": "a blue sun"},
        ("Sun.png: ", "sun.png: a blue sun"),
        quiet=True,
    ),
    Input("case differs", {"A.PNG": 1, "a.txt": "one"}, ("A.PNG: one",), quiet=True),
    Input("a blank too many", {"a.png": 1, "a .txt": "one"}, ("a.png: one",), quiet=True),
    Input(
        "two captions for one picture",
        {"a.png": 1, "a.txt": "one", "a.caption": "two"},
        ("a.png: one",),
        ("Several captions for a.png: a.txt was used, a.caption not",),
    ),
    Input("the same caption twice", {"a.png": 1, "a.txt": "one", "a.caption": "one"}, ("a.png: one",), quiet=True),
    Input(
        "one caption for two pictures",
        {"a.png": 1, "a.jpg": 2, "a.txt": "one"},
        ("a.jpg: one", "a.png: one"),
        ("One caption for several pictures: that of a.txt is used for a.jpg, a.png",),
    ),
    Input(
        "a caption by the whole name",
        {"a.png": 1, "a.jpg": 2, "a.txt": "jpeg", "a.png.txt": "png"},
        ("a.jpg: jpeg", "a.png: png"),
        quiet=True,
    ),
    Input("no picture", {"a.png": 1, "b.txt": "x"}, ("a.png: ",), ("Caption files without a picture: 1 (b.txt)",)),
]

TABLES = [
    Input(
        "table: its own folder before the names",
        {
            "train/a.png": 1,
            "train/b.png": 2,
            "train/metadata.jsonl": row("train/a.png", "one") + "\n" + row("train/b.png", "two"),
        },
        ("a.png: one", "b.png: two"),
        quiet=True,
    ),
    table("metadata.jsonl", row("a.png", "one") + " " + row("b.png", "two")),
    table("metadata.jsonl", "[" + row("a.png", "one") + "," + row("b.png", "two") + "]"),
    table("metadata.jsonl", row("a.png", "one") + ",\n" + row("b.png", "two") + ",\n"),
    table(
        "metadata.jsonl", json.dumps(json.loads("[" + row("a.png", "one") + "," + row("b.png", "two") + "]"), indent=2)
    ),
    table("metadata.jsonl", "\ufeff" + row("a.png", "one") + "\r\n" + row("b.png", "two")),
    table("metadata.json1", row("a.png", "one") + "\n" + row("b.png", "two")),
    table("metadata.json", "[" + row("a.png", "one") + ",\n" + row("b.png", "two") + "]"),
    table("captions.json", json.dumps({"a.png": "one", "b.png": "two"})),
    table("meta_cap.json", json.dumps({"a": {"caption": "one"}, "b": {"tags": "two"}})),
    table(
        "meta_lat.json", json.dumps({"a": {"caption": "one", "tags": "red, big"}}), "a.png: one, red, big", "b.png: "
    ),
    table("metadata.jsonl", row("a", "one") + "\n" + row("b", "two")),
    table("metadata.jsonl", row("C:\\Users\\me\\train\\a.png", "one") + "\n" + row("/content/train/b.png", "two")),
    table("metadata.jsonl", row("A.PNG", "one") + "\n" + row("./b.png", "two")),
    table("metadata.jsonl", row("a.jpg", "one") + "\n" + row("b.webp", "two")),
    table("metadata.jsonl", '{"image": "a.png", "prompt": "one"}\n{"File Name": "b.png", "Caption": "two"}'),
    table("metadata.jsonl", '{"file_name": "a.png", "additional_feature": "one"}', "a.png: one", "b.png: "),
    table("metadata.jsonl", '{"file_name": "a.png", "tags": ["one", "two"]}', "a.png: one, two", "b.png: "),
    table(
        "metadata.jsonl",
        '{"file_name": "a.png", "text": ["one", "uno"]}\n' + row("b.png", "two"),
        *("a.png: ", "b.png: two"),
        says=("cannot be used: 1", '["one", "uno"]'),
    ),
    table(
        "metadata.jsonl",
        row("a.png", "one") + "\n" + row("a.png", "uno"),
        *("a.png: one", "b.png: "),
        says=("several captions for a.png; the first was used",),
    ),
    table("metadata.csv", "image,prompt\na.png,one\nb.png,two\n"),
    table("metadata.csv", "file_name, text\na.png, one\nb.png, two\n"),
    table("metadata.csv", "file_name;text\na.png;one\nb.png;two\n"),
    table("metadata.csv", "sep=;\nfile_name;text\na.png;one\nb.png;two\n"),
    table("metadata.csv", "file_name\ttext\na.png\tone\nb.png\ttwo\n"),
    table("metadata.tsv", "file_name\ttext\na.png\tone\nb.png\ttwo\n"),
    table("metadata.csv", "file_name|text\na.png|one\nb.png|two\n"),
    table("metadata.csv", "\ufefffile_name\ttext\na.png\tone\nb.png\ttwo\n".encode("utf-16-le")),
    table("metadata.csv", "file_name\ttext\na.png\tone\nb.png\ttwo\n".encode("utf-16-le")),
    table("metadata.csv", "File_Name,Text\na.png,one\nb.png,two\n"),
    table("metadata.csv", "File Name,Caption\na.png,one\nb.png,two\n"),
    table("metadata.csv", "ファイル名,キャプション\na.png,one\nb.png,two\n".encode("cp932")),
    table("metadata.csv", "file_name,text\ra.png,one\rb.png,two\r"),
    table(
        "metadata.csv", '"file_name", "text"\n"a.png", "one, red"\n"b.png", "two"\n', "a.png: one, red", "b.png: two"
    ),
    table("metadata.csv", "'file_name','text'\n'a.png','one, red'\n'b.png','two'\n", "a.png: one, red", "b.png: two"),
    table(
        "metadata.csv", "file_name,text\na.png,one hat, red, big\nb.png,two\n", "a.png: one hat, red, big", "b.png: two"
    ),
    table("metadata.csv", "text,file_name\none, red,a.png\ntwo,b.png\n", "a.png: one, red", "b.png: two"),
    table("metadata.csv", 'file_name,text\na.png,"one\nhat"\nb.png,two\n', "a.png: one hat", "b.png: two"),
    table("metadata.csv", "a.png,one\nb.png,two\n"),
    table("metadata.csv", "id,file_name,text,score\n1,a.png,one,5\n2,b.png,two,6\n"),
    table(
        "metadata.csv",
        "file_name,text,score\na.png,one, red,5\nb.png,two,6\n",
        *("a.png: ", "b.png: two"),
        says=("cannot be used: 1", "a.png,one, red,5"),
    ),
    table(
        "metadata.csv",
        'file_name,text\na.png,"one\nb.png,two\n',
        *("a.png: ", "b.png: two"),
        says=("cannot be used: 1", 'a.png,"one'),
    ),
    table("captions.txt", "a.png: one\nb.png: two\n".replace(": ", "\t")),
    table("captions.txt", "a.png,one\nb.png,two\n"),
    Input(
        "table: beside the folder of pictures",
        {
            "images/a.png": 1,
            "images/b.png": 2,
            "captions.csv": "image, caption\na.png, one dragon, flying\nb.png, two\n",
        },
        ("a.png: one dragon, flying", "b.png: two"),
        quiet=True,
    ),
    Input(
        "table: a name that fits two pictures",
        {"x/a.png": 1, "y/a.png": 2, "metadata.jsonl": row("a.png", "which?") + "\n" + row("y/a.png", "y")},
        ("a.png: ", "a.png: y"),
        ("fit several pictures and were not used: a.png",),
    ),
    Input(
        "table: another folder's picture",
        {"x/a.png": 1, "metadata.jsonl": row("y/a.png", "not x")},
        ("a.png: ",),
        ("without use: 1",),
    ),
    Input("one JSON file a picture", {"a.png": 1, "a.json": '{"caption": "one"}'}, ("a.png: one",), quiet=True),
    Input(
        "a JSON file of something else",
        {"a.png": 1, "info.json": '{"x": 1}'},
        ("a.png: ",),
        ("info.json: No captions",),
    ),
    Input("a.tags", {"a.png": 1, "a.tags": "one, two"}, ("a.png: one, two",), quiet=True),
    Input("A.TXT", {"a.png": 1, "A.TXT": "one"}, ("a.png: one",), quiet=True),
    Input("a.md", {"a.png": 1, "a.md": "one"}, ("a.png: ",), ("Captions are read from text files",)),
    Input("a spreadsheet", {"a.png": 1, "captions.xlsx": b"PK"}, ("a.png: ",), ("Save the table as CSV",)),
]

LAYOUTS = [
    Input(
        "OneTrainer's masks",
        {"0.png": 1, "0.txt": "a", "0-masklabel.png": WHITE, "1.jpg": 2, "1-masklabel.png": WHITE},
        ("0.png: a [mask]", "1.jpg:  [mask]"),
        ("Pictures with a mask: 2",),
    ),
    Input(
        "sd-scripts' masks",
        {"img/10_x/0.png": 1, "img/10_x/0.txt": "a", "masks/0.png": WHITE},
        ("0.png: a [mask]",),
    ),
    Input(
        "masks side by side",
        {"images/0.png": 1, "images/1.png": 2, "masks/0.png": WHITE, "masks/7.png": WHITE},
        ("0.png:  [mask]", "1.png: "),
        ("7.png: It lies in a folder of masks, but no picture",),
    ),
    Input("masks inside", {"0.png": 1, "masks/0.png": WHITE}, ("0.png:  [mask]",)),
    Input("masks called 0_mask", {"0.png": 1, "mask/0_mask.png": WHITE}, ("0.png:  [mask]",)),
    Input(
        "masks of two folders",
        {"x/0.png": 1, "y/0.png": 2, "masks/x/0.png": WHITE, "masks/y/0.png": WHITE},
        ("0.png:  [mask]", "0.png:  [mask]"),
    ),
    Input(
        "a mask that may be of two pictures",
        {"x/0.png": 1, "y/0.png": 2, "y/1.png": 3, "masks/0.png": WHITE, "masks/1.png": WHITE},
        ("0.png: ", "0.png: ", "1.png:  [mask]"),
        ("0.png: It lies in a folder of masks",),
    ),
    Input(
        "one mask, two pictures of its name",
        {"a.jpg": 1, "a.png": 2, "masks/a.png": WHITE},
        ("a.jpg: ", "a.png:  [mask]"),
        ("The mask a.png is used for a.png, whose name it has; a.jpg has none",),
    ),
    Input(
        "a folder of carnival masks",
        {"faces/a.png": 1, "masks/b.png": 2},
        ("a.png: ", "b.png: "),
        ("were taken as pictures, not as masks",),
    ),
    Input(
        "regularisation pictures",
        {"img/10_sks dog/0.png": 1, "reg/1_dog/0.png": 2, "reg/1_dog/0.txt": "a dog"},
        ("0.png: sks dog",),
        ("Left out: 1 (0.png). It lies in a folder of regularisation pictures", "“10_sks dog”: “sks dog”"),
    ),
    Input(
        "samples of the last run",
        {"img/10_sks dog/0.png": 1, "model/sample/sks_e000001.png": 2},
        ("0.png: sks dog",),
        ("sks_e000001.png: It lies in a folder of samples",),
    ),
    Input("only a folder samples", {"samples/0.png": 1}, ("0.png: ",), quiet=True),
    Input(
        "control pictures",
        {"images/0.png": 1, "conditioning_images/0.png": 2},
        ("0.png: ",),
        ("condition picture of another picture",),
    ),
    Input(
        "a year", {"2024_summer campaign/0.png": 1}, ("0.png: ",), ("looks like a date or an order", "summer campaign")
    ),
    Input("a date", {"20240131_trip/0.png": 1}, ("0.png: ",), ("looks like a date or an order",)),
    Input("an order", {"01_final/0.png": 1}, ("0.png: ",), ("looks like a date or an order",)),
    Input(
        "folders that count",
        {"1_intro/0.png": 1, "2_main/0.png": 2, "3_end/0.png": 3},
        ("0.png: ", "0.png: ", "0.png: "),
        ("looks like a date or an order",),
    ),
    Input(
        "kohya's folders",
        {"10_sks dog/0.png": 1, "5_cat/0.png": 2},
        ("0.png: cat", "0.png: sks dog"),
        ("1 captions come from the name of the folder “10_sks dog”: “sks dog”", "repeats"),
    ),
]

JPEG = picture(1, "a.jpg")
FORMATS = [
    *(
        Input(f"a JPEG called {name}", {name: JPEG}, (f"{name}: ",), quiet=True)
        for name in ("photo.jfif", "photo.jpe", "noext", "photo.jpg_large", "photo.jpg 2", "photo.JFIF", "a.b.c")
    ),
    Input("a JPEG with a caption and no suffix", {"photo": JPEG, "photo.txt": "one"}, ("photo: one",), quiet=True),
    Input(
        "AVIF by any name",
        {"a.avif": picture(1, "a.avif"), "b.jpg": picture(2, "b.avif")},
        ("a.avif: ", "b.jpg: "),
        quiet=True,
    ),
    Input(
        "HEIC by any name",
        {"a.png": 1, "IMG_1.HEIC": b"\0\0\0\x18ftypheic" + bytes(80), "IMG_2.jpg": b"\0\0\0\x18ftypmif1" + bytes(80)},
        ("a.png: ",),
        ("IMG_1.HEIC: It is a HEIC picture (iPhone). Export it as JPEG", "IMG_2.jpg: It is a HEIC picture"),
    ),
    Input(
        "others",
        {
            "a.png": 1,
            "b.jxl": b"\xff\x0a" + bytes(80),
            "c.jp2": b"\0\0\0\x0cjP  " + bytes(80),
            "d.psd": b"8BPS" + bytes(80),
        },
        ("a.png: ",),
        ("JPEG XL", "JPEG 2000", "Photoshop"),
    ),
    Input(
        "a raw file", {"a.png": 1, "b.nef": b"II*\0" + bytes(80)}, ("a.png: ",), ("b.nef: It is a camera's raw file",)
    ),
    Input("a text", {"a.png": 1, "BMnotes": b"BM is a text"}, ("a.png: ",), ("BMnotes: It is not a picture",)),
]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in (*PAIRING, *TABLES, *LAYOUTS, *FORMATS)])
def test_folder(case: Input, tmp_path: Path) -> None:
    judge(import_pictures([written(tmp_path / "in", case.files)], tmp_path / "sets"), case)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in (*PAIRING, *LAYOUTS)])
def test_zip(case: Input, tmp_path: Path) -> None:
    """The same as a zip, made where names may differ in case only."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, value in case.files.items():
            archive.writestr(f"in/{name}", content(name, value))
    judge(import_pictures([tmp_path / "in.zip"], tmp_path / "sets"), case)


def upload(folder: Path, files: list[tuple[str, Content]]) -> list[Upload]:
    """Each content in a folder of its own, under a name without the letters that the browser's upload drops."""
    uploads = []
    for name, value in files:
        data = content(name, value)
        path = folder / hashlib.sha256(data).hexdigest() / "".join(c for c in name if c not in '<>:"/\\|?*$!{}`')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        uploads.append(Upload(path, name))
    return uploads


LONG = "masterpiece, best quality, 1girl, solo, long hair, " * 4
UPLOADS = [
    (
        [
            ("what.png", 1),
            ("what.txt", "a fish"),
            ("what?.png", 2),
            ("what?.txt", "a bird"),
            ("wow!.png", 3),
            ("wow!.txt", "a cat"),
        ],
        ["what.png: a fish", "what?.png: a bird", "wow!.png: a cat"],
        "",
    ),
    ([(f"{LONG}.webp", 1), (f"{LONG}.txt", "long")], [f"{LONG[:195]}.webp: long"], ""),
    (
        [("time 10:30.png", 1), ("metadata.jsonl", row("time 10:30.png", "half past"))],
        ["time 10:30.png: half past"],
        "",
    ),
    (
        [("a.png", 1), ("a.txt", "same"), ("a?.png", 2), ("a?.txt", "same")],
        ["a.png: same", "a?.png: same"],
        "",
    ),
    (
        [("001.png", 1), ("001.txt", "red"), ("001.png", 2), ("001.txt", "blue")],
        ["001.png: ", "001.png: "],
        "Several files are called 001.txt, with different captions",
    ),
    (
        [("001.png", 1), ("001.png", 2), ("001.txt", "red")],
        ["001.png: red", "001.png: red"],
        "One caption for several pictures: that of 001.txt is used for 001.png, 001.png",
    ),
    (
        [("001.png", 1), ("001.png", 2), ("metadata.jsonl", row("001.png", "which?"))],
        ["001.png: ", "001.png: "],
        "fit several pictures and were not used: 001.png",
    ),
]


@pytest.mark.parametrize(("files", "captions", "says"), UPLOADS)
def test_upload(files: list[tuple[str, Content]], captions: list[str], says: str, tmp_path: Path) -> None:
    """Names are those on the person's disk, whatever the upload made of them."""
    dataset = import_pictures(upload(tmp_path, files), tmp_path / "sets")
    assert list(shown(dataset)) == captions, told(dataset)
    assert says in told(dataset) if says else not told(dataset)


WESTERN = (
    *(
        "the girl’s red hat",
        "they don’t smile",
        "a sign that says “open”",
        "a cat—black and white",
        "waiting… for rain",
    ),
    *("• red hat", "Bär im Wald", "un café déjà vu, forêt", "garçon", "ein Bär auf der Straße", "São Paulo", "un niño"),
    *("90°", "©", "© 2024 Foo", "1girl, café, smile", "l’été", "smørrebrød på bordet", "¿Qué? ¡Sí!", "red—blue", "™"),
)
JAPANESE = (
    *(
        "青い猫",
        "赤い髪の少女が笑っている",
        "魔法少女、赤い髪、青い目、笑顔",
        "赤い帽子",
        "1girl, 赤い帽子, smile",
        "ネコ",
        "ねこ",
    ),
    *("東京タワーの夜景", "スーパーマン", "着物の女性、背景は白", "style、花", "テスト", "表紙の少女"),
)
CHINESE = ("白色背景", "红色头发的女孩", "一个女孩，蓝色的眼睛", "黑白照片")


@pytest.mark.parametrize(
    ("codec", "texts", "certain"),
    [
        ("cp1252", WESTERN, False),
        ("cp932", JAPANESE, True),
        ("euc_jp", JAPANESE, True),
        ("iso2022_jp", JAPANESE, True),
        ("utf-8", (*WESTERN, *JAPANESE, *CHINESE), True),
        *((codec, (*WESTERN, *JAPANESE, *CHINESE), True) for codec in ("utf-8-sig", "utf-16", "utf-32")),
        *(
            (codec, ("a red hat", *JAPANESE[:5]), None)
            for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        ),
        ("gb18030", CHINESE, False),
        ("big5", ("紅色頭髮的女孩", "白色背景"), False),
        ("euc_kr", ("빨간 머리 소녀", "고양이"), False),
        ("koi8_r", ("красная шляпа", "девушка с рыжими волосами", "Кот"), False),
        ("cp1251", ("красная шляпа", "девушка с рыжими волосами"), False),
    ],
)
def test_encodings(codec: str, texts: tuple[str, ...], certain: bool | None) -> None:
    """Right, and where it cannot be certain a note says so; `certain` None = either."""
    for text in texts:
        found = decode_text(text.encode(codec))
        assert found.text == text
        assert certain is None or found.certain == certain or text.isascii()


@pytest.mark.parametrize(
    "codec", ["cp1252", "latin-1", "cp1250", "cp1251", "koi8_r", "gb18030", "big5", "euc_kr", "cp949", "cp850"]
)
def test_other_encodings_are_never_certain(codec: str) -> None:
    for text in (*WESTERN, *CHINESE, "красная шляпа", "빨간 머리", "紅色", "červený klobouk", "zażółć gęślą"):
        data = text.encode(codec, "ignore")
        found = decode_text(data)
        assert data.isascii() or not found.certain or found.text == text


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        *(("cp850", name) for name in ("Bär Straße.png", "Größe", "café.png", "niño.png", "São.png")),
        *(("cp437", name) for name in ("Bär Straße.png", "café.png", "été.txt")),
        *(
            ("cp932", name)
            for name in ("表紙", "ソ能.png", "テスト.png", "犬.png", "赤い帽子.png", "新しいフォルダー", "表示")
        ),
        *(("euc_jp", name) for name in ("テスト.png", "赤い帽子.png")),
        *(("gb18030", name) for name in ("白色背景.png", "红色.png")),
        *(("cp866", name) for name in ("Шляпа.png", "кот.png")),
        ("euc_kr", "고양이.png"),
        ("utf-8", "Bär ソ.png"),
    ],
)
def test_names_in_zips(codec: str, name: str) -> None:
    assert decode_name_bytes(name.encode(codec)).text == name


def test_a_guessed_name_in_a_zip_is_said(tmp_path: Path) -> None:
    class Named(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 (zipfile's own)
            return self.filename.encode("cp850"), 0

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(Named("Bär.png"), picture(1, "a.png"))
        archive.writestr(Named("Bär.txt"), "a bear")
    dataset = import_pictures([tmp_path / "x.zip"], tmp_path / "sets")
    assert shown(dataset) == ("Bär.png: a bear",)
    assert "Names in x.zip are in an unknown encoding and were guessed: Bär.png" in told(dataset)


def test_small_pictures_are_said_on_the_command_line(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", {f"{k}.png": k for k in range(6)})  # 80 × 80

    def findings(*options: str) -> set[str]:
        done = CliRunner().invoke(
            commands, ["dataset", "check", str(folder), "--json", "--workspace", str(tmp_path), *options]
        )
        assert done.exit_code == 0, done.output
        return {one["code"] for one in json.loads(done.stdout.splitlines()[-1])["findings"]}

    assert "too-small" in findings()
    assert "too-small" not in findings("--resolution", "80")
    assert "too-small" not in findings("--base", "emoji")
