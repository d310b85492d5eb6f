"""The explorer: what it draws first, what a slider changes, and what is left without a kernel."""

import html

import ipywidgets
import pytest

from reclab import plots
from reclab.plots import VIEW, Explorer
from reclab.plots import text_explorer as TextExplorer
from reclab.widgets import fusion_explorer


def draw(clicks, worth):
    """A stand-in for a figure: bytes and words that name the controls' values."""
    return plots.Picture(f"png of {clicks} and {worth}".encode(), f"After {clicks} clicks at {worth} a curve rises.")


@pytest.fixture
def explorer():
    return Explorer(draw, clicks=ipywidgets.IntSlider(3, 0, 10), worth=ipywidgets.FloatSlider(1.0, min=0, max=2))


def test_it_starts_with_the_controls_values(explorer):
    assert explorer.image.value == b"png of 3 and 1.0"
    assert explorer.words.value == "After 3 clicks at 1.0 a curve rises."
    assert explorer.first.png == b"png of 3 and 1.0"


def test_a_slider_redraws_the_picture_and_its_words(explorer):
    explorer.controls["clicks"].value = 7
    assert explorer.image.value == b"png of 7 and 1.0"
    assert explorer.words.value == "After 7 clicks at 1.0 a curve rises."
    explorer.controls["worth"].value = 0.5
    assert explorer.image.value == b"png of 7 and 0.5"
    assert explorer.words.value == "After 7 clicks at 0.5 a curve rises."


def test_only_a_changed_value_redraws():
    drawn = []
    slider = ipywidgets.IntSlider(3, 0, 10)
    Explorer(lambda number: drawn.append(number) or plots.Picture(b"", f"{number} of ten is shown"), number=slider)
    slider.value = 3
    slider.description = "clicks"
    assert drawn == [3]
    slider.value = 4
    assert drawn == [3, 4]


def test_controls_stand_above_the_picture_and_its_words(explorer):
    assert explorer.box.children == (*explorer.controls.values(), explorer.image, explorer.words)
    assert list(explorer.controls) == ["clicks", "worth"]
    assert explorer.image.format == "png"


def test_bundle_holds_the_widget_and_the_first_picture_for_where_no_kernel_runs(explorer):
    bundle, metadata = explorer._repr_mimebundle_()
    assert bundle[VIEW]["model_id"] == explorer.box.model_id
    assert bundle["image/png"] == b"png of 3 and 1.0"
    assert bundle["text/plain"] == "Figure: After 3 clicks at 1.0 a curve rises."
    assert metadata == {"image/png": {"alt": "After 3 clicks at 1.0 a curve rises."}}


def test_the_stored_picture_stays_the_first_one(explorer):
    before = {key: value for key, value in explorer._repr_mimebundle_()[0].items() if key != VIEW}
    explorer.controls["clicks"].value = 9
    after = explorer._repr_mimebundle_()[0]
    assert {key: after[key] for key in before} == before


def test_words_are_shown_as_they_are_not_as_markup():
    slider = ipywidgets.IntSlider(1, 0, 5)
    explorer = Explorer(lambda n: plots.Picture(b"", f"fewer than <b>{n}</b> & p < 0.5"), n=slider)
    for number in (1, 2):
        slider.value = number
        assert "<" not in explorer.words.value
        assert html.unescape(explorer.words.value) == f"fewer than <b>{number}</b> & p < 0.5"
    assert explorer.first.alt == "fewer than <b>1</b> & p < 0.5"


def test_it_draws_a_real_figure():
    def rise(top):
        fig, ax = plots.figure(title="A line")
        ax.plot([0, top])
        return plots.show(fig, f"A line that rises from zero to {top}.")

    slider = ipywidgets.IntSlider(1, 0, 5)
    explorer = Explorer(rise, top=slider)
    first = explorer.image.value
    slider.value = 5
    assert bytes(explorer.image.value).startswith(b"\x89PNG")
    assert explorer.image.value != first
    assert explorer.words.value == "A line that rises from zero to 5."


@pytest.fixture
def reader():
    return TextExplorer(lambda typed: f"<p><b>{len(typed)}</b> letters: {html.escape(typed)}</p>", "so <soft>")


def test_a_text_is_read_at_the_start_and_when_it_changes(reader):
    assert reader.entry.value == "so <soft>"
    assert reader.page.value == "<p><b>9</b> letters: so &lt;soft&gt;</p>"
    reader.entry.value = ""
    assert reader.page.value == "<p><b>0</b> letters: </p>"


def test_a_text_is_read_once_the_typing_is_done(reader):
    assert reader.entry.continuous_update is False


def test_without_a_kernel_the_first_page_is_left(reader):
    first = reader.page.value
    reader.entry.value = "another"
    bundle = reader._repr_mimebundle_()
    assert bundle["text/html"] == first != reader.page.value
    assert bundle["text/plain"] == "9 letters: so <soft>"
    assert bundle[VIEW]["model_id"] == reader.box.model_id
    assert reader.box.children[0] is reader.entry
    assert reader.box.children[-1] is reader.page


def rank_by_weights(weights):
    """A stand-in for a fusion: what weighs most comes first."""
    order = sorted(weights, key=weights.get, reverse=True)
    return [f"film of {name}" for name in order], [weights[name] / 4 for name in order], sum(weights.values()) / 10


@pytest.fixture
def fusion():
    return fusion_explorer(rank_by_weights, {"text": 2.0, "people": 1.0}, "share who liked it")


def test_the_fusion_explorer_starts_with_the_list_of_its_weights(fusion):
    assert fusion.words.value == (
        "With weights text 2, people 1, the list and the share who liked it: "
        "1. film of text (0.50); 2. film of people (0.25)."
    )
    assert bytes(fusion.image.value).startswith(b"\x89PNG")
    assert fusion._repr_mimebundle_()[0]["text/plain"].startswith("Figure: With weights text 2")


def test_a_weight_changes_the_list_and_its_truth(fusion):
    before = fusion.image.value
    fusion.controls["people"].value = 3.0
    assert "1. film of people (0.75); 2. film of text (0.50)" in fusion.words.value
    assert fusion.image.value != before
    fusion.controls["text"].value = 0.0
    assert fusion.words.value.startswith("With weights text 0, people 3, ")


def test_a_slider_is_named_bounded_and_waits_for_the_mouse(fusion):
    for name, slider in fusion.controls.items():
        assert (slider.description, slider.min, slider.max, slider.step) == (name, 0, 3, 0.25)
        assert not slider.continuous_update, "every step would solve for a list"


@pytest.mark.parametrize("weight", [-0.5, 3.5, float("nan")])
def test_a_weight_that_no_slider_has_is_refused(weight):
    with pytest.raises(ValueError, match=rf"^the weight of 'text' must be in 0..3, got {weight}$"):
        fusion_explorer(rank_by_weights, {"text": weight}, "share who liked it")
