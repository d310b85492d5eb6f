"""The judge's numbers are the model's own, and what was judged once is kept: through batches, kills and damage."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from reclab import judge, results
from reclab.errors import ReclabError

PROMPTS = [
    "Would Ann like it?",
    "ok",
    "Is the dress that she bought in the spring of last year, which came late, still worth its price to her?",
    "Is it soft? " * 6,
    "Good or bad?",
]
ANSWERS = ["Yes", "No"]
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}|{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_tokenizer(template=TEMPLATE):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(["<pad>", *letters])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>")
    tokenizer.chat_template = template
    return tokenizer


def write_model(folder, seed=0, template=TEMPLATE):
    """A Llama of two layers with random weights and a token for each byte; it reads 256 tokens."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    # Large weights: attention and positions then matter, as they do in a trained model.
    config = LlamaConfig(vocab_size=257, max_position_embeddings=256, initializer_range=0.3, pad_token_id=0, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer(template).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def derived(tmp_path, monkeypatch):
    """An empty derived cache."""
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "derived"))
    return tmp_path / "derived"


def store(derived):
    (path,) = (derived / "judgements").glob("*.txt")
    return path


def log_p(model, said, answers):
    """The model's own log-probabilities after one text, without any padding."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    module = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = module(torch.tensor([tokenizer.encode(said)])).logits[0, -1]
    found = torch.log_softmax(logits.double(), dim=0)
    return [found[tokenizer.encode(answer)[0]].item() for answer in answers], found.max().item()


def chat(prompt, system=""):
    return (f"<system>{system}|" if system else "") + f"<user>{prompt}|<assistant>"


# --- the numbers


@pytest.mark.parametrize("batch", [1, 5])
def test_equals_the_model_read_one_text_at_a_time(model, monkeypatch, batch):
    monkeypatch.setattr(judge, "BATCH", batch)
    found = judge.ask(PROMPTS, ANSWERS, model=model, system="Be brief.")
    for row, prompt in enumerate(PROMPTS):
        expected, top = log_p(model, chat(prompt, "Be brief."), ANSWERS)
        assert found.log_p[row] == pytest.approx(expected, abs=2e-5)
        assert found.log_top[row] == pytest.approx(top, abs=2e-5)


def test_plain_text_is_gone_on_with(model):
    found = judge.ask(["The coat is good. Sentiment:"], [" p", "!"], model=model, chat=False)
    expected, _ = log_p(model, "The coat is good. Sentiment:", [" p", "!"])
    assert found.log_p[0] == pytest.approx(expected, abs=2e-5)


def test_no_prompts_no_judgements_and_a_repeated_one_is_judged_once(model, derived):
    found = judge.ask([], ANSWERS, model=model)
    assert found.log_p.shape == (0, 2) and found.mass.shape == (0,)
    found = judge.ask(["ok", "ok", "no"], ANSWERS, model=model)
    assert np.array_equal(found.log_p[0], found.log_p[1])
    assert len(store(derived).read_text().split()) == 2 * 5  # key, three numbers and a check for each


def test_mass_odds_and_a_judge_that_says_neither():
    p = np.array([[0.5, 0.1, 0.2], [0.1, 0.05, 0.05]])
    found = judge.Judgements(("A", "B", "C"), np.log(p), np.log([0.5, 0.6]))
    assert found.mass == pytest.approx([0.8, 0.2])
    assert found.neither.tolist() == [False, True]
    assert found.log_odds == pytest.approx(np.log([0.5 / 0.3, 0.1 / 0.1]))


def test_content_free_replies_take_the_leaning_out():
    p, empty = np.array([[0.6, 0.2], [0.3, 0.3]]), np.array([[0.6, 0.2], [0.3, 0.1]])
    asked = judge.Judgements(("Yes", "No"), np.log(p), np.zeros(2))
    fair = asked.calibrated(judge.Judgements(("Yes", "No"), np.log(empty), np.zeros(2)))
    assert fair == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))  # odds 3 and 1, over 3
    with pytest.raises(ReclabError, match="ask alike"):
        asked.calibrated(judge.Judgements(("No", "Yes"), np.log(empty), np.zeros(2)))


# --- what was judged is kept


def watch_judging(monkeypatch):
    """How many prompts are judged from here on, by call."""
    judged, load = [], judge._judge
    monkeypatch.setattr(judge, "_judge", lambda new, *rest: judged.append(len(new)) or load(new, *rest))
    return judged


def test_a_rerun_reads_the_store_and_equals_the_first_run_to_the_bit(model, derived, monkeypatch):
    first, judged = judge.ask(PROMPTS, ANSWERS, model=model), watch_judging(monkeypatch)
    again = judge.ask(PROMPTS[::-1], ANSWERS, model=model)
    assert judged == []
    assert np.array_equal(again.log_p[::-1], first.log_p) and np.array_equal(again.log_top[::-1], first.log_top)
    assert not any(prompt in store(derived).read_text() for prompt in PROMPTS)  # hashes and numbers only


def test_the_key_holds_all_that_the_reply_depends_on(model, tmp_path, derived):
    for options in ({}, {"system": "x"}, {"chat": False}, {"answers": ["No", "Yes"]}, {"prompts": ["Ok"]}):
        judge.ask(**({"prompts": ["ok"], "answers": ANSWERS, "model": model} | options))
    assert len([line for line in store(derived).read_text().splitlines() if line]) == 5
    other = write_model(tmp_path / "tiny", seed=1)  # a folder of the same name, other weights
    one, two = (judge.ask(["ok"], ANSWERS, model=name).log_p for name in (model, other))
    assert not np.allclose(one, two)
    assert len(list((derived / "judgements").iterdir())) == 2


def test_the_store_of_the_notebooks_is_read_and_never_written(model, derived, tmp_path, monkeypatch):
    first = judge.ask(PROMPTS[:2], ANSWERS, model=model)
    shipped = tmp_path / "expected" / "judgements" / store(derived).name
    shipped.parent.mkdir(parents=True)
    shipped.write_text("# made by a test\n" + store(derived).read_text())
    before = shipped.read_bytes()
    monkeypatch.setattr(judge, "expected_folder", lambda: tmp_path / "expected")
    store(derived).unlink()
    judge.ask(PROMPTS[2:3], ANSWERS, model=model)
    assert len(store(derived).read_text().split()) == 5  # only the new one is added to one's own
    judged = watch_judging(monkeypatch)
    assert np.array_equal(judge.ask(PROMPTS[:2], ANSWERS, model=model).log_p, first.log_p)
    assert judged == [] and shipped.read_bytes() == before


def test_a_run_that_was_stopped_goes_on_where_it_was(model, derived, monkeypatch):
    append = judge._append

    def append_two_then_stop(path, rows):
        append(path, rows)
        if len(path.read_text().split()) == 2 * 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(judge, "BATCH", 1)
        stopped.setattr(judge, "_append", append_two_then_stop)
        judge.ask(PROMPTS, ANSWERS, model=model)
    judged = watch_judging(monkeypatch)
    found = judge.ask(PROMPTS, ANSWERS, model=model)
    assert judged == [len(PROMPTS) - 2]
    for row, prompt in enumerate(PROMPTS):
        assert found.log_p[row] == pytest.approx(log_p(model, chat(prompt), ANSWERS)[0], abs=2e-5)


def cut_short(content):
    return content[:-20]


def one_digit_changed(content):
    return content[:40] + (b"1" if content[40:41] != b"1" else b"2") + content[41:]


@pytest.mark.parametrize("damage", [cut_short, one_digit_changed])
def test_a_damaged_line_is_judged_anew_and_nothing_else(model, derived, monkeypatch, damage):
    first = judge.ask(PROMPTS, ANSWERS, model=model)
    path = store(derived)
    path.write_bytes(damage(path.read_bytes()))
    judged = watch_judging(monkeypatch)
    with pytest.warns(UserWarning, match=r"1 damaged line\(s\), to be judged anew"):
        again = judge.ask(PROMPTS, ANSWERS, model=model)
    assert judged == [1] and np.array_equal(again.log_p, first.log_p)


def test_a_store_that_cannot_be_written_is_said_and_judgements_are_there(model, derived, tmp_path, monkeypatch):
    derived.write_text("a file in the way")
    with pytest.warns(UserWarning, match=r"derived/judgements cannot be written.*set RECLAB_DERIVED"):
        found = judge.ask(PROMPTS, ANSWERS, model=model)
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "elsewhere"))
    assert np.array_equal(judge.ask(PROMPTS, ANSWERS, model=model).log_p, found.log_p)


# --- errors for a student


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompts": "ok"}, r"write \[text\]"),
        ({"prompts": ["ok", " \n"]}, r"prompts\[1\] is ' \\n': a judge needs something to read"),
        ({"prompts": ["ok", None]}, r"prompts\[1\] is None"),
        ({"answers": "Yes"}, r"write \[text\]"),
        *[({"answers": answers}, "two or more words") for answers in (["Yes"], ["Yes", ""], ["Yes", 1])],
        ({"answers": ["Yes", "Yep"]}, "'Yes' and 'Yep' begin with the same token"),
        (
            {"prompts": ["ok", "so long " * 40]},
            "'so long so .*has 3.. tokens, the model reads 256; shorten it",
        ),
    ],
)
def test_wrong_input_is_refused(model, changed, message):
    with pytest.raises(ValueError, match=message):
        judge.ask(**({"prompts": ["ok"], "answers": ANSWERS, "model": model} | changed))


def test_an_unknown_model_and_one_without_a_chat_template_are_refused(tmp_path):
    with pytest.raises(ReclabError, match="no model 'gpt-9'"):
        judge.ask(["ok"], ANSWERS, model="gpt-9")
    bare = write_model(tmp_path / "bare", template=None)
    with pytest.raises(ReclabError, match="chat=False"):
        judge.ask(["ok"], ANSWERS, model=bare)
    assert judge.ask(["ok"], ANSWERS, model=bare, chat=False).log_p.shape == (1, 2)


def test_the_stored_judgements_are_sound_and_hold_no_text():
    paths = list((results.expected_folder() / "judgements").glob("*.txt"))
    assert paths
    for path in paths:
        found = judge._read(path)  # a damaged line would warn, which is an error here
        assert found and all(len(key) == 32 and int(key, 16) and len(numbers) > 2 for key, numbers in found.items())
