"""Whom we trust over TLS: the same authorities for requests that are measured and for all others."""

from __future__ import annotations

import ssl


def ssl_context() -> ssl.SSLContext:
    """Return a context with the system's authorities; `SSL_CERT_FILE` adds a site's own."""
    return ssl.create_default_context()
