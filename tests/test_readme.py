"""What the README tells a stranger to type works, and what it says of versions and data sets is so."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from reclab.assets import ASSETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def own_data_snippet() -> str:
    section = README.split("## Your own data")[1].split("\n## ")[0]
    return re.search(r"(?s)```python\n(.*?)```", section)[1]


def write_ratings(path: Path, n_users: int = 60, n_items: int = 40) -> None:
    """Two tastes: even users like even items, odd users odd ones."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", 5 if (user + item) % 2 == 0 else 1, int(rng.integers(1e9, 1.5e9)))
        for user in range(n_users)
        for item in rng.permutation(n_items)[: n_items // 2]
    ]
    pd.DataFrame(rows, columns=["user", "item", "stars", "time"]).to_csv(path, index=False)


def test_own_data_snippet_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_ratings(tmp_path / "ratings.csv")
    names = {}
    exec(compile(own_data_snippet(), "README.md", "exec"), names)
    # EASE can learn the two tastes, popularity cannot.
    verdicts = names["card"].verdicts
    assert "better" in verdicts.loc["EASE", "NDCG@10"]
    assert "EASE" in capsys.readouterr().out


def test_full_size_snippet_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    review = {"user_id": "u", "parent_asin": "i", "asin": "j", "title": "Good", "text": "Yes", "timestamp": 1.5e12}
    rows = [{**review, "rating": stars} for stars in (1.0, 5.0)]
    (tmp_path / "All_Beauty.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    )
    (tmp_path / "meta_All_Beauty.jsonl.gz").write_bytes(gzip.compress(b'{"parent_asin": "i", "title": "Soap"}\n'))
    section = README.split("### Your own and full-size data")[1]
    names = {}
    exec(compile(re.search(r"(?s)```python\n(.*?)```", section)[1], "README.md", "exec"), names)
    assert capsys.readouterr().out == "2 reviews, of which 1 were outdated\n"
    assert names["mine"].interactions["rating"].tolist() == [5.0]
    assert names["mine"].items["text"].tolist() == ["Soap"]


def test_every_data_set_is_listed_and_offered_offline():
    for name, asset in ASSETS.items():
        assert f"| {name} |" in README, f"{name} is not in the README's table of licences"
        if asset.package:
            assert f"{asset.package}=={asset.version}" in README, f"{name}: its wheel is not in the offline line"


def test_cpu_torch_is_the_locked_one():
    pin = re.search(r"(?m)^torch==\S+", (ROOT / "requirements.lock").read_text("utf-8"))[0]
    assert f"python -m pip install {pin} --index-url https://download.pytorch.org/whl/cpu" in README


def test_the_notebooks_that_are_here_are_in_bold():
    bold = set(re.findall(r"(?m)^\| \*\*(\d\d_\w+)\*\*", README))
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == bold
