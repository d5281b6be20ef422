"""The page docs/python.md: its programs run, and its tables are those of the code."""

import re
from pathlib import Path

import mainspring
import pytest
from mainspring import _native, errors

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "python.md").read_text()


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_programs_of_the_guide_run_one_after_the_other(capsys):
    names: dict[str, object] = {"__name__": "guide"}
    found = programs(GUIDE)
    try:
        for program in found:
            exec(compile(program, "docs/python.md", "exec", dont_inherit=True), names)
    finally:
        names["broker"].stop()
    assert len(found) >= 8
    said = capsys.readouterr().out
    assert "orders 0 0\n" in said
    assert "\n9.5\n" in said
    assert sorted(re.findall(r"\d: '(\w+)'", said)) == ["killed", "running", "running"]
    assert "\n[b'1', b'2']\n" in said
    assert "TopicNotFound" in GUIDE
    assert "UNKNOWN_TOPIC_OR_PARTITION (3)" in said


def test_the_programs_of_the_readme_that_use_the_package_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = [
        program
        for program in programs((ROOT / "README.md").read_text())
        if "import mainspring" in program
    ]
    assert ours
    for program in ours:
        exec(compile(program, "README.md", "exec", dont_inherit=True), {"__name__": "readme"})


@pytest.mark.parametrize("kind", ["producer", "consumer", "admin"])
def test_the_tables_of_settings_are_those_of_the_code(kind):
    article = "an" if kind == "admin" else "a"
    section = GUIDE.split(f"### Of {article} {kind}\n")[1].split("###")[0]
    rows = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {meaning.rstrip('.')} |"
        for name, default, meaning in _native.client_settings(kind)
    ]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows


def test_the_table_of_errors_names_classes_and_what_else_they_are():
    section = GUIDE.split("## Errors")[1].split("## Settings")[0]
    told = set()
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 3 or not cells[0].startswith("`"):
            continue
        for name in re.findall(r"`(\w+)`", cells[0]):
            told.add(name)
            for builtin in re.findall(r"`(\w+)`", cells[1]):
                assert issubclass(getattr(errors, name), __builtins__[builtin]), name
    # What the others derive from, and the codes.
    untold = {"ErrorCode", "KafkaError", "MainspringError"}
    assert told == set(errors.__all__) - untold
    assert told <= set(mainspring.__all__)
