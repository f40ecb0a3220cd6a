"""Processes are started with logs, watched, and always ended."""

import os
import signal

import pytest
import trio

from channelpay.services.demo.stage import DemoFailed, free_ports, open_stage, tails


@pytest.fixture
def actor(tmp_path, monkeypatch):
    """`actor(code)` makes a module that runs `code`; its name is what Stage.start takes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    count = 0

    def make(code):
        nonlocal count
        count += 1
        (tmp_path / f"actor{count}.py").write_text(code)
        return f"actor{count}"

    return make


WAITS = "import sys\nprint('{\"ready\": 1}', flush=True)\nsys.stdin.read()\n"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS


def has_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_all_are_ended_also_those_that_do_not_listen(tmp_path, actor, monkeypatch):
    monkeypatch.setattr("channelpay.services.demo.stage._END_LIMIT_S", 0.2)
    async with open_stage(tmp_path) as stage:
        children = [
            await stage.start("polite", actor(WAITS), pipes=True),
            await stage.start("deaf", actor(DEAF), pipes=True),
        ]
        for child in children:
            assert await anext(child.lines) == {"ready": 1}
    assert [child.process.returncode for child in children] == [-signal.SIGTERM, -signal.SIGKILL]


async def test_all_are_ended_when_the_block_fails_or_is_cancelled(tmp_path, actor):
    pids = []

    async def begin(stage):
        child = await stage.start("polite", actor(WAITS), pipes=True)
        await anext(child.lines)
        pids.append(child.process.pid)

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  the block is what fails
        async with open_stage(tmp_path) as stage:
            await begin(stage)
            raise DemoFailed("stop here")
    assert caught.group_contains(DemoFailed, match="stop here")
    with trio.CancelScope() as scope:
        async with open_stage(tmp_path) as stage:
            await begin(stage)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [has_ended(pid) for pid in pids] == [True, True]


async def test_one_that_must_stay_and_ends_ends_the_play(tmp_path, actor):
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  the block is what fails
        async with open_stage(tmp_path) as stage:
            await stage.start("weak", actor("import sys\nprint('a reason', file=sys.stderr)\nsys.exit(7)"))
            await trio.sleep_forever()
    assert caught.group_contains(DemoFailed, match="weak ended by itself with exit code 7")
    assert tails(tmp_path).splitlines() == [f"--- {tmp_path / 'weak.log'}", "a reason"]


async def test_one_that_may_go_goes_quietly_but_not_with_an_error(tmp_path, actor):
    async with open_stage(tmp_path) as stage:
        child = await stage.start("guest", actor("print('{\"bye\": 1}')"), stays=False, pipes=True)
        assert [line async for line in child.lines] == [{"bye": 1}]
        assert await child.process.wait() == 0
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  the block is what fails
        async with open_stage(tmp_path) as stage:
            await stage.start("guest", actor("raise SystemExit(1)"), stays=False)
            await trio.sleep_forever()
    assert caught.group_contains(DemoFailed, match="guest ended")


async def test_the_first_line_or_why_there_is_none(tmp_path, actor):
    async with open_stage(tmp_path) as stage:
        child = await stage.start("guest", actor(WAITS), pipes=True)
        assert await child.first_line(60) == {"ready": 1}
        with pytest.raises(DemoFailed, match="guest told nothing within 0 s"):
            await child.first_line(0.01)
        silent = await stage.start("silent", actor(""), stays=False, pipes=True)
        with pytest.raises(DemoFailed, match="silent ended by itself with exit code 0"):
            await silent.first_line(60)


async def test_a_killed_one_may_be_started_again_with_the_same_log(tmp_path, actor):
    module = actor("import sys\nprint('begun', file=sys.stderr, flush=True)\n" + WAITS)
    async with open_stage(tmp_path) as stage:
        for _ in range(2):
            child = await stage.start("phoenix", module, pipes=True)
            await anext(child.lines)
            await stage.kill(child)
            assert child.process.returncode == -signal.SIGKILL
    assert (tmp_path / "phoenix.log").read_text() == "begun\nbegun\n"


async def test_a_line_goes_in(tmp_path, actor):
    async with open_stage(tmp_path) as stage:
        child = await stage.start("echo", actor("input()\nprint('[1]')"), stays=False, pipes=True)
        await child.go_on()
        assert [line async for line in child.lines] == [[1]]


async def test_a_command_answers_in_json_or_fails_in_words(tmp_path):
    async with open_stage(tmp_path) as stage:
        made = await stage.command("init", "--home", str(tmp_path / "home"))
        assert made["account"].startswith("cpa1")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_stage(tmp_path) as stage:
            await stage.command("status", "--home", str(tmp_path / "home"))
    assert caught.group_contains(DemoFailed, match=r"'channelpay status --home .*' ended with 3: no daemon answers")


async def test_tails_are_short(tmp_path):
    (tmp_path / "long.log").write_text("\n".join(f"line {index} {'x' * 1000}" for index in range(100)))
    lines = tails(tmp_path).splitlines()
    assert len(lines) == 16
    assert lines[-1].startswith("line 99 ")
    assert max(map(len, lines[1:])) == 500


def test_free_ports_differ():
    ports = free_ports(3)
    assert len(set(ports)) == 3
    assert all(1024 <= port < 32_768 for port in ports), "not one that an outgoing connection may take meanwhile"
