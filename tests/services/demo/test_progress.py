"""What is shown while the demo plays."""

import io
import sys

from channelpay.services.demo.progress import Live, Plain, Silent, State, progress


def test_the_state_in_one_line():
    state = State(of=5000)
    assert state.text() == "      0 of 5,000 pieces         0 payments/s"
    state.buyer_units, state.seller_units = 400_000, 100_000
    state.advance(1000, now=10.0)
    assert state.text() == ("  1,000 of 5,000 pieces         0 payments/s   buyer 0.400000 USD   seller 0.100000 USD")


def test_the_speed_is_measured_over_a_fraction_of_a_second():
    state = State(of=5000)
    state.advance(100, now=50.0)
    state.advance(200, now=50.1)  # too soon
    assert (state.pieces, state.per_second) == (200, 0.0)
    state.advance(600, now=50.5)
    assert state.per_second == 1000
    state.advance(1600, now=52.5)
    assert state.per_second == 500


def test_plain_lines_come_at_most_once_a_second(capsys):
    with Plain() as shown:
        shown.note("starting")
        for _ in range(1000):
            shown.show()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "starting"
    assert len(lines) == 2


def test_a_moving_line_with_notes_above_it(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    with Live() as shown:
        shown.state.of = 5000
        shown.state.advance(2500, now=1.0)
        shown.show()
        shown.note("killed the buyer's daemon [at once]")
    assert "killed the buyer's daemon [at once]" in screen.getvalue()
    assert "2,500 of 5,000 pieces" in screen.getvalue()


def test_which_one(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert isinstance(progress(None, silent=False), Live)
    assert isinstance(progress(False, silent=False), Plain)
    assert isinstance(progress(None, silent=True), Silent)
    assert isinstance(progress(True, silent=True), Live)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress(None, silent=False), Plain)
    assert isinstance(progress(True, silent=False), Live)


def test_silence(capsys):
    with Silent() as shown:
        shown.note("nothing")
        shown.show()
    assert capsys.readouterr() == ("", "")
