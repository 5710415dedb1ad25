r"""Which parts of a text are private, by patterns that take linear time however hostile the text is.

Texts may be JSON inside JSON: a value may begin after an escaped line end (`\n`), and no match contains a backslash
or a quote that it would cut in two. Every repetition is bounded or possessive, so that no part of a text is tried
again and again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.scrub_judges import (
    is_address,
    is_assigned_secret,
    is_internal_host,
    is_machine,
    is_new,
    is_password,
    is_person,
    is_personal_address,
    is_secret,
)
from pytest_agentperf.dataset.scrub_placeholders import Placeholders

if TYPE_CHECKING:
    from collections.abc import Callable

_ESCAPED = r"(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})"
_BEGIN = rf"(?:(?<![\w.+\\-])|{_ESCAPED})"
"""Not inside a word, and not right after a backslash: the letter there may belong to it."""
_FIRST = r"(?:(?<![\w.+\\-].)|(?<=\\[nrtbf].)|(?<=\\u[0-9a-fA-F]{4}.))"
"""The same, said after the first character: a search then skips to what can be one, which is many times faster."""
_END = r"(?![\w-])"


class Rule(NamedTuple):
    """A kind of private value: where a text holds one of `hints`, `pattern`'s group `x` is it if `accepts` says so."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    accepts: Callable[[re.Match[str]], bool]
    placeholder: Callable[[Placeholders, str], str]
    everywhere: bool = False
    """Whether the value is to be replaced wherever else it stands in the trajectory, too."""


_PROVIDER_KEYS = (
    r"sk-(?:ant|or|proj|svcacct|admin)-[\w-]{20,}+",  # Anthropic, OpenRouter, OpenAI
    r"sk-[A-Za-z0-9]{20,}+",  # OpenAI before, DeepSeek and many others
    r"AIza[\w-]{35}",  # Google
    r"ya29\.[\w-]{20,}+",
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",  # AWS
    r"gh[pousr]_[A-Za-z0-9]{30,}+",  # GitHub
    r"github_pat_\w{22,}+",
    r"gl(?:pat|dt|rt|ptt)-[\w-]{20,}+",  # GitLab
    r"xox[abeprs]-[A-Za-z0-9-]{10,}+",  # Slack
    r"xapp-[A-Za-z0-9-]{10,}+",
    r"hf_[A-Za-z0-9]{30,}+",  # Hugging Face
    # No underscores in these: `fw_device_config_v2` is a name in a program.
    r"(?:gsk_|r8_|pplx-|tvly-(?:dev-)?|xai-|fw_|csk-)[A-Za-z0-9]{20,}+",  # Groq, Replicate, Perplexity, Tavily, ...
    r"nvapi-[\w-]{40,}+",  # NVIDIA
    r"(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{20,}+",  # Stripe
    r"SG\.[\w-]{16,32}\.[\w-]{16,64}",  # SendGrid
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[\w-]{50,}+",
    r"do[opr]_v1_[0-9a-f]{64}",  # DigitalOcean
    r"dapi[0-9a-f]{32}",  # Databricks
    r"\d{8,10}:AA[\w-]{32,34}",  # Telegram
)
_PROVIDER_HINTS = """
    sk- sk_ rk_ pk_ AIza ya29. AKIA ASIA ABIA ACCA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- glrt- glptt-
    xox xapp- hf_ gsk_ r8_ pplx- tvly- xai- nvapi- fw_ csk- whsec_ SG. npm_ pypi- _v1_ dapi :AA
"""
_NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|api[_-]?key|"
    r"(?:access|account|encryption|signing|subscription)[_-]?key|token|private[_-]?key|credentials?)"
)
_NAME_HINTS = """
    assw ASSW hrase HRASE pwd PWD Pwd ecret ECRET oken OKEN key Key KEY redential REDENTIAL
"""
# A dot at the end is the sentence's.
_VALUE = r"(?P<x>(?:\.?[A-Za-z0-9_\-+/=~!@#$%^*]){8,1000}+)"
# Code that computes the value is no secret: `password = form2.get(...)`.
_ASSIGNED = re.compile(
    rf"{_NAMES}\\?[\"']?\]?(?:\s?:\s?(?:str|string|bytes)\b)?[ \t]{{0,3}}(?::=|=>|[:=])[ \t]{{0,3}}"
    rf"(?P<quote>\\{{0,3}}[\"'])?{_VALUE}(?![(\[])",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"\b(?:bearer|basic|authorization:[ \t]{0,3}token)[ \t]{1,3}(?P<x>[\w.~+/=-]{16,}+)", re.IGNORECASE
)
_TLDS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|ai|dev|app|co|me|xyz|cloud|tech|email|online|"
    "[a-z]{2}(?![A-Za-z(\\[.])"
)
_EMAIL = re.compile(
    rf"(?P<x>(?P<local>[A-Za-z0-9._%+-]{_FIRST}[A-Za-z0-9._%+-]{{0,63}}+)"
    rf"@(?P<domain>(?:[A-Za-z0-9-]{{1,63}}+\.){{1,6}}(?i:{_TLDS})))(?![\w@(-]|\.\w)"
)
_USER = r"(?P<x>[A-Za-z0-9_](?:[.-]?\w){0,31}+)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}+)"
_INTERNAL = re.compile(
    rf"{_BEGIN}(?P<x>(?:{_LABEL}\.){{1,5}}(?:local|internal|corp|intranet|lan|localdomain))(?![\w-]|\.\w|[(=])"
)


RULES = (
    Rule(
        "private key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            # No possessive group: in Python before 3.11.5 it would take a part of what its lookahead forbids.
            r"(?P<x>(?:[A-Za-z0-9+/=\s:,.]++|\\[nr]|-(?!-))+)"
        ),
        lambda found: len(found["x"]) >= 32 and is_new(found),
        Placeholders.block,
    ),
    Rule(
        "password in URL",
        ("://",),
        re.compile(r"(?<=://)[^\s:/@\"'<>\\]*+:(?P<x>[^\s/@\"'<>\\]++)@"),
        is_password,
        Placeholders.secret,
        everywhere=True,
    ),
    Rule(
        "web token",
        ("eyJ",),
        re.compile(rf"{_BEGIN}(?P<x>eyJ[\w-]{{8,}}+\.eyJ[\w-]{{8,}}+\.[\w-]{{8,}}+)"),
        is_new,
        Placeholders.dotted,
        everywhere=True,
    ),
    Rule(
        "provider key",
        tuple(_PROVIDER_HINTS.split()),
        re.compile(rf"(?:(?<![\w\\-])|{_ESCAPED})(?P<x>{'|'.join(_PROVIDER_KEYS)}){_END}"),
        is_secret,
        Placeholders.provider_key,
        everywhere=True,
    ),
    Rule(
        "webhook",
        ("hooks.slack.com", "/api/webhooks/"),
        re.compile(r"(?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/(?P<x>[\w/-]{20,}+)"),
        is_secret,
        Placeholders.secret,
        everywhere=True,
    ),
    Rule("authorization", ("earer", "EARER", "asic", "oken"), _BEARER, is_secret, Placeholders.secret, True),
    Rule(
        "assigned secret",
        tuple(_NAME_HINTS.split()),
        _ASSIGNED,
        is_assigned_secret,
        Placeholders.secret,
        True,
    ),
    Rule("e-mail address", ("@",), _EMAIL, is_personal_address, Placeholders.email),
    Rule(
        "home folder",
        ("/home/", "/Users/"),
        re.compile(
            r"/(?:(?<![\w.]/)|(?<=\\[nrtbf]/)|(?<=\\u[0-9a-fA-F]{4}/)|(?<=[A-Za-z]:/))(?:home|Users)/" + _USER
        ),
        is_person,
        Placeholders.user,
    ),
    Rule(
        "home folder",
        (":\\",),
        re.compile(r":\\{1,4}(?:Users|USERS)\\{1,4}" + _USER),
        is_person,
        Placeholders.user,
    ),
    Rule(
        "home folder",
        ("-Users-", "-home-"),
        re.compile(r"(?<!\w)-(?:Users|home)-(?P<x>[A-Za-z0-9_]{1,32}+)(?=-)"),
        is_person,
        Placeholders.user,
    ),
    Rule(
        "user at a prompt",
        ("@",),
        re.compile(rf"{_BEGIN}(?P<x>[a-z_][a-z0-9_-]{{0,31}}+)(?=@[A-Za-z0-9][\w-]{{0,62}}+:[~/])"),
        is_person,
        Placeholders.user,
    ),
    Rule(
        "host name",
        ("@",),
        re.compile(r"(?<=[a-z0-9_]@)(?P<x>[A-Za-z0-9][\w-]{0,62}+)(?=:[~/])"),
        is_machine,
        Placeholders.host,
    ),
    Rule(
        "host name",
        ("Linux ", "Darwin ", "HOSTNAME"),
        re.compile(
            rf"(?:\b|{_ESCAPED})(?:(?:Linux|Darwin) (?=\S{{1,64}} \d{{1,2}}\.\d)|HOSTNAME=)"
            r"(?P<x>[A-Za-z0-9][\w.-]{0,63}+)"
        ),
        is_machine,
        Placeholders.host,
    ),
    Rule(
        "host name",
        (".local", ".internal", ".corp", ".intranet", ".lan"),
        _INTERNAL,
        is_internal_host,
        Placeholders.host,
    ),
    Rule(
        "IP address",
        (".",),
        re.compile(
            r"(?P<x>\d(?:(?<![\w.\\].)|(?<=\\[nrtbf].)|(?<=\\u[0-9a-fA-F]{4}.))\d{0,2}(?:\.\d{1,3}){3})"
            r"(?!\w|\.\w|-[A-Za-z])"
        ),
        is_address,
        Placeholders.address,
    ),
    Rule(
        "IP address",
        (":",),
        re.compile(r"(?<![\w:.])(?P<x>[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){3,7})(?![\w:.])"),
        is_address,
        Placeholders.address,
    ),
)
