"""`convert`, `merge`, `extract` and `resize`: commands that write a LoRA file from others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sdlora.cli.options import JsonOption, print_json
from sdlora.cli.progress_bar import progress_bar
from sdlora.core.environment import child_environment
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.lora_files.inspect import inspect_file

if TYPE_CHECKING:
    import torch

    from sdlora.lora_files.layers import Lora
    from sdlora.lora_files.read import LoraFile

Dtype = Literal["keep", "fp16", "bf16", "fp32"]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Number format of the file.")]
OutOption = Annotated[Path, typer.Option("--out", help="Where to write it.")]


def convert(
    file: Annotated[Path, typer.Argument(help="A LoRA file, or a folder with a diffusers or PEFT LoRA.")],
    to: Annotated[Literal["kohya", "diffusers", "peft"], typer.Option("--to", help="Format to write.")],
    out: OutOption,
    dtype: DtypeOption = "keep",
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Keep only the metadata that loaders need: no captions, no settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a LoRA in another format; names and header change, the weights do not."""
    lora = _read(file).lora()
    from sdlora.lora_files import metadata, write

    if minimal:
        lora = replace(lora, metadata=metadata.minimal(lora.metadata))
    _report(write.write_lora(out, lora.cast(_dtype(lora, dtype)) if dtype != "keep" else lora, to), as_json)


def merge(
    files: Annotated[list[str], typer.Argument(metavar="FILE:STRENGTH...", help="LoRA files with their strengths.")],
    out: OutOption,
    into: Annotated[str, typer.Option(help="Put them into this base; --out is then a new folder.")] = "",
    rank: Annotated[int, typer.Option(min=0, help="Cut the result to this rank by SVD; 0 = exact.")] = 0,
    dtype: DtypeOption = "keep",
    as_json: JsonOption = False,
) -> None:
    """Make one LoRA of several, or a new base of a base and LoRAs."""
    if into:
        _merge_into([(_read(path), strength) for path, strength in map(_with_strength, files)], into, out, as_json)
        return
    loras = [(_read(path).lora(), strength) for path, strength in map(_with_strength, files)]
    import torch

    from sdlora.lora_files import merge, resize, write

    wanted = _dtype(loras[0][0], dtype)
    with progress_bar("merging") as advance:
        merged = merge.merge(loras, torch.float32 if rank else wanted, advance)
    shares = {}
    if rank:
        with progress_bar("cutting") as advance:
            small = resize.resize(merged, min(rank, merged.rank), None, wanted, advance)
        merged, shares = small.lora, {"energy": small.energy, "least_energy": small.least_energy}
    named = _renamed(merged, out) | {"modelspec.merged_from": ", ".join(Path(text).name for text in files)}
    _report(write.write_lora(out, replace(merged, metadata=named), "kohya"), as_json, **shares)


def _merge_into(loras: list[tuple[LoraFile, float]], into: str, out: Path, as_json: bool) -> None:
    from sdlora.lora_files.inspect import refuse_other_family
    from sdlora.lora_files.merge_into_base import apply_changes, changes_by_tensor
    from sdlora.models.bases import resolve_base
    from sdlora.models.hub import local_path
    from sdlora.models.weights import family_and_prediction, open_weights, write_modified_base

    base = local_path(resolve_base(into))
    for lora, _ in loras:
        refuse_other_family(lora.name, lora.family, family_and_prediction(base)[0], into)
    where = changes_by_tensor(loras, open_weights(base))
    with progress_bar("merging") as advance:
        write_modified_base(
            base,
            out,
            lambda part, name, weight: apply_changes(weight, where[part, name]) if (part, name) in where else weight,
            advance,
        )
    report = {"folder": str(out), "layers": len(where)}
    if as_json:
        print_json(report)
    else:
        print(f"{out}\n{len(where)} layers changed; use it as --base {out}")


def extract(
    base: Annotated[str, typer.Option("--base", help="The model before: a folder, a file, a hub id or `emoji`.")],
    tuned: Annotated[str, typer.Option("--tuned", help="The model after fine-tuning.")],
    rank: Annotated[int, typer.Option("--rank", min=1, max=1024)],
    out: OutOption,
    targets: Annotated[
        Literal["attention", "attention+ff", "attention+ff+conv"], typer.Option(help="Which layers.")
    ] = "attention+ff+conv",
    dtype: Annotated[Literal["fp16", "bf16", "fp32"], typer.Option("--dtype", help="Number format.")] = "fp16",
    as_json: JsonOption = False,
) -> None:
    """Turn the difference of two models into a LoRA."""
    os.environ |= child_environment()  # before torch loads OpenMP
    from sdlora.core.safetensors_io.dtypes import torch_dtype
    from sdlora.families import FAMILIES
    from sdlora.lora_files import write
    from sdlora.lora_files.extract import extract as difference
    from sdlora.models.bases import resolve_base
    from sdlora.models.hub import local_path
    from sdlora.models.weights import family_and_prediction, open_weights

    before, after = (local_path(resolve_base(name)) for name in (base, tuned))
    family, prediction = family_and_prediction(before)
    with progress_bar("extracting") as advance:
        layout = FAMILIES[family].lora
        found = difference(layout, open_weights(before), open_weights(after), rank, targets, advance)
    said = {
        "ss_sd_model_name": Path(base).name,
        "ss_output_name": out.stem,
        "modelspec.prediction_type": "v" if prediction == "v_prediction" else "epsilon",
    }
    lora = replace(found.lora.cast(torch_dtype(dtype)), family=family, metadata=said)
    _report(write.write_lora(out, lora, "kohya"), as_json, energy=found.energy)


def resize(
    file: Annotated[Path, typer.Argument(help="A LoRA file.")],
    out: OutOption,
    rank: Annotated[int, typer.Option("--rank", min=0, max=1024, help="The new rank.")] = 0,
    energy: Annotated[
        float,
        typer.Option("--energy", min=0, max=1, help="Or: the smallest rank that keeps this share in every layer."),
    ] = 0.0,
    dtype: DtypeOption = "keep",
    as_json: JsonOption = False,
) -> None:
    """Make a LoRA smaller, keeping the most of it that a rank can."""
    if bool(rank) == bool(energy):
        raise BadInput(Text("Give either --rank or --energy.", "--rank と --energy のどちらか一方を指定してください。"))
    lora = _read(file).lora()
    from sdlora.lora_files import resize, write

    with progress_bar("resizing") as advance:
        small = resize.resize(lora, rank or None, energy or None, _dtype(lora, dtype), advance)
    small = replace(small, lora=replace(small.lora, metadata=_renamed(lora, out)))
    _report(write.write_lora(out, small.lora, "kohya"), as_json, energy=small.energy, least_energy=small.least_energy)


def _read(file: Path) -> LoraFile:
    if not file.exists():
        raise BadInput(Text(f"{file} does not exist.", f"{file} がありません。"))
    inspect_file(file)  # refuses before torch is loaded
    os.environ |= child_environment()  # before torch loads OpenMP
    from sdlora.lora_files.read import read_file

    return read_file(file)


def _with_strength(text: str) -> tuple[Path, float]:
    """`FILE:0.8`; without a number, strength 1."""
    path, colon, number = text.rpartition(":")
    try:
        strength = float(number) if colon else 1.0
    except ValueError:
        return Path(text), 1.0
    if not -10 <= strength <= 10:
        raise BadInput(
            Text(
                f"The strength {number} of {path} is not a number from -10 to 10.",
                f"{path} の強さ {number} は -10 から 10 の数値ではありません。",
            )
        )
    return Path(path if colon else text), strength


def _renamed(lora: Lora, out: Path) -> dict[str, str]:
    """The metadata with the new file's name: A1111 and Forge list LoRAs by it, and two of one name shadow each other."""
    return lora.metadata | {"ss_output_name": out.stem, "modelspec.title": out.stem}


def _dtype(lora: Lora, wanted: Dtype) -> torch.dtype:
    from sdlora.core.safetensors_io.dtypes import torch_dtype

    return lora.layers[0].down.dtype if wanted == "keep" else torch_dtype(wanted)


def _report(written: Path, as_json: bool, **more: float) -> None:
    found = inspect_file(written)
    report = {
        "file": str(written),
        **{k: getattr(found, k) for k in ("format", "family", "rank", "alpha", "dtype", "parameters", "sha256")},
        **more,
    }
    if as_json:
        print_json(report)
        return
    print(f"{written}\n{found.format}, rank {found.rank}, {found.parameters:,} parameters, {found.dtype}")
    for name, value in more.items():
        print(f"{name.replace('_', ' ')} kept: {value:.1%}")
