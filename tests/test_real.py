"""The whole way in a real browser, on published pictures that the bundled base has not seen."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, Page, expect

from sdlora import config
from sdlora.models.bases import BUNDLED
from tests.browser import ROOT, App, started_app

ARTEFACTS = Path(os.environ.get("SDLORA_TEST_ARTEFACTS", ROOT / "test-artefacts"))
PROMPT = "red apple, fxemoji style"
STEPS = 30

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of 24 FxEmoji pictures (Apache 2.0, by Mozilla), each with a caption beside it."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed, so the published pictures cannot be fetched")
    from base.fetch import default_work
    from base.holdout import evenly, fx_icons
    from base.render import draw, on_white

    try:
        icons = fx_icons(default_work())
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"npm did not answer: {error}")
    target = tmp_path_factory.mktemp("emoji") / "fxemoji.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for name in [list(icons)[k] for k in evenly(len(icons), 24)]:
            picture = io.BytesIO()
            Image.fromarray(on_white(draw(icons[name], 128))).save(picture, "PNG")
            archive.writestr(f"{name}.png", picture.getvalue())
            archive.writestr(f"{name}.txt", f"{name.replace('-', ' ')}, fxemoji style")
    return target


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with started_app(tmp_path_factory.mktemp("workspace")) as made:
        yield made


def picture(page: Page, selector: str) -> Image.Image:
    """What an <img> of the page shows, fetched as the page fetched it."""
    address = page.locator(selector).first.get_attribute("src")
    assert address
    response = page.request.get(page.evaluate("path => new URL(path, location.href).href", address))
    assert response.ok
    return Image.open(io.BytesIO(response.body())).convert("RGB")


def difference(a: Image.Image, b: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3


def test_pictures_in_a_style_out(app: App, browser: Browser, emoji: Path, tmp_path: Path) -> None:
    page = opened(app, browser)

    # 1 Pictures
    page.locator("#upload input[type=file]").set_input_files(emoji)
    expect(page.locator("#dataset-gallery img")).to_have_count(24, timeout=300_000)
    expect(page.locator("#dataset-gallery")).to_contain_text("fxemoji style")
    shot(page, "1-pictures")

    # 2 Settings
    for field, value in (("rank", 8), ("alpha", 8), ("unet-lr", 0.002), ("steps", STEPS)):
        page.fill(f"#{field} input", str(value))
    shot(page, "2-settings")

    # 3 Train; the page is closed and opened again
    page.click("#train-start")
    expect(page.locator("#loss-chart svg")).to_be_visible(timeout=600_000)
    page.close()
    page = opened(app, browser)
    expect(page.locator("#progress")).to_contain_text("Done", timeout=1_800_000)
    expect(page.locator("#samples img").first).to_be_visible()
    expect(page.locator("#library-shelf li")).to_have_count(1, timeout=60_000)  # it appears there by itself
    shot(page, "3-train")

    # 4 Try it
    page.fill("#preview-prompt textarea", PROMPT)
    page.fill("#preview-seed input", "7")
    shown, base = {}, None
    for strength in (0.0, 0.5, 1.0):
        page.fill("#strength input[type=number]", str(strength))
        page.click("#preview-draw")
        expect(page.locator("#preview-image .lora figcaption")).to_have_text(
            f"With your LoRA, strength {strength:g}", timeout=600_000
        )
        expect(page.locator("#preview-image .lora img")).to_be_visible(timeout=600_000)
        shown[strength] = picture(page, "#preview-image .lora img")
        base = picture(page, "#preview-image .base img")
        shot(page, f"4-try-{strength}")
    assert base is not None
    assert difference(shown[0.0], base) == 0
    assert 0 < difference(shown[0.5], base) < difference(shown[1.0], base)

    # Download, and load it with plain diffusers
    with page.expect_download() as download:
        page.click("#download")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert difference(by_diffusers(file), shown[1.0]) < 2


def opened(app: App, browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page.set_default_timeout(120_000)
    page.goto(app.url)
    page.wait_for_selector("#upload input[type=file]", state="attached")  # the page knows what it worked on
    return page


def by_diffusers(file: Path) -> Image.Image:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(BUNDLED, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="downloaded")
    generator = torch.Generator().manual_seed(7)
    wanted = config.resolve(base="emoji").sample  # what the page begins with
    drawing = {"num_inference_steps": wanted.steps, "guidance_scale": wanted.guidance}
    return pipe(PROMPT, generator=generator, **drawing).images[0]


def shot(page: Page, name: str) -> None:
    """A picture of the whole page, with what it would load only when scrolled to."""
    ARTEFACTS.mkdir(exist_ok=True, parents=True)
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
