"""The server, put together from its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.control import PREFIX as CONTROL
from tests.emulators.ibm_quantum.control import Control
from tests.emulators.ibm_quantum.routes import Api
from tests.emulators.ibm_quantum.wire import ApiError
from tests.emulators.ibm_quantum.world import World

PREFIXES = ("/api/v1", "/experimental/api/v1")
"""Where the job API is found; clients that are configured by environment alone use the second."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MAX_BODY = 256 * 2**20


def application(world: World) -> web.Application:
    """Return the application that serves the API, IAM, the directories of instances, and the control route."""

    @web.middleware
    async def serve(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await _answer(request, handler, trace="control")
        call = world.calls.begin(request)
        trace = f"{call.number:032x}"
        await asyncio.sleep(world.settings.latency_seconds)
        return await world.faults.serve(request, call, lambda: _answer(request, handler, trace), trace)

    app = web.Application(client_max_size=_MAX_BODY, middlewares=[serve])
    for prefix in PREFIXES:
        app.add_routes(Api(world).routes(prefix))
    app.add_routes(world.iam.routes())
    app.add_routes(Control(world).routes())
    return app


async def _answer(request: web.Request, handler: _Handler, trace: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return error.reply(trace, "iam" if request.path == "/identity/token" else "errors")
    except web.HTTPException as error:
        return ApiError(error.status, Code.NOT_FOUND, f"{request.method} {request.path}: {error.reason}.").reply(trace)
