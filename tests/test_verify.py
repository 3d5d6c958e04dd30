"""A file that is not what was trained never counts as finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdlora.adapters.inject import eject
from sdlora.core.errors import Unloadable
from sdlora.families.base_model import Base
from sdlora.lora_files import kohya, write
from sdlora.models.precision import Precision
from sdlora.render.verify import verify_file
from sdlora.train import run as run_module
from tests.test_lora import adapted, fill, load
from tests.test_train import Trained

Tensors = dict[str, Tensor]


def written(
    tmp_path: Path, folder: Path, dtype: torch.dtype, precision: Precision = "fp32"
) -> tuple[Path, Base, object]:
    base = load(folder, precision)
    adapters = adapted(base, "attention+ff")
    fill(adapters)
    lora = kohya.to_lora(adapters, "sd1").cast(dtype)
    return write.write_lora(tmp_path / "x.safetensors", lora, "kohya"), base, adapters


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_good_file_passes_in_every_number_format(
    tiny_base: Path, tmp_path: Path, dtype: torch.dtype, precision: Precision
) -> None:
    file, base, adapters = written(tmp_path, tiny_base, dtype, precision)
    before = {
        k.replace(".base_layer", ""): v.clone() for k, v in base.denoiser.state_dict().items() if "lora_" not in k
    }
    certificate = verify_file(file, base, adapters)  # type: ignore[arg-type]
    assert certificate.layers > 20
    assert certificate.difference < (0.01 if precision == "fp32" else 0.1)
    assert certificate.text.en.startswith("Checked: loads in diffusers, kohya names complete")
    after = base.denoiser.state_dict()  # the base alone again
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)


def alpha_is_the_rank(t: Tensors) -> Tensors:
    return {k: torch.tensor(4.0) if k.endswith(".alpha") else v for k, v in t.items()}


def one_layer_lost(t: Tensors) -> Tensors:
    lost = sorted(t)[0].split(".")[0]
    return {k: v for k, v in t.items() if not k.startswith(lost + ".")}


def as_transformers_5_6_names_it(t: Tensors) -> Tensors:
    return {k.replace("lora_te_text_model_", "lora_te_"): v for k, v in t.items()}


def other_prefix(t: Tensors) -> Tensors:
    return {k.replace("lora_te_", "lora_te2_"): v for k, v in t.items()}


def other_layer(t: Tensors) -> Tensors:
    return {k.replace("layers_1_mlp_fc2", "layers_7_mlp_fc2"): v for k, v in t.items()}


def not_finite(t: Tensors) -> Tensors:
    return t | {sorted(t)[1]: torch.full_like(t[sorted(t)[1]], float("nan"))}


def zeros(t: Tensors) -> Tensors:
    return {k: v * 0 if "lora_up" in k else v for k, v in t.items()}


def up_swapped(t: Tensors) -> Tensors:
    q, k = (next(n for n in sorted(t) if "unet" in n and f"attn1_to_{x}.lora_up" in n) for x in "qk")
    return t | {q: t[k], k: t[q]}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (alpha_is_the_rank, "other numbers"),
        (one_layer_lost, "tensors for"),
        (as_transformers_5_6_names_it, "no name that kohya"),
        (other_prefix, "no name that kohya"),
        (other_layer, "lost when it is read"),
        (not_finite, "not all of its numbers are finite"),
        (zeros, "changes nothing"),
        (up_swapped, "other numbers"),
    ],
)
def test_a_wrong_file_fails(tiny_base: Path, tmp_path: Path, damage: Callable[[Tensors], Tensors], says: str) -> None:
    file, base, adapters = written(tmp_path, tiny_base, torch.float32)
    save_file(damage(load_file(file)), file)
    with pytest.raises(Unloadable, match=says):
        verify_file(file, base, adapters)  # type: ignore[arg-type]


def test_layers_without_effect_are_no_fault(tiny_base: Path, tmp_path: Path) -> None:
    """SDXL's first text encoder ends in layers that get no gradient."""
    base = load(tiny_base)
    adapters = adapted(base, "attention+ff")
    fill(adapters)
    for name, p in adapters.named_parameters().items():
        if "layers.1" in name and name.endswith("lora_B"):
            p.data.zero_()
    file = write.write_lora(tmp_path / "x.safetensors", kohya.to_lora(adapters, "sd1"), "kohya")
    assert verify_file(file, base, adapters).layers


def test_ejected_means_gone(tiny_base: Path) -> None:
    base, plain = load(tiny_base), load(tiny_base)
    fill(adapted(base))
    eject({"unet": base.denoiser, "text_encoder": base.parts["text_encoder"]})
    assert str(base.denoiser) == str(plain.denoiser)
    assert str(base.parts["text_encoder"]) == str(plain.parts["text_encoder"])


def test_a_run_whose_file_is_wrong_fails(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_final = run_module.write_final

    def badly(*args: object) -> Path:
        file = write_final(*args)  # type: ignore[arg-type]
        save_file(alpha_is_the_rank(load_file(file)) | {}, file)
        return file

    monkeypatch.setattr(run_module, "write_final", badly)
    with pytest.raises(Unloadable, match="not what was trained"):
        Trained(tmp_path, tiny_base, **{"lora.alpha": 1.0, "train.steps": 2, "sample.steps": 1})()
