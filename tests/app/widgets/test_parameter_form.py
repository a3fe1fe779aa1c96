from __future__ import annotations

import dataclasses

import pytest
from PySide6.QtCore import QLocale, QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QDoubleSpinBox, QSpinBox

from ciad_app.widgets.parameter_form import ParameterForm, decimals, has_slider, stops
from ciad_engine import attacks
from ciad_engine.attacks import parameters
from ciad_engine.attacks.parameters import parameter


@dataclasses.dataclass(frozen=True)
class Example:
    eps: float = parameter(8.0, "Budget", "How far.", low=0, high=255, unit="/255")
    steps: int = parameter(10, "Steps", "How often.", low=1, high=100, unit="steps")
    rate: float = parameter(1e-3, "Rate", "How fast.", low=1e-9, high=1e9)
    free: int = parameter(3, "Free", "No bounds.")
    norm: str = parameter("l2", "Norm", "Which.", choices=("l2", "linf"))
    random: bool = parameter(False, "Random start", "Whether.")
    aim: int = parameter(0, "Aim", "Which class.", low=0, high=999)

    def __post_init__(self):
        parameters.check(self)


@pytest.fixture
def form(qtbot):
    made = ParameterForm(parameters.schema(Example), {"aim": ("cat", "dog", "frog")})
    qtbot.addWidget(made)
    return made


def test_defaults_are_those_of_the_schema(form):
    assert parameters.build(Example, form.values()) == Example()


def test_ranges_units_and_editors_follow_the_schema(form):
    eps, steps = form.editor("eps"), form.editor("steps")
    assert isinstance(eps, QDoubleSpinBox)
    assert (eps.minimum(), eps.maximum(), eps.suffix()) == (0, 255, " /255")
    assert isinstance(steps, QSpinBox)
    assert (steps.minimum(), steps.maximum()) == (1, 100)
    steps.setValue(1000)
    assert form.values()["steps"] == 100
    assert form.editor("free").maximum() > 10**8
    assert isinstance(form.editor("norm"), QComboBox)
    assert isinstance(form.editor("random"), QCheckBox)
    for name in form.values():
        assert form.editor(name).accessibleName()
        assert form.editor(name).toolTip()


@pytest.mark.parametrize("typed", ["0.5", "0,5"])
def test_both_signs_before_a_fraction_are_understood(form, qtbot, typed):
    editor = form.editor("eps")
    editor.selectAll()
    qtbot.keyClicks(editor, typed)
    qtbot.keyClick(editor, Qt.Key.Key_Tab)
    assert form.values()["eps"] == 0.5


@pytest.mark.parametrize("language", ["en_US", "de_DE", "C"])
def test_large_numbers_have_no_separator_that_could_be_read_as_a_point(qtbot, language):
    before = QLocale()
    QLocale.setDefault(QLocale(language))
    try:
        form = ParameterForm(parameters.schema(Example))
        qtbot.addWidget(form)
        form.set_values({"rate": 1234567.5})
        editor = form.editor("rate")
        editor.interpretText()
        assert form.values()["rate"] == 1234567.5
        editor.selectAll()
        qtbot.keyClicks(editor, "1500,5" if language == "C" else "1500.5")
        qtbot.keyClick(editor, Qt.Key.Key_Tab)
        assert form.values()["rate"] == 1500.5
    finally:
        QLocale.setDefault(before)


def test_small_numbers_survive_and_are_shown_short(form):
    rate = form.editor("rate")
    assert form.values()["rate"] == 1e-3
    assert rate.text() in ("0.001", "0,001")
    form.set_values({"rate": 1e-9})
    assert form.values()["rate"] == 1e-9


def test_slider_and_spin_box_follow_each_other_without_rounding_the_value(form):
    slider = form.slider("eps")
    form.editor("eps").setValue(8.3)
    assert form.values()["eps"] == 8.3
    slider.setValue(slider.maximum())
    assert form.values()["eps"] == 255
    form.slider("steps").setValue(form.slider("steps").minimum())
    assert form.values()["steps"] == 1
    assert form.slider("rate") is None
    assert form.slider("free") is None


def test_numbers_with_names_are_chosen_by_name(form):
    assert form.editor("aim").currentText() == "cat"
    form.editor("aim").setCurrentText("frog")
    assert form.values()["aim"] == 2
    form.set_values({"aim": 7})  # of other classes
    assert form.values()["aim"] == 2


def test_reset_goes_back_and_changes_are_told(form, qtbot):
    with qtbot.waitSignal(form.changed):
        form.set_values({"eps": 16.0, "norm": "linf", "random": True, "aim": 1, "unknown": 5})
    assert form.values()["norm"] == "linf"
    form.reset()
    assert parameters.build(Example, form.values()) == Example()


def test_the_wheel_does_not_change_a_value_without_focus(form):
    form.show()
    spin = form.editor("steps")
    spin.clearFocus()
    up = QPoint(0, 120)
    nothing = Qt.MouseButton.NoButton
    event = QWheelEvent(
        QPointF(3, 3),
        QPointF(spin.mapToGlobal(QPoint(3, 3))),
        QPoint(),
        up,
        nothing,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(spin, event)
    assert form.values()["steps"] == 10


@pytest.mark.parametrize("name", attacks.names())
def test_every_attack_can_be_made_from_its_form(qtbot, name):
    schema = parameters.schema(attacks.get(name))
    form = ParameterForm(schema)
    qtbot.addWidget(form)
    assert attacks.create(name, **form.values()) == attacks.create(name)


@pytest.mark.parametrize("value", [0.145, 0.25, 2.2500001, 1 / 3])
def test_values_come_back_as_they_were_set(qtbot, value):
    for name in attacks.names():
        form = ParameterForm(parameters.schema(attacks.get(name)))
        qtbot.addWidget(form)
        for p in parameters.schema(attacks.get(name)):
            if p.kind == "float" and (p.low or 0) <= value and (p.high is None or value <= p.high):
                form.set_values({p.name: value})
                assert form.values()[p.name] == value, (name, p.name)


def test_the_slider_of_a_budget_stops_at_whole_grey_levels_and_small_ones_take_most_of_it(form):
    slider, values = form.slider("eps"), []
    for place in range(slider.maximum() + 1):
        slider.setValue(place)
        values.append(form.values()["eps"])
    assert values[:17] == list(range(17))
    assert values[-1] == 255
    assert values == sorted(set(values))
    assert all(value == round(value) for value in values)
    assert values.index(16) > 0.6 * slider.maximum()


def test_another_slider_sets_round_values():
    rate = dataclasses.replace(parameters.schema(Example)[0], unit="", high=10)
    assert stops(rate)[:3] == [0, 0.1, 0.1]
    assert len(stops(rate)) == 201


def test_decimals_and_sliders():
    by_name = {p.name: p for p in parameters.schema(Example)}
    assert decimals(by_name["eps"]) == 4
    assert decimals(by_name["rate"]) == 10
    assert has_slider(by_name["eps"])
    assert not has_slider(by_name["rate"])
    assert not has_slider(by_name["norm"])


def typed(form, qtbot, name: str, text: str):
    """What the form holds after a person has typed this instead of what was there."""
    editor = form.editor(name)
    editor.selectAll()
    if text.isascii():
        qtbot.keyClicks(editor, text)
    else:  # QTest has no keys for it: pasted
        editor.lineEdit().insert(text)
    qtbot.keyClick(editor, Qt.Key.Key_Tab)
    return form.values()[name]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1,5e1", 15.0), ("+2", 2.0), (".5", 0.5), ("0.0314159265", 0.0314159265), ("８", 8.0),
     ("1_0", 10.0), ("8/255", 8.0), ("8 /255", 8.0), (" 7 ", 7.0), ("1e-30", 1e-30), ("0" * 30 + "3", 3.0)],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en_US", "de_DE", "C"])
def test_every_notation_of_a_number_is_understood(qtbot, text, value, language):
    before = QLocale()
    QLocale.setDefault(QLocale(language))
    try:
        form = ParameterForm(parameters.schema(Example))
        qtbot.addWidget(form)
        form.set_values({"eps": 99.0})
        assert typed(form, qtbot, "eps", text) == value
        form.editor("eps").interpretText()  # what is shown means the same
        assert form.values()["eps"] == value
    finally:
        QLocale.setDefault(before)


@pytest.mark.parametrize(("text", "value"), [("2e1", 20), ("20.0", 20), ("+20", 20), ("２０", 20), ("20,0", 20)])
def test_every_notation_of_a_whole_number_is_understood(form, qtbot, text, value):
    assert typed(form, qtbot, "steps", text) == value


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("eps", "1e-400", "it is too close to 0"),
        ("eps", "1e400", "it is too large"),
        ("eps", "300", "'300' is not a number from 0 to 255."),
        ("eps", "-1", "'-1' is not a number from 0 to 255."),
        ("eps", "nan", "it has to be finite"),
        ("eps", "9" * 500, "it is too large"),
        ("eps", "abc", "'abc' is not a number from 0 to 255."),
        ("eps", "1.000,5", "is not a number from 0 to 255."),
        ("steps", "1.5", "'1.5' is not a whole number from 1 to 100."),
        ("steps", "1e9", "is not a whole number from 1 to 100."),
    ],
)
def test_what_is_none_is_refused_with_the_reason(form, qtbot, monkeypatch, name, text, reason):
    said = []
    monkeypatch.setattr("ciad_app.widgets.number_box.QToolTip.showText", lambda place, text, widget: said.append(text))
    before = form.values()[name]
    assert typed(form, qtbot, name, f"{text}\r") == before
    assert said
    assert all(reason in one for one in said)


def test_steps_change_the_second_digit(form):
    eps = form.editor("eps")
    for start, up in ((8.0, 8.1), (0.0, 0.0001), (12.0, 13.0), (0.25, 0.26), (255.0, 255.0)):
        eps.setValue(start)
        eps.stepBy(1)
        assert eps.value() == up
    eps.setValue(1.0)
    eps.stepBy(-1)
    assert eps.value() == 0.99
