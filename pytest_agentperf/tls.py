"""Whom we trust over TLS: the same authorities for requests that are measured and for all others.

The only place where verification can be left out, and what leaves it out says so in the result.
"""

from __future__ import annotations

import ssl

from pytest_agentperf.core.errors import ConfigError


def ssl_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a context with the system's authorities, and those of `ca_file` beside them; raises ConfigError.

    `SSL_CERT_FILE` in the environment replaces the system's.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one: a file without certificates
            raise ConfigError(
                f"no certificates can be read there: {error.strerror or error}",
                where=f"ca_file {ca_file}",
                remedy="name a file of certificates in PEM format",
            ) from None
    return context


def unverified_context() -> ssl.SSLContext:
    """Return a context that trusts anybody: for management controllers that `power.verify_tls: false` names."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
