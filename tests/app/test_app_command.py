"""fexpr app: what it needs, and what its server lets through."""

import asyncio
import importlib.util
from types import SimpleNamespace

import pytest

from fexpr.app import __main__ as command
from fexpr.app.guard import POLICY, Guard
from fexpr.errors import UserError


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else find(name, *a)
    )
    assert command.main(["fer2013"]) == 2
    shown = capsys.readouterr().err
    assert "the page needs Gradio, which is not installed" in shown
    assert command.INSTALL in shown


def test_it_installs_what_the_extra_installs():
    import tomllib

    from tests.launching import ROOT

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (gradio,) = extras["optional-dependencies"]["app"]
    assert f'"{gradio}"' in command.INSTALL
    for document in ("README.md", "docs/use.md"):
        assert command.INSTALL in (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "channels"), [("clip", 8), ("features", 34), ("flow", 12)])
def test_a_run_that_reads_neither_pictures_nor_videos(kind, channels):
    run = SimpleNamespace(kind=kind, shape=(8, 8, channels), picture=(8, 8, channels))
    with pytest.raises(UserError, match=f"reads {kind} of {channels} channels"):
        command.check_kind(run)


async def inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"page"})


def answered(hosts, host):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", host)]}
    asyncio.run(Guard(inner, hosts)(scope, None, send))
    return sent


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        (("127.0.0.1", "localhost"), b"127.0.0.1:7860", 200),
        (("127.0.0.1", "localhost"), b"localhost:7860", 200),
        (("127.0.0.1", "localhost"), b"evil.example:7860", 400),
        (("127.0.0.1", "localhost"), b"", 400),
        ((), b"laboratory.example:80", 200),
    ],
)
def test_only_requests_for_this_machine_are_answered(hosts, host, status):
    start, body = answered(hosts, host)
    assert start["status"] == status
    assert (body["body"] == b"page") == (status == 200)
    if status == 200:
        assert dict(start["headers"])[b"content-security-policy"] == POLICY.encode()
