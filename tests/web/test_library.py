"""The Library in a real browser: files come in, are found, renamed, compared, merged, published, deleted and brought back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from playwright.sync_api import Page, expect
from safetensors.torch import save_file

from sdlora.config import Config
from sdlora.lora_files import write
from sdlora.lora_files.inspect import inspect_file
from sdlora.lora_files.layers import Layer, Lora
from sdlora.models.weights import open_weights
from tests.browser import App
from tests.web.conftest import HOSTILE

Open = Callable[..., Page]
ROWS = "#library-shelf li"


def lora_file(base: Path, file: Path, seed: int) -> Path:
    """A strong random LoRA for this base, with hostile words in it."""
    g = torch.Generator().manual_seed(seed)
    weights = open_weights(base)["unet"]
    shapes = {
        n.removesuffix(".weight"): w.shape for n, w in weights.items() if ".attn2.to_" in n and n.endswith("weight")
    }
    layers = [
        Layer("unet", path, torch.randn(4, s[1], generator=g), torch.randn(s[0], 4, generator=g), 4.0)
        for path, s in sorted(shapes.items())
    ]
    said = {"ss_base_model_version": "sd_v1", "modelspec.trigger_phrase": HOSTILE, "ss_sd_model_name": "somebase"}
    return write.write_lora(file, Lora(tuple(layers), "sd1", said), "kohya")


def choose(page: Page, field: str, name: str) -> None:
    page.click(f"#{field} input")
    page.locator(f"#{field}").get_by_role("option", name=name, exact=True).click()  # a list before may still be closing


def test_the_whole_way(app: App, open_page: Open, tiny_base: Path, tmp_path: Path) -> None:
    page = open_page()
    expect(page.locator("#library-shelf")).to_contain_text("No LoRA yet")
    one, two = (
        lora_file(tiny_base, tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate(("one", "two"), 1)
    )
    before = one.read_bytes()
    save_file({"x": torch.zeros(2)}, tmp_path / "holiday.safetensors")
    with page.expect_file_chooser() as chooser:
        page.click("#library-add")
    chooser.value.set_files([one, two, tmp_path / "holiday.safetensors"])
    rows = page.locator(ROWS)
    expect(rows).to_have_count(2)
    expect(page.locator(".toast-body")).to_contain_text("holiday.safetensors holds 1 tensors")  # the others went in
    expect(rows.first).to_contain_text("rank 4")
    assert page.locator("#library-shelf b, #library-shelf img[src=x]").count() == 0
    assert page.title() == "sdlora"

    name = rows.filter(has=page.locator("input[value=one]")).locator("input")
    name.fill("my style")
    name.press("Enter")
    expect(page.locator("#library-shelf input[value=my-style]")).to_have_count(1)
    page.locator("#library-shelf input[value=two]").fill("my-style")
    page.locator("#library-shelf input[value=two]").press("Enter")
    expect(page.locator(".toast-body").last).to_contain_text("Another LoRA is called")
    expect(rows.locator("input").first).to_have_value("two")
    page.fill("#library-search input, #library-search textarea", "somebase my")
    expect(rows).to_have_count(1)

    with page.expect_download() as download:
        page.get_by_label("Download my-style").click()
    assert (download.value.suggested_filename, download.value.path().read_bytes()) == ("my-style.safetensors", before)
    with page.expect_download() as download:
        page.get_by_label("Zip of my-style").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert archive.read("my-style/my-style.safetensors") == before
        assert json.loads(archive.read("my-style/my-style.json"))["activation text"] == HOSTILE
    page.fill("#library-search input, #library-search textarea", "nothing like it")
    expect(page.locator("#library-shelf")).to_contain_text("Nothing matches")
    page.fill("#library-search input, #library-search textarea", "")
    expect(rows).to_have_count(2)

    page.get_by_label("Delete two").click()
    expect(rows).to_have_count(1)
    page.locator("#library-deleted [role=status]").get_by_label("Put two back").click()
    expect(rows).to_have_count(2)

    page.fill("#library-guidance input", "3.5")
    page.get_by_label("Compare my-style").click()
    expect(page.locator("#library-guidance input")).to_have_value(f"{Config().sample.guidance:g}")  # this base's
    page.get_by_label("Compare two").click()
    expect(page.locator("#library-second input")).to_have_value("two")
    expect(page.locator("#library-prompt textarea")).to_have_value(HOSTILE)
    choose(page, "library-base", "tiny")
    page.fill("#library-steps input", "2")
    page.click("#library-draw")
    pair = page.locator("#library-pair .pair img")
    expect(pair).to_have_count(2, timeout=120_000)
    expect(page.locator("#library-pair figcaption").first).to_have_text("my-style, strength 1")
    sources = [pair.nth(n).get_attribute("src") for n in range(2)]
    pictures = [page.request.get(f"{app.url}{source}").body() for source in sources]
    assert pictures[0][:4] == b"\x89PNG"
    assert pictures[0] != pictures[1]
    # After all of it, the process that serves the page has not loaded torch.
    assert "libtorch" not in Path(f"/proc/{app.process.pid}/maps").read_text()


def test_made_of_others_on_the_page(app: App, open_page: Open) -> None:
    page = open_page("/ja/")
    rows = page.locator(ROWS)
    expect(rows).to_have_count(2)
    page.locator("#library-merge").get_by_role("button").first.click()
    page.click("#merge-start")
    expect(page.locator(".toast-body")).to_contain_text("マージする LoRA を選んでください")
    choose(page, "merge-lora-1", "my-style")
    choose(page, "merge-lora-2", "two")
    page.fill("#merge-strength-2 input", "0.5")
    page.fill("#merge-name input, #merge-name textarea", "両方")
    page.click("#merge-start")
    expect(page.locator("#library-working .working")).to_contain_text("両方")
    expect(rows).to_have_count(3, timeout=60_000)
    expect(rows.first).to_contain_text("ここでマージ")
    expect(page.locator("#library-working .working")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_label("両方 をダウンロード").click()
    assert inspect_file(download.value.path()).rank == 8

    page.locator("#library-resize").get_by_role("button").first.click()
    choose(page, "resize-lora", "両方")
    page.fill("#resize-value input", "64")
    page.click("#resize-start")
    expect(page.locator("#library-working .problem")).to_contain_text("元のランクは 8 です", timeout=60_000)
    page.locator("#library-working .problem button").click()
    expect(page.locator("#library-working .problem")).to_have_count(0)
    assert "libtorch" not in Path(f"/proc/{app.process.pid}/maps").read_text()


def test_ids_are_looked_up_and_never_paths(app: App, open_page: Open) -> None:
    """Whatever a browser calls an entry: it is one, or nothing happens."""
    page = open_page()
    expect(page.locator(ROWS)).to_have_count(3)
    outside = app.workspace.parent / "outside"
    outside.mkdir()
    (outside / "entry.json").write_text('{"name": "x"}')
    for id in ("../../outside", "file-../../../outside", "/etc", ""):
        page.evaluate("id => { document.querySelector('#library-shelf [data-do=delete]').dataset.id = id }", id)
        page.locator("#library-shelf [data-do=delete]").first.click()
        expect(page.locator(".toast-body").last).to_be_visible()
        page.wait_for_timeout(300)
    assert (outside / "entry.json").is_file()
    page.reload()
    expect(page.locator(ROWS)).to_have_count(3)
