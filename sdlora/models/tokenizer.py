"""Find CLIP's tokenizer for bases that bring none: beside the file, among other bases, in the hub's cache, in packages."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from sdlora.core.errors import BaseUnusable
from sdlora.core.text import Text

_BPE = "bpe_simple_vocab_16e6.txt.gz"  # as OpenAI published it; open_clip and clip bring it along
_MERGES = 49152 - 256 - 2  # lines of it that CLIP uses


def find_tokenizer(file: Path, text_encoder: dict[str, Any], pad: str | None) -> CLIPTokenizer:
    """A tokenizer that fits the text encoder's config for the base in `file`. `pad` is OpenCLIP's padding, None = the end token.

    Raises:
        BaseUnusable: there is none on this machine.
    """
    tokens = text_encoder["vocab_size"]
    options: dict[str, Any] = {"model_max_length": text_encoder["max_position_embeddings"]}
    options["pad_token"] = pad or "<|endoftext|>"
    for folder in _folders(file):
        if _vocabulary_size(folder) == tokens:
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **options)
    for package in ("open_clip", "clip"):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / _BPE).is_file() and tokens == 49408:
                return from_bpe(Path(place) / _BPE, **options)
    raise BaseUnusable(
        Text(
            f"{file.name} needs CLIP's tokenizer, and there is none on this machine. Put a folder `tokenizer` (vocab.json, merges.txt) from any Stable Diffusion base beside the file.",
            f"{file.name} には CLIP のトークナイザーが必要ですが、見つかりません。Stable Diffusion の `tokenizer` フォルダー(vocab.json、merges.txt)をファイルの隣に置いてください。",
        )
    )


def _folders(file: Path) -> Iterator[Path]:
    yield from (file.with_suffix("") / "tokenizer", file.parent / "tokenizer", file.parent)
    if bases := os.environ.get("SDLORA_BASES"):
        yield from sorted(Path(bases).glob("tokenizer"))
        yield from sorted(Path(bases).glob("*/tokenizer"))
    from huggingface_hub.constants import HF_HUB_CACHE

    for pattern in ("models--*/snapshots/*/tokenizer", "models--*clip*/snapshots/*"):
        yield from sorted(Path(HF_HUB_CACHE).glob(pattern))


def _vocabulary_size(folder: Path) -> int:
    """Tokens of the vocabulary there; 0 where there is no tokenizer."""
    try:
        if not (folder / "merges.txt").is_file():
            return 0
        return len(json.loads((folder / "vocab.json").read_bytes()))
    except (OSError, ValueError):
        return 0


def from_bpe(bpe: Path, **options: Any) -> CLIPTokenizer:
    """From OpenAI's list of merges: bytes, bytes that end a word, merges, start and end."""
    from tokenizers.pre_tokenizers import ByteLevel

    lines = gzip.decompress(bpe.read_bytes()).decode().splitlines()[1 : _MERGES + 1]
    letters = _openai_order(ByteLevel.alphabet())
    words = [*letters, *(f"{x}</w>" for x in letters), *("".join(line.split()) for line in lines)]
    vocabulary = {word: k for k, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **options)


def _openai_order(alphabet: list[str]) -> list[str]:
    """Bytes that print as themselves first, then the others, each in order."""
    return sorted(alphabet, key=lambda letter: (ord(letter) >= 256, ord(letter)))
