"""When a server that was launched counts as there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import printable
from pytest_agentperf.deploy.probe import get
from pytest_agentperf.tls import refused_certificate, tls_remedy

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_SUCH_PAGE = (404, 405, 501)
_OTHER_MODELS_MAX = 40
_SHOWN_CHARS = 300


class Readiness:
    """Asks once per call; `last` says what was answered."""

    def __init__(
        self,
        pages: tuple[str, ...],
        headers: Mapping[str, str],
        model: str | None,
        ca_file: str | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._pages = pages
        self._headers = headers
        self._model = model
        self._other_models = 0
        self.last = "it was never asked"

    @classmethod
    def at(cls, url: str, place: str, *, ca_file: str | None = None) -> Readiness:
        """One that a page decides: a URL, or a path of the server at `url`. No key is sent to it."""
        return cls((urljoin(url, place),), {}, None, ca_file)

    @classmethod
    def of_model(
        cls, url: str, headers: Mapping[str, str], model: str, *, ca_file: str | None = None
    ) -> Readiness:
        """One for servers of any make: healthy, if it has such a page, and the model is listed, if it has a list."""
        return cls((urljoin(url, "/health"), url.rstrip("/") + "/models"), headers, model, ca_file)

    def now(self) -> bool:
        """Ask; raises EndpointError if it will never be ready."""
        for page in self._pages:
            try:
                response = get(page, self._headers, ca_file=self._ca_file)
            except httpx.HTTPError as error:
                self.last = f"{page}: {str(error) or type(error).__name__}"
                if refused_certificate(error) is not None:
                    raise EndpointError(str(error), where=page, remedy=tls_remedy(error)) from None
                return False
            if response.status_code in (401, 403):
                raise EndpointError(
                    f"it refused our API key (HTTP {response.status_code})",
                    where=page,
                    remedy="launch it with the key that endpoint.api_key_env names, by `launch.environment`",
                )
            absent = self._model is not None and response.status_code in _NO_SUCH_PAGE
            if response.status_code != 200 and not absent:
                self.last = f"{page}: HTTP {response.status_code}"
                return False
        return self._model is None or absent or self._lists_model(response)

    def _lists_model(self, response: httpx.Response) -> bool:
        try:
            names = [str(entry["id"]) for entry in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            # It has no list that we can read: its first answer will tell.
            return True
        if self._model in names:
            return True
        self.last = f"{response.url}: it lists {printable(', '.join(names[:8]))[:_SHOWN_CHARS] or 'no model'}"
        # Behind a router models appear one by one; but one that never comes is not worth half an hour.
        self._other_models += bool(names)
        # That it is an error, and which models there are, the checks before the run say.
        return self._other_models > _OTHER_MODELS_MAX
