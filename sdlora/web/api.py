"""HTTP for scripts, under `/api/`: import pictures, start a job, follow its events, fetch the file. The checks are the page's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from sdlora import config, data
from sdlora.core.errors import BadInput, DiskFull, SdloraError
from sdlora.core.events import Follower
from sdlora.core.files import read_lines
from sdlora.core.text import Text
from sdlora.data import Dataset
from sdlora.jobs import ownership, runner, store
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.ownership import User
from sdlora.jobs.paths import JobPaths, Workspace, checked_id
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.library import catalog
from sdlora.web.context import USER_HEADER, user_of
from sdlora.web.form import coerce
from sdlora.web.screens.settings import checked_base
from sdlora.web.security import uploads
from sdlora.web.security.user_file import UserFile, workspace_token

STREAMS = 64  # followers of events at once
POLL_SECONDS = 0.5
ENDED = ("done", "stopped", "failed", "paused")


class NewJob(BaseModel):
    """What a job is asked to do. Settings that are not named are the preset's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dataset: str = Field(description="Id of a data set.")
    preset: str = Field("style", description="Which settings to start from.")
    settings: dict[str, Any] = Field({}, description="`section.name`: value, as `GET /api/settings` lists them.")
    name: str = Field("", max_length=200, description="Name of the file.")


def current_user(request: Request) -> User:
    """The user of the token, which the guard has checked."""
    return user_of(request.headers.get(USER_HEADER, ""))


CurrentUser = Annotated[User, Depends(current_user)]


def add_api(app: FastAPI, workspace: Workspace, launcher: Launcher) -> None:
    """All routes, and refusals as JSON: `{"error": {"en", "ja"}}`."""
    router = APIRouter(prefix="/api")
    _describe(router)
    _datasets(router, workspace)
    _jobs(router, workspace, launcher)
    _follow(router, workspace)
    app.include_router(router)

    @app.exception_handler(SdloraError)
    def refuse(request: Request, error: SdloraError) -> JSONResponse:
        body = {"error": {"en": error.text.en, "ja": error.text.ja}}
        return JSONResponse(body, 507 if isinstance(error, DiskFull) else 400)


def _describe(router: APIRouter) -> None:
    @router.get("/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> Any:
        from fastapi.openapi.utils import get_openapi

        found = get_openapi(title="sdlora", version="1", routes=router.routes)
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return {**found, "security": [{"token": []}]}

    @router.get("/settings")
    def settings() -> Any:
        """Every setting with its default and range."""
        names = ("path", "kind", "default", "minimum", "maximum", "choices")
        return {"settings": [{name: getattr(s, name) for name in names} for s in config.settings()]}


def _datasets(router: APIRouter, workspace: Workspace) -> None:
    @router.post("/datasets", status_code=201)
    async def add_dataset(request: Request, user: CurrentUser, name: str = "") -> Any:
        """Import a zip of pictures and captions: the body is the zip itself. What was left out is named."""
        folder = workspace.root / uploads.FOLDER / secrets.token_hex(16)
        folder.mkdir()
        try:
            file = folder / "upload.zip"
            with open(file, "wb") as target:
                async for chunk in request.stream():
                    await run_in_threadpool(target.write, chunk)
            found = await run_in_threadpool(data.import_pictures, [file], workspace.datasets, name[:200] or "upload")
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
                folder.rmdir()
        ownership.claim(workspace, user, found.id)
        return _as_json(found)

    @router.get("/datasets")
    def list_datasets(user: CurrentUser) -> Any:
        """Newest first."""
        found = data.list_datasets(workspace.datasets)
        own = [dataset for dataset in found if ownership.has_claimed(workspace, user, dataset.id)]
        return {"datasets": [{"id": d.id, "name": d.name, "pictures": len(d.items)} for d in own]}

    @router.get("/datasets/{id}")
    def dataset(id: str, user: CurrentUser) -> Any:
        """One data set with its captions."""
        return _as_json(own_dataset(workspace, user, id))


def _jobs(router: APIRouter, workspace: Workspace, launcher: Launcher) -> None:
    @router.post("/jobs", status_code=201)
    def add_job(request: NewJob, user: CurrentUser) -> Any:
        """Start a job, or put it into the queue. The same request within 5 seconds is the same job."""
        by_path = {s.path: s for s in config.settings()}
        changes = {path: coerce(by_path[path], v) if path in by_path else v for path, v in request.settings.items()}
        settings = config.resolve(request.preset, None, changes.items())
        checked_base(settings.model.base)
        dataset = own_dataset(workspace, user, request.dataset)
        file = catalog.resolve_start_from(workspace, settings, user)
        spec = store.create(workspace, dataset, settings, request.name, request.preset, user.name, file)
        runner.start_next(workspace, launcher)
        return _status(workspace, spec)

    @router.get("/jobs")
    def list_jobs(user: CurrentUser) -> Any:
        """Newest first."""
        own = [job.spec for job in runner.jobs(workspace) if ownership.may_see(user, job.spec.owner)]
        return {"jobs": [_status(workspace, spec) for spec in own]}

    @router.get("/jobs/{id}")
    def job(id: str, user: CurrentUser) -> Any:
        """How far it is and what came of it."""
        return _status(workspace, own_job(workspace, user, id))

    @router.post("/jobs/{id}/stop")
    def stop_job(id: str, user: CurrentUser) -> Any:
        """Finish the step, save, leave."""
        return _changed(workspace, own_job(workspace, user, id), runner.stop, launcher)

    @router.post("/jobs/{id}/resume")
    def resume_job(id: str, user: CurrentUser) -> Any:
        """Go on from the last saved state."""
        return _changed(workspace, own_job(workspace, user, id), runner.resume, launcher)


def _follow(router: APIRouter, workspace: Workspace) -> None:
    free = asyncio.Semaphore(STREAMS)

    @router.get("/jobs/{id}/events", response_class=StreamingResponse)
    async def events(id: str, user: CurrentUser, last_event_id: Annotated[str, Header()] = "0") -> Any:
        """Server-sent events: the lines of the job's `events.jsonl`, then `outcome`. `Last-Event-ID` goes on where one was cut."""
        spec = own_job(workspace, user, id)
        if free.locked():
            raise HTTPException(503, "Too many followers. Try again later.")
        start = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else 0
        return StreamingResponse(_lines(workspace.job(spec.id), start, free), media_type="text/event-stream")

    @router.get("/jobs/{id}/file", response_class=FileResponse)
    def file(id: str, user: CurrentUser) -> Any:
        """The chosen checkpoint."""
        spec = own_job(workspace, user, id)
        paths = workspace.job(spec.id)
        outcome = Outcome.read(paths)
        if outcome is None or not outcome.file or not (paths.folder / outcome.file).is_file():
            raise BadInput(Text("The job has made no file yet.", "このジョブのファイルはまだありません。"))
        return FileResponse(paths.folder / outcome.file, filename=f"{spec.name}.safetensors")


async def _lines(paths: JobPaths, offset: int, free: asyncio.Semaphore) -> AsyncIterator[str]:
    async with free:
        while True:
            status = await run_in_threadpool(runner.status, paths)  # before reading: what it wrote last is read too
            lines, offset = await run_in_threadpool(read_lines, paths.events, offset)
            if lines:
                yield "".join(f"data: {line.decode(errors='replace')}\n\n" for line in lines[:-1])
                yield f"id: {offset}\ndata: {lines[-1].decode(errors='replace')}\n\n"
            if status in ENDED:
                yield f"event: outcome\ndata: {json.dumps({'status': status})}\n\n"
                return
            yield ": still there\n\n"
            await asyncio.sleep(POLL_SECONDS)


def own_dataset(workspace: Workspace, user: User, id: str) -> Dataset:
    """Raises BadInput where there is none of this id that the user may see."""
    folder = workspace.dataset(checked_id(id))
    return data.open_dataset(
        folder if ownership.has_claimed(workspace, user, id) else folder.with_name(f"{id}-is-not-yours")
    )


def own_job(workspace: Workspace, user: User, id: str) -> JobSpec:
    """Raises a 404 where there is none of this id that the user may see."""
    with contextlib.suppress(BadInput):
        spec = store.get_spec(workspace, checked_id(id))
        if ownership.may_see(user, spec.owner):
            return spec
    raise HTTPException(404, "There is no such job.")


def _changed(workspace: Workspace, spec: JobSpec, change: Callable[[JobPaths], None], launcher: Launcher) -> Any:
    change(workspace.job(spec.id))
    runner.start_next(workspace, launcher)
    return _status(workspace, spec)


def _as_json(dataset: Dataset) -> dict[str, Any]:
    items = [{"name": i.name, "width": i.width, "height": i.height, "caption": i.caption} for i in dataset.items]
    return {
        "id": dataset.id,
        "name": dataset.name,
        "items": items,
        "skipped": [{"name": s.name, "reason": s.reason.en} for s in dataset.skipped],
        "notes": [note.en for note in dataset.notes],
    }


def _status(workspace: Workspace, spec: JobSpec) -> dict[str, Any]:
    paths: JobPaths = workspace.job(spec.id)
    state, outcome, follower = runner.status(paths), Outcome.read(paths), Follower(paths.events)
    follower.poll()
    found: dict[str, Any] = {
        "id": spec.id,
        "name": spec.name,
        "owner": spec.owner,
        "status": state,
        "node": runner.node(paths),
        "step": follower.step,
        "steps": spec.settings.train.steps,
        "settings": config.values_of(spec.settings),
    }
    if outcome and state in ENDED:
        found |= {
            "sha256": outcome.sha256,
            "best_step": outcome.best_step,
            "recommended_strength": outcome.recommended_strength,
            "reason": {"en": outcome.reason.en, "ja": outcome.reason.ja},
        }
    return found


def tokens(workspace: Workspace, users: UserFile | None) -> Callable[[str], User | None]:
    """Who a token belongs to: each user's own, or the workspace's where there is no file of users."""
    if users:
        return users.by_token
    own = workspace_token(workspace).encode()
    return lambda token: ownership.LOCAL_ADMIN if secrets.compare_digest(own, token.encode(errors="replace")) else None
