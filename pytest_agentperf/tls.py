"""Whom we trust over TLS: the same authorities for requests that are measured and for all others.

The only place where verification can be left out, and what leaves it out says so in the result.
"""

from __future__ import annotations

import os
import ssl
from functools import cache

from pytest_agentperf.core.errors import ConfigError


def ssl_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a context with the system's authorities, and those of `ca_file` beside them; raises ConfigError.

    `SSL_CERT_FILE` in the environment replaces the system's. The context is shared by all that ask for the same
    authorities: it is not to be changed.
    """
    return _context(ca_file, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _context(ca_file: str | None, *_: str | None) -> ssl.SSLContext:
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


# OpenSSL's codes: another host's name, another address.
_OTHER_NAME = (62, 64)
_EXPIRED = 10


def refused_certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the refusal of a server's certificate among an error and its causes."""
    found = _tls_error(error)
    return found if isinstance(found, ssl.SSLCertVerificationError) else None


def tls_remedy(error: BaseException | None) -> str | None:
    """Return what to do about a failure of TLS among an error and its causes, None if there is no such."""
    if (refused := refused_certificate(error)) is not None:
        if refused.verify_code in _OTHER_NAME:
            return "write the host into the URL as its certificate names it, or give it one for this name"
        if refused.verify_code == _EXPIRED:
            return "renew the server's certificate"
        return "name the certificate of the authority that signed the server's, as PEM, in `ca_file` of the endpoint"
    if _tls_error(error) is not None:
        return "see that the server speaks TLS at this port, or write http:// if it does not"
    return None


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def unverified_context() -> ssl.SSLContext:
    """Return a context that trusts anybody: for management controllers that `power.verify_tls: false` names."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
