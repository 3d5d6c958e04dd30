"""The page in a real browser: both languages, pictures, captions, settings, refusals. Nothing leaves the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import App
from tests.web.conftest import HOSTILE

IDS = (
    "upload", "dataset-gallery", "preset", "rank", "alpha", "unet-lr", "train-start", "train-stop", "progress", "loss-chart",
    "samples", "preview-prompt", "strength", "preview-image", "download", "language",
)  # fmt: skip
Open = Callable[..., Page]


def test_who_has_no_pictures_gets_the_examples(open_page: Open) -> None:
    """Stands first in this file: the others leave pictures behind."""
    page = open_page()
    page.click("#dataset-gallery [data-do=take_example]")
    expect(page.locator("#dataset-gallery img")).to_have_count(24)
    expect(page.locator("#dataset-gallery textarea").first).to_have_value("anchor, blueprint style")
    expect(page.locator("#dataset-gallery .dataset-head")).to_contain_text("blueprint example")
    page.click("#language")
    expect(page.locator("#dataset-gallery .dataset-head")).to_contain_text("設計図のサンプル")


@pytest.mark.parametrize(("path", "heading"), [("/en/", "Pictures"), ("/ja/", "画像")])
def test_both_languages_have_every_fixed_id(open_page: Open, path: str, heading: str) -> None:
    page = open_page(path)
    for id in IDS:
        assert page.locator(f"#{id}").count() == 1, id
    expect(page.locator("#pictures h2")).to_contain_text(heading)
    assert page.locator("html").get_attribute("lang") == path.strip("/")


def test_the_browsers_language_is_spoken_until_another_is_chosen(open_page: Open) -> None:
    page = open_page("/", locale="ja-JP")
    assert page.url.endswith("/ja/")
    page.click("#language")
    page.wait_for_url("**/en/")
    page.goto(page.url.removesuffix("en/"))
    page.wait_for_url("**/en/")


def test_no_request_leaves_the_machine(app: App, open_page: Open, zip_file: Path) -> None:
    page = open_page("/en/")
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.reload()
    upload(page, zip_file)
    page.fill("#rank input", "8")
    page.wait_for_timeout(1500)
    own = urlsplit(app.url).netloc
    assert {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {own}


def test_a_zip_becomes_a_gallery(open_page: Open, zip_file: Path) -> None:
    page = open_page()
    upload(page, zip_file)
    expect(page.locator("#dataset-gallery img")).to_have_count(10)
    expect(page.locator("#pictures")).to_contain_text("broken.png")  # left out, by name
    loaded = "() => [...document.querySelectorAll('#dataset-gallery img')].slice(0, 3).every(i => i.naturalWidth > 0)"
    page.wait_for_function(loaded)


def test_captions_are_text_whatever_they_say(open_page: Open, zip_file: Path) -> None:
    page = open_page()
    upload(page, zip_file)
    assert page.locator("#dataset-gallery textarea").nth(3).input_value() == HOSTILE
    assert page.locator("#dataset-gallery b").count() == 0
    assert page.title() == "sdlora"


def test_loose_pictures_find_their_caption_files(open_page: Open, pictures: Path) -> None:
    page = open_page()
    page.set_input_files(
        "#upload input[type=file]", [pictures / f"disc{k}.{end}" for k in (1, 2) for end in ("png", "txt")]
    )
    expect(page.locator("#dataset-gallery textarea")).to_have_count(2)
    assert page.locator("#dataset-gallery textarea").first.input_value() == "green disc 1"


def test_names_that_the_upload_changes_keep_their_captions(open_page: Open, pictures: Path, tmp_path: Path) -> None:
    """gradio#11983: `what?.png` arrives as `what.png`, which is another picture's name here."""
    files = []
    for number, (name, caption) in enumerate((("what", "a fish"), ("what?", "a bird"), ("wow!", "a cat"))):
        (tmp_path / f"{name}.png").write_bytes((pictures / f"disc{number}.png").read_bytes())
        (tmp_path / f"{name}.txt").write_text(caption)
        files += [tmp_path / f"{name}.png", tmp_path / f"{name}.txt"]
    page = open_page()
    page.set_input_files("#upload input[type=file]", files)
    cards = page.locator("#dataset-gallery textarea")
    expect(cards).to_have_count(3)
    assert [cards.nth(k).input_value() for k in range(3)] == ["a fish", "a bird", "a cat"]


def test_captions_change_and_change_back(open_page: Open, zip_file: Path) -> None:
    page = open_page()
    upload(page, zip_file)
    first = page.locator("#dataset-gallery textarea").first
    first.fill("one red disc")
    page.get_by_text(
        "Edit all captions"
    ).click()  # leaves the field: the edit and the next one are on their way together
    page.fill("#caption-text textarea, #caption-text input", "style:")
    page.click("#caption-prefix")
    expect(first).to_have_value("style: one red disc")
    expect(page.locator("#dataset-gallery textarea").nth(1)).to_have_value("style: green disc 1")
    page.click("#caption-undo")
    expect(first).to_have_value("one red disc")
    page.locator("#dataset-gallery button[data-do=remove]").first.click()
    expect(page.locator("#dataset-gallery img")).to_have_count(9)
    page.click("#caption-undo")
    expect(page.locator("#dataset-gallery img")).to_have_count(10)
    expect(first).to_have_value("one red disc")
    page.reload()
    expect(first).to_have_value("one red disc")  # found again


def test_a_button_that_moves_under_the_mouse_is_clicked_all_the_same(open_page: Open) -> None:
    page = open_page()
    header = page.get_by_text("Edit all captions")
    header.scroll_into_view_if_needed()
    box = header.bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate("() => document.querySelector('#dataset-gallery').style.marginBottom = '300px'")
    page.mouse.up()
    expect(page.locator("#caption-text")).to_be_visible()


def test_a_preset_fills_the_form(open_page: Open) -> None:
    page = open_page()
    before = page.input_value("#rank input"), page.input_value("#steps input")
    page.locator("#preset").get_by_text("Quick look").click()
    expect(page.locator("#rank input")).to_have_value("8")
    assert (page.input_value("#rank input"), page.input_value("#steps input")) != before


def test_the_live_line_counts(open_page: Open) -> None:
    page = open_page()
    page.click("#base input")
    page.get_by_role("option", name="tiny").click()
    line = page.locator("#comparison")
    expect(line).to_contain_text("parameters train")
    page.fill("#rank input", "4")
    page.fill("#alpha input", "2")
    expect(line).to_contain_text("alpha / rank = 0.5")


def test_another_base_keeps_what_was_typed(open_page: Open) -> None:
    page = open_page()
    page.fill("#rank input", "5")
    page.click("#base input")
    page.get_by_role("option", name="tiny").click()
    expect(page.locator("#steps input")).to_have_value("1500")  # the preset's for any other base
    expect(page.locator("#rank input")).to_have_value("5")
    page.locator("#preset").get_by_text("Quick look").click()
    expect(page.locator("#rank input")).to_have_value("8")  # a goal is a new start
    expect(page.locator("#base input")).to_have_value("tiny")


def test_a_bad_number_is_refused_with_a_sentence(open_page: Open) -> None:
    page = open_page()
    for field, value, said in (
        ("#rank", "3.7", "Rank"),
        ("#rank", "0", "1 to 1024"),
        ("#alpha", "0", "above 0, 4096 at most"),
        ("#unet-lr", "-1", "Learning rate"),
    ):
        page.fill(f"{field} input", value)
        expect(page.locator("#comparison .problem")).to_contain_text(said)
        expect(page.locator(f"{field} input")).to_have_css("border-color", "rgb(165, 50, 42)")
        page.fill(f"{field} input", "1")
        expect(page.locator("#comparison .comparison")).to_be_visible()
        expect(page.locator(f"{field} input")).not_to_have_css("border-color", "rgb(165, 50, 42)")


def test_a_path_on_the_server_is_no_base(open_page: Open, tiny_base: Path) -> None:
    page = open_page()
    page.fill("#base input", str(tiny_base))
    page.press("#base input", "Enter")
    expect(page.locator("#comparison .problem")).to_contain_text("not offered")


def test_settings_survive_the_change_of_language(open_page: Open, zip_file: Path) -> None:
    page = open_page()
    upload(page, zip_file)
    page.fill("#rank input", "5")
    scale = float(page.input_value("#alpha input")) / 5
    expect(page.locator("#comparison")).to_contain_text(
        f"alpha / rank = {scale:g}"
    )  # comes with what the browser keeps
    page.click("#language")
    page.wait_for_url("**/ja/")
    expect(page.locator("#rank input")).to_have_value("5")
    expect(page.locator("#dataset-gallery img")).to_have_count(10)


def test_without_pictures_the_buttons_say_why(open_page: Open, app: App) -> None:
    page = open_page()
    expect(page.locator("#train-stop")).to_be_disabled()
    page.locator("a#download").click(force=True)
    assert page.url == f"{app.url}/en/"


@pytest.mark.parametrize("path", ["/en/", "/ja/"])
def test_nothing_sticks_out(open_page: Open, path: str) -> None:
    page = open_page(path, viewport={"width": 390, "height": 800})
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        bars = "Math.max(...[...document.querySelectorAll('.versus *')].map((e) => e.getBoundingClientRect().right))"
        assert page.evaluate(bars) <= width


def test_a_strength_out_of_range_is_put_right_without_a_foreign_word(open_page: Open) -> None:
    page = open_page("/ja/")
    for typed, kept in (("3", "2"), ("-5", "-1"), ("-0.5", "-0.5")):
        page.fill("#strength input[type=number]", typed)
        page.locator("#strength input[type=number]").blur()
        expect(page.locator("#strength input[type=number]")).to_have_value(kept)
    page.wait_for_timeout(1000)
    assert "Value" not in " ".join(page.locator(".toast-body").all_text_contents())


def test_a_removed_picture_comes_back_at_a_click(open_page: Open, zip_file: Path) -> None:
    page = open_page("/ja/")
    upload(page, zip_file)
    page.locator("#dataset-gallery button[data-do=remove]").nth(2).click()
    expect(page.locator("#dataset-gallery [role=status]")).to_contain_text("「disc2.png」を外しました。")
    expect(page.locator("#dataset-gallery img")).to_have_count(9)
    page.click("#dataset-gallery [data-do=undo_last]")
    expect(page.locator("#dataset-gallery img")).to_have_count(10)
    expect(page.locator("#dataset-gallery [role=status]")).to_have_count(0)


def upload(page: Page, file: Path) -> None:
    page.set_input_files("#upload input[type=file]", file)
    expect(page.locator("#dataset-gallery .dataset-head")).to_contain_text("discs")
    expect(page.locator("#dataset-gallery textarea").nth(3)).to_have_value(HOSTILE)
