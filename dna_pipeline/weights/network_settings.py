"""Checks the variables of the environment that a download follows, before the first request.

A wrong variable fails the same way at each try, so it ends the pull at once with a sentence that
names the variable. Secrets (`HF_TOKEN`, the password in an address) appear in no sentence.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib import request

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.weights.pins import HUB_VARIABLE, RELEASES_VARIABLE, Source, without_password

TOKEN_VARIABLE = "HF_TOKEN"
CERTIFICATES_VARIABLE = "SSL_CERT_FILE"

_WEB_ADDRESS = re.compile(r"(?i)https?://[^\s/?#]+(/[^\s?#]*)?")
_TOKEN = re.compile(r"[!-~]*")
"""Printable ASCII without spaces: the letters that may stand in a header."""


def variable_of(source: Source) -> str:
    """Name of the variable that names a mirror of the source."""
    return HUB_VARIABLE if source.is_hub else RELEASES_VARIABLE


def check_endpoint(source: Source, env: Mapping[str, str]) -> None:
    """Raise `TransferFailed` if the mirror of the environment is no address of a web server."""
    if not _WEB_ADDRESS.fullmatch(source.endpoint(env)):
        raise TransferFailed(
            f"{variable_of(source)} is {source.endpoint(env)!r}, which is no address of a web "
            "server; it must begin with https:// or http://"
        )


def read_token(env: Mapping[str, str]) -> str:
    """The access token for the hub, "" if there is none. Raises `TransferFailed`."""
    token = env.get(TOKEN_VARIABLE, "").strip()
    if not _TOKEN.fullmatch(token):
        raise TransferFailed(
            f"the variable {TOKEN_VARIABLE} holds letters that no access token has, such as a "
            "space or a line break; set it again"
        )
    return token


def check_certificates() -> None:
    """Raise `TransferFailed` if `$SSL_CERT_FILE` names no file of certificates."""
    if not (name := os.environ.get(CERTIFICATES_VARIABLE)):
        return
    path = Path(name)
    if path.is_dir():
        why = "is a folder"
    elif not path.exists():
        why = "is not there"
    else:
        why = _load_fault(path)
    if why:
        raise TransferFailed(
            f"the variable {CERTIFICATES_VARIABLE} names {name}, which {why}; let it name a file "
            "of certificates (PEM), or remove the variable"
        )


def _load_fault(path: Path) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "holds no certificates"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def proxy_for(scheme: str, host: str) -> tuple[str, str] | None:
    """The proxy that requests to a host go through: its origin (the variable) and its address
    without a password. None if requests go straight to the host."""
    proxies = request.getproxies()
    kind = next((kind for kind in (scheme, "all") if proxies.get(kind)), None)
    if kind is None or request.proxy_bypass(host):
        return None
    return _proxy_origin(kind), without_password(proxies[kind])


def proxy_fault(error: Exception) -> str:
    """Sentence about proxies that no client can be made for."""
    proxies = request.getproxies()
    kinds = [kind for kind in ("http", "https", "all") if proxies.get(kind)]
    named = ", ".join(f"{_proxy_origin(k)} ({without_password(proxies[k])})" for k in kinds)
    what = "is a SOCKS proxy" if isinstance(error, ImportError) else "cannot be used"
    return (
        f"the proxy of {named or 'the environment'} {what}; dna-pipeline can use HTTP proxies "
        "alone: name one (http://HOST:PORT), or remove the variable"
    )


def _proxy_origin(kind: str) -> str:
    """Name of the variable that names the proxy: `HTTPS_PROXY`, or `https_proxy`."""
    names = [f"{kind}_proxy", f"{kind}_proxy".upper()]
    return next((name for name in names if os.environ.get(name)), "the system's settings")
