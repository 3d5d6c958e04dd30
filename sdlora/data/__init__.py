"""Data sets: strange files in, pictures with captions out. Pillow and the standard library only."""

from sdlora.data.captions import add_prefix, add_suffix, replace, with_trigger
from sdlora.data.checks.doctor import Finding, check
from sdlora.data.dataset import Dataset, Item, SkippedFile
from sdlora.data.dataset_cache import DatasetCache
from sdlora.data.images import fit
from sdlora.data.importing import import_pictures
from sdlora.data.sources import Upload
from sdlora.data.store import (
    clear_leftovers,
    copy_dataset,
    delete_dataset,
    list_datasets,
    open_dataset,
    verify,
    with_captions,
    without_items,
)

__all__ = [
    "Dataset",
    "DatasetCache",
    "Finding",
    "Item",
    "SkippedFile",
    "Upload",
    "add_prefix",
    "add_suffix",
    "check",
    "clear_leftovers",
    "copy_dataset",
    "delete_dataset",
    "fit",
    "import_pictures",
    "list_datasets",
    "open_dataset",
    "replace",
    "verify",
    "with_captions",
    "with_trigger",
    "without_items",
]
