"""Routes that turn the errors of their functions into answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


def route_class(answer_of: Callable[[Request, Exception], Response | None]) -> type[APIRoute]:
    """A class of routes for an API with its own shape of errors.

    Args:
        answer_of: gives the answer for an error; None for one that nobody has foreseen, which the
            server logs and answers itself.
    """

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return await handler(request)
                except Exception as error:
                    if (answer := answer_of(request, error)) is None:
                        raise
                    return answer

            return handle

    return Route
