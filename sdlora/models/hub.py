"""Bases on the hub: what of them is in its cache, and their download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdlora.core.errors import BaseUnusable
from sdlora.core.text import Text
from sdlora.families import parts
from sdlora.families.spec import is_text_encoder, tokenizer_of
from sdlora.models.folder import missing_files


@dataclass(frozen=True)
class BaseRef:
    """A base model that was asked for. `source` is what a worker loads: a folder, a file, or a hub id that is not here yet, or not whole."""

    name: str
    source: str
    path: Path | None  # a folder in diffusers layout, or one .safetensors file; None = not on this machine

    @property
    def label(self) -> str:
        """What sentences call it: the hub id, or the last part of the path."""
        return Path(self.source).name if Path(self.source).is_absolute() else self.name


def hub_snapshot(hub_id: str) -> Path | None:
    """The newest snapshot in the hub's cache, whole or not; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError, ValueError):
        return None


def local_path(ref: BaseRef) -> Path:
    """Where the base lies; a hub id that is not here yet is downloaded first. Raises BaseUnusable where that fails."""
    return ref.path or _download(ref)


def _hub_files() -> list[str]:
    """What a base consists of on the hub; everything else there (pickles, single-file copies) is never fetched."""
    weights = [f"{part}/*.safetensors" for part in (*parts(), "vae")]
    return ["*.json", "*.txt", *weights, *(f"{tokenizer_of(part)}/*" for part in parts() if is_text_encoder(part))]


def _download(ref: BaseRef) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        folder = Path(snapshot_download(ref.source, allow_patterns=_hub_files()))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        cached = hub_snapshot(ref.source)
        if cached and (missing := missing_files(cached, ref.name)):
            raise _in_part(ref.name, missing) from error
        raise BaseUnusable(
            Text(
                f"The base {ref.name} is not on this machine and could not be downloaded. Check the name and the network, or give a folder.",
                f"基礎モデル {ref.name} はこのマシンになく、ダウンロードもできませんでした。名前とネットワークを確認するか、フォルダーを指定してください。",
            )
        ) from error
    if missing := missing_files(folder, ref.name):  # without a network, the hub's client is content with a part
        raise _in_part(ref.name, missing)
    return folder


def _in_part(name: str, missing: list[str]) -> BaseUnusable:
    files = ", ".join(missing)
    return BaseUnusable(
        Text(
            f"The base {name} is on this machine only in part ({files} missing), and the rest could not be downloaded. Check the network, or give a folder.",
            f"基礎モデル {name} は一部しかなく({files} がありません)、残りをダウンロードできませんでした。ネットワークを確認するか、フォルダーを指定してください。",
        )
    )
