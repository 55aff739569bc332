"""`rib report --format html` on the command line: what it writes where, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import html
from tests.orchestrator.report.html.stores import Made, make_store
from tests.orchestrator.rib import rib

Capture = pytest.CaptureFixture[str]
POSTER = Path(__file__).parents[3] / "data" / "poster_vit_b16_augreg_in1k.csv"
HTML = ("--format", "html")


def test_a_page_is_written_and_its_size_is_told(
    made: Made, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "page.html"
    assert rib("report", made.uri, *HTML, "--out", out) == 1  # it has incomplete entries
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip() == f"wrote {out} ({out.stat().st_size / 1024:,.0f} KiB)"
    assert out.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [out]


def test_without_a_file_it_goes_to_standard_output(capsys: Capture) -> None:
    assert rib("report", POSTER, *HTML) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("<!doctype html>")
    assert printed.out.rstrip().endswith("</html>")
    assert printed.err == ""


def test_the_scoring_is_passed_on(made: Made, capsys: Capture) -> None:
    assert rib("report", made.uri, *HTML, "--unmasked", "objectnet") == 1
    assert "scoring: objectnet over all classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["report", POSTER, "--watch"], "--format html"),
        (["report", POSTER, *HTML, "--watch"], "does not change"),
        (["report", POSTER, *HTML, "--watch", "--every", "0.5"], "--every"),
        (["report", "no-store", *HTML, "--watch", "--out", "x.html"], "no store here"),
        (["report", POSTER, *HTML, "--out", "/no/folder/x.html"], "cannot write"),
        (["matrix", POSTER, *HTML], "rib report"),
    ],
)
def test_what_is_wrong_is_told(arguments: list[str], told: str, capsys: Capture) -> None:
    assert rib(*arguments) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_ctrl_c_ends_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    made = make_store(tmp_path / "store", is_done=lambda cell: cell.is_baseline)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(html, "sleep", stop)
    out = tmp_path / "page.html"
    assert rib("report", made.uri, *HTML, "--out", out, "--watch") == 130
    assert "2 of 50 cells done" in capsys.readouterr().err
    assert "<body>" in out.read_text()


def test_a_watch_of_what_is_finished_ends(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    assert rib("report", made.uri, *HTML, "--out", tmp_path / "page.html", "--watch") == 0
