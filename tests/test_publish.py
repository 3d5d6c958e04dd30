"""What a finished job gives away: the file's metadata, what lies beside it, and the zip."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.core.safetensors_io import writer
from sdlora.data import import_pictures
from sdlora.jobs import store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.library import publish
from sdlora.lora_files import write
from sdlora.lora_files.layers import Layer, Lora
from sdlora.lora_files.metadata import minimal
from tests.conftest import draw_pictures
from tests.fork_server import COMPUTE, ForkServers

VALUES = {
    "train.steps": 4,
    "train.unet_lr": 1e-2,
    "train.precision": "fp32",
    "train.seed": 3,
    "lora.rank": 2,
    "lora.alpha": 1.0,
    "sample.steps": 1,
    "data.trigger": "zz disc",
}


@pytest.fixture(scope="module")
def job(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServers) -> JobPaths:
    """A job that a real worker has finished."""
    root = tmp_path_factory.mktemp("publish")
    place = Workspace(root / "workspace").make()
    dataset = import_pictures([draw_pictures(root / "pictures", 9)], place.datasets)
    spec = store.create(place, dataset, config.from_values({**VALUES, "model.base": str(tiny_base)}), name="disc")
    paths = place.job(spec.id)
    done = subprocess.run(
        [fork_server.need(COMPUTE), "-m", "sdlora.processes.worker", str(paths.folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return paths


def header(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def test_the_file_says_what_other_programs_look_for(job: JobPaths) -> None:
    outcome, spec = Outcome.read(job), JobSpec.read(job)
    assert outcome is not None
    file = job.folder / outcome.file
    found = header(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == outcome.sha256
    data = hashlib.sha256(writer.data_section(file.read_bytes())).hexdigest()
    assert (found["sshs_model_hash"], found["modelspec.hash_sha256"]) == (data, f"0x{data}")
    expected = {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "2",
        "ss_network_alpha": "1.0",
        "ss_network_args": "{}",
        "ss_output_name": spec.name,
        "ss_num_train_images": "9",
        "ss_seed": "3",
        "ss_training_started_at": str(float(int(spec.created))),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": "zz disc",
        "sdlora.recommended_strength": f"{outcome.recommended_strength:g}",
    }
    assert expected.items() <= found.items()
    # Two levels, and dicts: what crashes A1111's dialog otherwise.
    assert json.loads(found["ss_tag_frequency"])[spec.name]["zz disc"] == 9
    assert json.loads(found["ss_dataset_dirs"]) == {spec.name: {"n_repeats": 1, "img_count": 9}}
    buckets = json.loads(found["ss_bucket_info"])["buckets"]
    assert sum(b["count"] for b in buckets.values()) == 8  # one is held out
    assert all(len(b["resolution"]) == 2 for b in buckets.values())
    assert not [v for v in found.values() if str(job.folder.parent.parent) in v]
    kind, picture = found["modelspec.thumbnail"].split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(picture))) as thumbnail:
        assert max(thumbnail.size) <= 96
    assert len(found["modelspec.thumbnail"]) < 10_000
    assert set(minimal(found)) >= {"ss_v2", "ss_base_model_version", "ss_network_dim"}
    assert not [k for k in minimal(found) if "tag" in k or "dirs" in k or k.startswith("sdlora")]


@pytest.mark.parametrize(
    "rank", [2, 600]
)  # a file of 20 KB, and one beyond the megabyte at which the oldest hash begins
def test_the_hashes_are_what_safetensors_own_writer_gives(tmp_path: Path, rank: int) -> None:
    g = torch.Generator().manual_seed(rank)
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    layer = Layer("unet", path, torch.randn(rank, 512, generator=g), torch.randn(512, rank, generator=g), 1.0)
    said = {"ss_output_name": "水彩", "modelspec.title": "x", "ss_tag_frequency": '{"a": {"\\"b\\"": 1}}'}
    file = write.write_lora(tmp_path / "x.safetensors", Lora((layer,), "sd1", said), "kohya")
    found = header(file)
    trained = {k: v for k, v in found.items() if k.startswith("ss_")}
    alone = safetensors.torch.save(safetensors.torch.load_file(file), trained)
    assert found["sshs_legacy_hash"] == hashlib.sha256(alone[0x100000:0x110000]).hexdigest()[:8]
    data = hashlib.sha256(alone[8 + int.from_bytes(alone[:8], "little") :]).hexdigest()
    assert (found["sshs_model_hash"], found["modelspec.hash_sha256"]) == (data, f"0x{data}")


def test_the_outcome_carries_the_certificate(job: JobPaths, tmp_path: Path) -> None:
    outcome = Outcome.read(job)
    assert outcome is not None
    assert outcome.certificate.en.startswith("Checked: loads in diffusers, kohya names complete")
    assert outcome.certificate.ja
    old = json.loads(job.outcome.read_text())
    del old["certificate_en"], old["certificate_ja"]
    other = JobPaths(tmp_path)
    other.outcome.write_text(json.dumps(old))
    written = Outcome.read(other)
    assert written is not None
    assert written.certificate.en == ""
    outcome.write(other)
    assert json.loads(other.outcome.read_text()) == json.loads(job.outcome.read_text()), "the file is as it was"


def test_what_lies_beside_the_file(job: JobPaths, tmp_path: Path) -> None:
    written = publish.export_file(job, tmp_path / "out" / "disc.safetensors")
    assert [p.name for p in written] == ["disc.safetensors", "disc.json", "disc.png"]
    beside = json.loads(written[1].read_text())
    outcome = Outcome.read(job)
    assert outcome is not None
    assert (beside["activation text"], beside["sd version"]) == ("zz disc", "SD1")
    assert beside["preferred weight"] == pytest.approx(outcome.recommended_strength)
    assert {"description", "negative text", "notes"} <= set(beside)
    with Image.open(written[2]) as picture:
        assert picture.format == "PNG"


def test_the_zip_has_everything_and_is_always_the_same(job: JobPaths, tmp_path: Path) -> None:
    first, second = publish.export_zip(job, tmp_path / "a.zip"), publish.export_zip(job, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        for name in ("disc.safetensors", "disc.json", "disc.png", "README.md", "settings.json", "captions/disc0.txt"):
            assert f"disc/{name}" in names
        assert len([n for n in names if n.startswith("disc/previews/")]) >= 3
        assert len([n for n in names if n.startswith("disc/captions/")]) == 9
        card = archive.read("disc/README.md").decode()
        assert archive.read("disc/captions/disc0.txt").decode().startswith("zz disc, ")
        outcome = Outcome.read(job)
        assert outcome is not None
        assert hashlib.sha256(archive.read("disc/disc.safetensors")).hexdigest() == outcome.sha256
    assert 'instance_prompt: "zz disc"' in card
    assert "load_lora_weights" in card
    assert str(job.folder.parent.parent) not in card


def test_a_job_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no file yet"):
        publish.export_zip(JobPaths(tmp_path), tmp_path / "x.zip")
