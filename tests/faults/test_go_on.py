"""A finished run can be trained longer, as a new job that knows where it came from."""

from __future__ import annotations

import pytest

from sdlora.core.errors import BadInput
from sdlora.jobs import store
from sdlora.jobs.paths import Workspace
from sdlora.jobs.spec import JobSpec
from tests.faults.conftest import MakeJob, Workers
from tests.jobs import outcome_of, told, weights_of

pytestmark = pytest.mark.faults


def test_more_steps_from_where_it_ended(workers: Workers, job: MakeJob, place: Workspace) -> None:
    constant = {"train.schedule": "constant", "train.save_every": 5}
    short, whole = job(**constant, **{"train.steps": 10}), job(**constant)
    with pytest.raises(BadInput):
        store.extend(place, short.id, 5)
    workers.run(short)
    before = weights_of(short)
    longer = place.job(store.extend(place, short.id, 5).id)
    assert JobSpec.read(longer).parent == short.id
    assert JobSpec.read(longer).name != JobSpec.read(short).name
    workers.run(longer)
    assert told(longer).started is not None
    assert told(longer).started.step == 10  # type: ignore[union-attr]
    assert outcome_of(longer).step == 15
    assert weights_of(short) == before, "the old one stays"
    workers.run(whole)
    last = "step-000015.safetensors"
    from sdlora.core.safetensors_io.writer import data_section

    assert data_section((longer.checkpoints / last).read_bytes()) == data_section(
        (whole.checkpoints / last).read_bytes()
    )
