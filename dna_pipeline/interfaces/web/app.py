"""The application: all routes of the server on one site."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from dna_pipeline import __version__
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web.old_api.routes import make_router as old_api
from dna_pipeline.interfaces.web.openapi import use_document
from dna_pipeline.interfaces.web.sdapi.routes import make_router as sdapi
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import errors as v1_errors
from dna_pipeline.interfaces.web.v1 import routes as v1

MIB = 1 << 20


def make_app(site: Site) -> FastAPI:
    """Make the application; it closes the site when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with suppress(ConfigError):  # each request says why there is no ledger
            await site.ask(site.submissions.ledger)
        yield
        await site.ask(site.close)

    app = FastAPI(
        title="dna-pipeline",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        form_limits={"max_part_size": site.config.serve.max_upload_mib * MIB},
    )
    app.state.site = site
    app.include_router(old_api(site))
    app.include_router(sdapi(site))
    app.include_router(v1.make_router(site))
    v1_errors.add_handlers(app, site)
    use_document(app)
    return app
