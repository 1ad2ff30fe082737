"""The application: all routes of the server on one site."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from dna_pipeline import __version__
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web import docs_page, login, metrics
from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.old_api.routes import make_router as old_api
from dna_pipeline.interfaces.web.openapi import use_document
from dna_pipeline.interfaces.web.page import errors as page_errors
from dna_pipeline.interfaces.web.page.routes import make_router as page
from dna_pipeline.interfaces.web.sdapi.routes import make_router as sdapi
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import errors as v1_errors
from dna_pipeline.interfaces.web.v1 import routes as v1

MIB = 1 << 20


def make_app(site: Site, access: Access | None = None) -> FastAPI:
    """Make the application; it closes the site when it ends.

    Args:
        access: knows the token, for the page on which people log in; None: there is no such page.
    """

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
    if access is not None and access.has_token:
        app.include_router(login.make_router(access))
    app.include_router(docs_page.make_router())
    app.include_router(metrics.make_router(site))
    app.include_router(old_api(site))
    app.include_router(sdapi(site))
    app.include_router(page(site))
    app.include_router(v1.make_router(site))
    v1_errors.add_handlers(app, site, page_errors.answer_unrouted)
    use_document(app)
    return app
