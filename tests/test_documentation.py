"""The pages are short, readable and true: links resolve, commands parse, Python blocks run."""

import argparse
import contextlib
import importlib
import re
import shlex
import sys
import textwrap
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from prose import measure, sentence_lengths
from tiny_run import settings

from baa.config.help import describe
from baa.config.load import load
from baa.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("*.md")) + sorted(
    file for folder in ("baa", "conf", "docker", "sweeps", "tests") for file in (ROOT / folder).rglob("*.md")
)
README = ROOT / "README.md"

MOST_LINES = 220
MEDIAN_WORDS, NINTH_DECILE_WORDS = 16, 32

MODULES = {"fit", "predict", "evaluate", "calibrate", "export", "app", "compare", "stress", "sweep", "bench"}
MEASURES = {"benchmarks.local_sites"}
"""Modules with a command of their own, without settings."""
TAKES_SETTINGS = {"fit", "evaluate", "calibrate", "stress", "sweep"}
LAUNCHER = r"(?:torchrun|docker|srun|sbatch|make|pytest|python)"
OURS = re.compile(r"(?<![\w/])(?:conf|sweeps|docker|tests|baa)/[\w./-]+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(params=PAGES, ids=name)
def page(request):
    return request.param


def blocks(page, language):
    """Return the fenced blocks of a language; those of the shell have none."""
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def command_lines(page):
    """Return the command lines of a page: those of its blocks, joined at backslashes, and those in inline code."""
    text = page.read_text()
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`]*-m baa\.\w+[^`]*)`", FENCE.sub("", text).replace("\n", " "))
    return [line for line in lines if re.search(rf"(?:^|\s){LAUNCHER}\s", line)]


def words(line):
    return shlex.split(line, comments=True)


COMMANDS = {f"{name(page)}: {line.strip()}": line for page in PAGES for line in command_lines(page)}
OF_OTHERS = [label for label in COMMANDS if re.search(r": (?:make|sbatch|docker|pytest|\w+=\S+ (?:pytest|sbatch))\s", label)]
OF_BAA = {label: line for label, line in COMMANDS.items() if "-m baa." in line}


class Parsed(BaseException):
    """Stops a command after its arguments are parsed."""


@pytest.fixture
def parse(monkeypatch, capsys):
    """Parse the arguments of a command as it does; return them, or None if it printed its help or needs more of them."""

    def parse(module, arguments):
        original = argparse.ArgumentParser.parse_known_args

        def stop(parser, args=None, namespace=None):
            raise Parsed(*original(parser, args, namespace))

        with monkeypatch.context() as patched, contextlib.suppress(SystemExit):
            patched.setattr(argparse.ArgumentParser, "parse_known_args", stop)
            patched.setattr(sys, "argv", [f"baa.{module}", *arguments])
            try:
                importlib.import_module(f"baa.{module}").main()
            except Parsed as parsed:
                found, more = parsed.args
                if module in TAKES_SETTINGS:
                    found.settings += more
                else:
                    assert more == []
                return found
        error = capsys.readouterr().err
        assert "--help" in arguments or "the following arguments are required" in error, error
        return None

    return parse


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= MOST_LINES


def test_the_readme_has_short_sentences():
    middle, ninth = measure(README.read_text())
    assert middle <= MEDIAN_WORDS
    assert ninth <= NINTH_DECILE_WORDS


def test_sentences_are_counted_without_code_tables_and_headings():
    prose = "One two three. See `some long code` in [the page](there.md)!"
    text = f"# Not this heading at all\n\n{prose}\n\n| a b c | d |\n\n```\nx y z\n```\n"
    assert sentence_lengths(text) == [3, 5]
    assert sentence_lengths("- first item is here\n- second item of four words\n") == [4, 5]
    assert sentence_lengths("Based on Li et al. 2023, as is all of it.") == [11]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_resolves(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = page if not path else page.parent / path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_readme_and_pictures_do_not_lie_among_configs():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)\s]+)\)", README.read_text())}
    assert {name(page) for page in PAGES if page not in linked} == {"README.md"}
    assert list((ROOT / "conf").glob("*.png")) == []


def test_every_file_of_the_repository_that_a_page_names_exists(page):
    named = {path.rstrip(".") for path in OURS.findall(page.read_text())}
    assert {path for path in named if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists()} == set()


@pytest.mark.parametrize("label", OF_BAA)
def test_every_command_parses_and_its_settings_exist(label, parse, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    before, _, after = OF_BAA[label].partition("-m baa.")
    module, *arguments = words(after.partition(" > ")[0])
    assert module in MODULES | MEASURES
    assert not before or before.split()[-1].endswith("python") or before.split()[0] in ("torchrun", "docker")
    if "--deeplasia" in arguments:
        arguments = [argument.replace("CHECKOUT", str(tmp_path)) for argument in arguments]
    found = parse(module, arguments)
    if found is None or module not in TAKES_SETTINGS:
        return
    if module == "sweep":
        assert found.file.is_file()
    chosen = [setting.replace("=BUNDLE", "=pretrained").replace("$RSNA", "FOLDER") for setting in found.settings]
    for setting in chosen:
        describe(setting.lstrip("-").partition("=")[0])
    if module != "fit":
        return
    (tmp_path / "ours.yaml").write_text("name: ours\n")
    if found.config:
        load([tmp_path / file if str(file) == "ours.yaml" else file for file in found.config], chosen)


def test_help_of_a_setting_names_one_that_exists():
    """`--help KEY` exits, so the parser of the test above does not see an unknown KEY."""
    keys = {key for line in COMMANDS.values() for key in re.findall(r"-m baa\.fit --help ([\w.]+)", line)}
    assert len(keys) > 1
    for key in keys:
        describe(key)
    with pytest.raises(InputError):
        describe("locator.fit.lrr")


@pytest.mark.parametrize("label", OF_OTHERS)
def test_other_commands_name_what_exists(label):
    line = COMMANDS[label]
    targets = set(re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text())[1].split())
    assert set(re.findall(r"make ([\w-]+)", line)) <= targets
    for path in OURS.findall(line):
        assert (ROOT / path).exists(), path
    scripts = [word for word in words(line) if word.endswith(".sbatch")]
    assert len(scripts) == ("sbatch " in line and "-m baa" not in line)
    for setting in [word for word in words(line) if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+=.*", word)]:
        describe(setting.partition("=")[0])


def test_every_setting_that_a_page_names_exists(page):
    groups = r"(?:data|locator|crops|estimator|joint|trainer|wandb)"
    named = re.findall(rf"`({groups}\.[\w.]+)(?:=[^`]*)?`", page.read_text().replace("REGION", "carpal"))
    unknown = []
    for key in set(named):
        if key.rpartition(".")[2] in ("py", "yaml", "png", "csv"):
            continue
        try:
            describe(key)
        except InputError:
            unknown.append(key)
    assert unknown == []


def test_every_option_that_a_page_names_exists(page):
    """Options in inline code, such as `--table`, are those of one of the commands."""
    files = [ROOT / f"baa/{module}.py" for module in (*MODULES, "cli")]
    known = {option for file in files for option in re.findall(r'"(--[\w-]+)"', file.read_text())}
    known |= {f"--no-{option[2:]}" for option in known}
    others = {"--gpus-per-node", "--gpus-per-task", "--gpus", "--read-only", "--help"}
    assert set(re.findall(r"`(--[\w-]+)", FENCE.sub("", page.read_text()))) <= known | others


def test_every_column_of_predictions_is_documented():
    from baa.inference.prediction import columns

    text = (ROOT / "baa/inference/README.md").read_text()
    regions = ("carpal", "hand")
    ranges = {"carpal_x0", "hand_y1", "carpal_lower_months", "hand_upper_months"}
    inside = re.compile(r"(carpal|hand)_([xy][01]|(lower|upper)_months)")
    assert ranges <= set(columns(regions, regions))
    documented = set(re.findall(r"`(\w+)`", text))
    assert [column for column in columns(regions, regions) if column not in documented and not inside.fullmatch(column)] == []


def test_every_config_and_every_sweep_has_a_row():
    for folder in ("conf", "sweeps"):
        text = (ROOT / folder / "README.md").read_text()
        assert [file.name for file in (ROOT / folder).glob("*.yaml") if f"]({file.name})" not in text] == []


def test_model_figures_are_marked_where_they_are():
    """What changes with the packaged model is found by its mark."""
    marked = {name(page) for page in PAGES if "<!-- model figures -->" in page.read_text()}
    assert {"README.md", "baa/pretrained/README.md"} <= marked


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name)
def test_every_yaml_block_is_yaml(page):
    for block in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_every_python_block_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shared = {}
    for block in blocks(page, "python"):
        exec(compile(textwrap.dedent(block), name(page), "exec"), shared)
    if page == README:
        assert len(shared["table"]) == 2
        assert (tmp_path / "overlay.png").stat().st_size > 0
        months = float(capsys.readouterr().out.split()[0])

        monkeypatch.setattr(sys, "argv", ["baa.predict", "hand.png", "--sex", "female", "--workers", "0"])
        importlib.import_module("baa.predict").main()
        [row] = pd.read_csv("predicted/predictions.csv").to_dict("records")
        assert row["bone_age_months"] == pytest.approx(months, abs=0.1)


def test_the_mean_of_two_tables_is_theirs(tmp_path):
    shared = {}
    for block in blocks(ROOT / "baa/pretrained/README.md", "python"):
        exec(block, shared)
    ages = {"a": [100, 110], "b": [104, 90]}
    for file, predicted in ages.items():
        table = pd.DataFrame({"id": [1, 2], "true_months": [100, 103], "predicted_months": predicted})
        table.to_csv(tmp_path / f"{file}.csv", index=False)
    assert shared["mean_error"](*(str(tmp_path / f"{file}.csv") for file in ages)) == pytest.approx((2 + 3) / 2)


@pytest.mark.slow
def test_the_readmes_own_table_trains_evaluates_and_predicts(brief_finish, tmp_path, monkeypatch):
    """The commands of Train, Evaluate and Predict on a table, with the networks of a tiny run."""
    from baa.data.sources.phantom import phantom_cases

    (tmp_path / "images").mkdir()
    rows = []
    for case in phantom_cases(60, seed=0):
        Image.fromarray(np.asarray(case.image.load(96).pixels)).save(tmp_path / "images" / f"{case.id}.png")
        rows.append({"file": f"{case.id}.png", "age": case.months / 12, "sex": case.sex.name.lower()})
    pd.DataFrame(rows).to_csv(tmp_path / "ours.csv", index=False, sep=";", encoding="utf-16")

    line = next(line for line in OF_BAA.values() if "name=hospital" in line)
    _, *arguments = words(line.partition("-m baa.")[2])
    arguments[arguments.index("conf/rsna.yaml")] = str(ROOT / "conf/rsna.yaml")
    own = ("name=", "data.source=", "data.phantom")
    tiny = [setting for setting in settings(tmp_path) if not setting.startswith(own)]
    tiny += ["estimator.whole.name=test_resnet", "estimator.whole.weights=none", "crops.cam_layers=['8','16']"]
    tiny += ["estimator.streams=[carpal,hand]", "locator.auxiliary_stride=null"]
    monkeypatch.chdir(tmp_path)

    def run(module, *given):
        monkeypatch.setattr(sys, "argv", [f"baa.{module}", *given])
        importlib.import_module(f"baa.{module}").main()

    run("fit", *arguments, *tiny)
    best = tmp_path / "hospital/estimator/best.ckpt"
    assert best.exists()
    run("evaluate", "--checkpoint", str(best), "--out", "evaluated")
    assert Path("evaluated/report.html").exists()
    run("predict", "images", "--checkpoint", str(best), "--table", "ours.csv", "--out", "read", "--workers", "0")
    assert pd.read_csv("read/predictions.csv").bone_age_months.notna().all()
    assert list(Path("read/overlays").iterdir())
