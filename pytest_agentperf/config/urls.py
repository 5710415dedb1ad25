"""What is wrong with a URL, told where it is written, so that no later parser stumbles over it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def base_url_problem(url: str) -> str | None:
    """Return what keeps a URL from being the base of an API, None if nothing does; never the URL itself."""
    if not _is_plain(url) or re.search("[?#]", url):
        return (
            "not an http(s) base URL, as http://host:8000/v1, without credentials and query; "
            "a key goes into the variable that `api_key_env` names"
        )
    return _problem_of_place(url)


def url_problem(url: str) -> str | None:
    """Return what is wrong with the URL of a page, None if nothing is; never the URL itself: it may hold a password."""
    if not _is_plain(url):
        return "not an http(s) URL without credentials, as http://host:9400/metrics"
    return _problem_of_place(url)


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and re.fullmatch(r"https?://[^\s@]+", url) is not None


def _problem_of_place(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        # What the resolver would refuse in its own words, as an empty label or one of 64 characters.
        host.encode("idna")
    except ValueError:
        return "its host or port is malformed; ports are numbers from 1 to 65535, and IPv6 addresses stand in brackets"
    if not host:
        return "it names no host; write it as http://host:8000/v1"
    if port == 0 or parts.netloc.endswith(":"):
        return "its port is none; ports are numbers from 1 to 65535"
    return None
