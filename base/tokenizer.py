"""A small tokenizer in CLIP's format: byte-level BPE with `</w>`, learnt from names of pictures and captions."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

POSITIONS = 24
"""Tokens of a prompt with start and end: the text encoder's positions and the tokenizer's model_max_length.

Few, because the UNet's attention reads the padding too: with 48, of which a caption fills seven, the words were
drowned and learnt slowly.
"""

VOCABULARY = 2048
START, END = "<|startoftext|>", "<|endoftext|>"
_CLIP_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _byte_letters() -> list[str]:
    """GPT-2's printable letter for each of the 256 bytes, in CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def learn_tokenizer(texts: list[str], folder: Path) -> None:
    """Write vocab.json, merges.txt and the two config files of a CLIPTokenizer into `folder`."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(_CLIP_SPLIT), behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    letters = _byte_letters()
    merges_wanted = VOCABULARY - 2 * len(letters) - 2
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]][:merges_wanted]
    pieces = letters + [letter + "</w>" for letter in letters] + ["".join(m) for m in merges] + [START, END]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    _write(folder, vocabulary, merges)


def _write(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = special | {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": POSITIONS,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
    }
    files = {"vocab.json": vocabulary, "tokenizer_config.json": config, "special_tokens_map.json": special}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
