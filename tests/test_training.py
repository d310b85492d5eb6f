"""The training loop: against a plain loop of torch, in parts, killed, resumed, watched, and on two processes."""

import copy
import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tiny_bert
from reclab import training
from reclab.errors import ReclabError
from reclab.profiles import PROFILES
from waiting import CEILING

ONE = dataclasses.replace(PROFILES["laptop"], micro_batches=1)
LR = 0.03
draw = np.random.default_rng(0)
X = torch.from_numpy(draw.normal(size=(21, 3))).float()
Y = X[:, :1] - X[:, 1:2] * X[:, 2:] + 0.5
# Five rows a batch, which no number of parts divides, and a last batch of one row, which leaves parts empty.
BATCHES = [rows for _ in range(3) for rows in np.split(draw.permutation(21), [5, 10, 15, 20])]
STEPS = len(BATCHES)


def parts(number, profile=ONE):
    return dataclasses.replace(profile, micro_batches=number)


def network(dropout=0.5):
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1))


def loss(module, rows):
    kind = next(module.parameters()).dtype
    return (module(X[rows].to(kind)) - Y[rows].to(kind)).square().mean()


def trained(profile=ONE, dropout=0.5, kind=torch.float32, run="toy", loss=loss, **options):
    module = network(dropout).to(kind)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR)
    return module, training.train(module, BATCHES, loss, optimizer, profile, run=run, **options)


def same(one, other):
    """Whether two runs ended in the same weights and history, to the last bit."""
    a, b = one[0].state_dict(), other[0].state_dict()
    history = [run[1].drop(columns="seconds") for run in (one, other)]
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) and history[0].equals(history[1])


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted run, with dropout."""
    return trained()


# One step after the other


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_batch_in_parts_is_a_plain_step_of_torch(number):
    module, history = trained(parts(number), dropout=0, kind=torch.float64)
    plain = network(0).double()
    optimizer = torch.optim.AdamW(plain.parameters())
    for step, rows in enumerate(BATCHES):  # two steps up (a tenth of 15, rounded), then down in a straight line
        optimizer.param_groups[0]["lr"] = rate = LR * [0.5, 1, *((STEPS - k) / 13 for k in range(2, STEPS))][step]
        optimizer.zero_grad()
        mean = loss(plain, rows)
        mean.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        assert history["loss"][step] == pytest.approx(mean.item(), rel=1e-6), step
        assert history["learning_rate"][step] == pytest.approx(rate), step
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], weight, rtol=0, atol=1e-9)


def test_the_history_is_one_row_of_numbers_a_step(whole):
    history = whole[1]
    assert list(history.columns) == ["loss", "learning_rate", "seconds"]
    assert len(history) == STEPS
    assert (history.dtypes == np.float64).all()
    assert (history["seconds"].diff().dropna() > 0).all()
    before, after = (loss(copy.deepcopy(module).eval(), np.arange(21)) for module in (network(), whole[0]))
    assert after < 0.9 * before


def test_the_learning_rate_warms_up_and_decays_in_straight_lines():
    factors = [training.warm_up_then_decay(step, 20) for step in range(21)]
    assert factors == pytest.approx([1 / 2, 1, *((20 - step) / 18 for step in range(2, 20)), 0])
    assert training.warm_up_then_decay(0, 1) == 1
    assert [training.warm_up_then_decay(step, 100) for step in (0, 4, 9, 55)] == pytest.approx([0.1, 0.5, 1, 0.5])


def test_a_large_gradient_is_clipped_to_length_one():
    lengths = []
    module = network(0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)

    def watch(step):
        lengths.append(torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item())

    training.train(module, BATCHES[:2], lambda m, rows: 1e4 * loss(m, rows), optimizer, parts(2), after_step=watch)
    assert lengths == pytest.approx([1.0, 1.0], abs=1e-4)


def test_what_after_step_gives_joins_the_history_and_the_module_trains_on():
    modes, module = [], network()

    def watched(network, rows):
        modes.append(network.training)
        return loss(network, rows)

    def look(step):
        module.eval()  # as every evaluation does
        return {"score": 10.0 * step} if step % 2 == 0 else None

    optimizer = torch.optim.AdamW(module.parameters(), lr=LR)
    history = training.train(module, BATCHES[:4], watched, optimizer, ONE, after_step=look)
    np.testing.assert_array_equal(history["score"], [np.nan, 20, np.nan, 40])
    assert modes == [True] * 4


# What is drawn at random


def draws(seed=0, number=2, **options):
    """What each part of each step draws: one row of numbers a part."""
    seen, module = [], torch.nn.Linear(1, 1)

    def loss(module, rows):
        seen.append(tuple(torch.rand(4).tolist()))
        return module(torch.ones(1, 1)).sum()

    profile = dataclasses.replace(ONE, seed=seed, micro_batches=number)
    batches, optimizer = [np.arange(8)] * 6, torch.optim.SGD(module.parameters(), lr=0.1)
    training.train(module, batches, loss, optimizer, profile, **options)
    return seen


def test_every_part_of_every_step_of_every_seed_draws_anew():
    seen = draws(seed=0) + draws(seed=1)
    assert len(set(seen)) == len(seen) == 24
    assert draws(seed=0) == seen[:12]


def test_what_is_drawn_elsewhere_changes_nothing(tmp_path):
    seen = draws()
    torch.manual_seed(99)
    assert draws(after_step=lambda step: torch.rand(step) and None if step == 1 else None) == seen
    draws(checkpoint=tmp_path / "c", save_every=2, stop_after=5)
    torch.rand(1_000)
    assert draws(checkpoint=tmp_path / "c", save_every=2) == seen[8:]
    assert [row for row in draws(number=4) if row in seen] == seen, "parts 0 and 1 draw as they did among two"


# Interrupted and resumed


@pytest.mark.parametrize("stop", [1, 4, 9, STEPS])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(whole, tmp_path, stop):
    path, steps = tmp_path / "new folder" / "run.pt", []
    trained(checkpoint=path, save_every=2, stop_after=stop)
    resumed = trained(checkpoint=path, save_every=2, after_step=steps.append)
    assert same(resumed, whole)
    assert steps == list(range(stop // 2 * 2 + 1, STEPS + 1)), "steps were lost, or trained again"
    assert (resumed[1]["seconds"].diff().dropna() > 0).all()
    assert {file.name for file in path.parent.iterdir()} == {"run.pt", "run.pt.previous"}
    again = trained(checkpoint=path, save_every=2, stop_after=14)
    assert same(again, (again[0], whole[1][:14]))


DEATHS = """
import os, signal, time
from pathlib import Path
import accelerate
import test_training as toy

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def live(death, pipe):
    done, fsync, replace = [], os.fsync, Path.replace

    def torn(file):
        if len(done) == 6:
            os.ftruncate(file, 1_000)
            die()
        fsync(file)

    def half(old, new):
        if len(done) == 6 and old.suffix == ".part":
            die()
        return replace(old, new)

    def after_step(step):
        done.append(step)
        os.write(pipe, b".")
        if death == "training" and step == 12:
            time.sleep(3600)  # the other process may be slow to see the sixth step, but it kills before the last

    if death == "writing":
        os.fsync = torn
    if death == "renaming":
        Path.replace = half
    toy.trained(checkpoint=f"{death}/run.pt", save_every=1, after_step=after_step)

for death in ("training", "writing", "renaming"):
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        live(death, writes)
        os._exit(0)
    if death == "training":
        for _ in range(6):
            os.read(reads, 1)
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, death
"""


def python(folder, *command, **environment):
    """Run this Python in a folder; returns what it printed."""
    here = Path(__file__).parent
    path = {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | path | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CEILING,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """A folder for each moment of death by SIGKILL: in training, in writing a checkpoint, between its two renames."""
    folder = tmp_path_factory.mktemp("deaths")
    python(folder, "-c", DEATHS)
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("death", "left"),
    [
        ("training", {"run.pt", "run.pt.previous"}),
        ("writing", {"run.pt", "run.pt.previous", "run.pt.part"}),
        ("renaming", {"run.pt.previous", "run.pt.part"}),
    ],
)
def test_a_killed_run_ends_where_the_uninterrupted_one_does(whole, deaths, death, left):
    assert left <= {file.name for file in (deaths / death).iterdir()} <= {*left, "run.pt.part"}
    steps = []
    resumed = trained(checkpoint=deaths / death / "run.pt", after_step=steps.append)
    assert same(resumed, whole)
    assert steps[-1] == STEPS
    assert 4 < steps[0] <= STEPS if death == "training" else steps[0] == 6


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of step 6, and the one before it, of step 4."""
    path = tmp_path_factory.mktemp("saved") / "run.pt"
    trained(checkpoint=path, save_every=2, stop_after=7)
    return path.read_bytes(), path.with_name("run.pt.previous").read_bytes()


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def inside_a_weight(content):
    weight = torch.load(io.BytesIO(content))["module"]["0.weight"]
    return content.index(weight.numpy().tobytes()) + 30


HARM = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a bit flipped": lambda content: flip(content, inside_a_weight(content)),
    "no checkpoint": lambda content: b"not a checkpoint" * 100,
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(whole, saved, tmp_path, harm):
    path = tmp_path / "run.pt"
    path.write_bytes(HARM[harm](saved[0]))
    path.with_name("run.pt.previous").write_bytes(saved[1])
    steps = []
    with pytest.warns(UserWarning, match=r"^checkpoint .*run.pt is damaged; going on from the one before it$"):
        resumed = trained(checkpoint=path, save_every=2, after_step=steps.append)
    assert same(resumed, whole)
    assert steps == list(range(5, STEPS + 1))


def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one(saved, tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(saved[0][:-1])
    path.with_name("run.pt.previous").write_bytes(saved[1])
    with pytest.warns(UserWarning, match="is damaged; going on from the one before it"):
        trained(checkpoint=path, save_every=2, stop_after=6)
    assert path.with_name("run.pt.previous").read_bytes() == saved[1]


def test_without_a_whole_checkpoint_the_run_is_refused(saved, tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(saved[0][:1_000])
    message = r"^checkpoint .*run.pt is damaged; delete it to start from the first step$"
    with pytest.raises(ReclabError, match=message):
        trained(checkpoint=path)
    path.with_name("run.pt.previous").write_bytes(flip(saved[1], inside_a_weight(saved[1])))
    with pytest.raises(ReclabError, match=message), pytest.warns(UserWarning, match="going on from the one before it"):
        trained(checkpoint=path)


def test_a_checkpoint_of_another_run_is_refused(saved, tmp_path):
    path = tmp_path / "run.pt"
    message = r"^checkpoint .*run.pt is of another run; delete it or give that run's texts and settings$"
    for name in ("run.pt.previous", "run.pt"):
        (tmp_path / name).write_bytes(saved[0])
        with pytest.raises(ReclabError, match=message):
            trained(checkpoint=path, run="another")
    torch.save([1, 2], path)
    with pytest.raises(ReclabError, match=message):
        trained(checkpoint=path)


# Watched


def test_tensorboard_reads_what_was_tracked(tmp_path):
    from accelerate.tracking import TensorBoardTracker
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoardTracker("toy", logging_dir=tmp_path)
    history = trained(trackers=[tracker], after_step=lambda step: {"score": step / 2} if step % 5 == 0 else None)[1]
    (folder,) = {file.parent for file in tmp_path.rglob("events.*")}
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "learning_rate", "seconds", "score"}
    for name in ("loss", "learning_rate"):
        read = events.Scalars(name)
        assert [event.step for event in read] == list(range(1, STEPS + 1))
        np.testing.assert_allclose([event.value for event in read], history[name], rtol=1e-6)
    assert [(event.step, event.value) for event in events.Scalars("score")] == [(5, 2.5), (10, 5.0), (15, 7.5)]


# On several processes

TOGETHER = """
import gc, json, os, warnings
from pathlib import Path
import torch
import tiny_bert
import test_training as toy
from reclab.errors import ReclabError

gc.freeze()  # as in this process
rank, results, rows = int(os.environ["RANK"]), {}, []

def loss(module, part):
    rows.extend(part.tolist())
    return toy.loss(module, part)

def keep(name, module, history):
    results[name] = module.state_dict(), history.drop(columns="seconds").to_dict("list")

keep("two", *toy.trained(loss=loss))
about = {"processes": torch.distributed.get_world_size(), "rows": rows, "backend": torch.distributed.get_backend()}
keep("four", *toy.trained(toy.parts(4)))
keep("resumed", *toy.trained(toy.parts(2), checkpoint="run.pt", save_every=4))
try:
    toy.trained(toy.parts(3))
except ReclabError as error:
    about["three"] = str(error)
for method in tiny_bert.finetune.efficient.METHODS:
    options = {"validation": (tiny_bert.TEXTS, tiny_bert.LABELS)} if method == "frozen" else {}
    classifier = tiny_bert.fit(method, **options)
    keep(method, classifier.module, classifier.history)
Path(f"about{rank}.json").write_text(json.dumps(about))
torch.save(results, f"results{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes made: for each, results by name and what else they report."""
    folder = tmp_path_factory.mktemp("together")
    trained(parts(2), checkpoint=folder / "run.pt", save_every=4, stop_after=6)
    (folder / "script.py").write_text(TOGETHER)
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "script.py")
    python(folder, *two, OMP_NUM_THREADS="1")
    return [
        (torch.load(folder / f"results{rank}.pt"), pd.read_json(folder / f"about{rank}.json", typ="series"))
        for rank in range(2)
    ]


def assert_close(kept, module, history):
    weights, columns = kept
    assert weights.keys() == module.state_dict().keys()
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6, msg=lambda text, name=name: name + text)
    for name, values in columns.items():
        np.testing.assert_allclose(values, history[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.fixture
def one_thread():
    """The two processes have a thread each, and a sum over two threads rounds differently.

    AdamW blows that up where a gradient is nothing but rounding, as a key's bias is: softmax does not feel it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_work_together_and_share_the_rows(together):
    (_, first), (_, second) = together
    assert first["processes"] == second["processes"] == 2
    assert first["backend"] == "gloo"
    assert first["rows"] == [row for rows in BATCHES for row in np.array_split(rows, 2)[0]]
    expected = [row for rows in BATCHES for row in (np.array_split(rows, 2)[1] if len(rows) > 1 else rows)]
    assert second["rows"] == expected, "an empty part is computed too, with a weight of 0"


@pytest.mark.parametrize("name", ["two", "four", "resumed"])
def test_two_processes_train_what_one_does_in_parts(together, one_thread, name):
    alone = trained(parts(4 if name == "four" else 2))
    for results, _ in together:
        assert_close(results[name], *alone)


@pytest.mark.parametrize("method", ["full", "frozen", "adapter", "lora", "adalora"])
def test_two_processes_fine_tune_what_one_does_in_parts(together, one_thread, method):
    options = {"validation": (tiny_bert.TEXTS, tiny_bert.LABELS)} if method == "frozen" else {}
    alone = tiny_bert.fit(method, parts(2, tiny_bert.TOY), **options)
    for results, _ in together:
        assert_close(results[method], alone.module, alone.history)


def test_parts_that_processes_cannot_share_are_refused(together):
    for _, about in together:
        assert about["three"] == (
            "3 micro-batches cannot be shared out evenly among 2 processes; make one a multiple of the other"
        )


def test_a_process_that_would_wait_for_others_in_vain_is_refused(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = r"^2 processes were asked for, but not started; start them with torchrun --nproc_per_node$"
    with pytest.raises(ReclabError, match=message):
        trained()
