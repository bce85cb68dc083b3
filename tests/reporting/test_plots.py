import numpy as np
import pytest

from diffusionct_pipeline.metrics.agreement import REPRODUCIBLE, reproducible_fraction
from diffusionct_pipeline.reporting import plots

pytest.importorskip("matplotlib")
NAMES = ("ID/GlobalMean", "ID/Variance", "GOH/Skewness", "GOH/Range")


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    target = rng.normal(10, 3, (9, 4))
    return {name: target + rng.normal(0, s, target.shape) for name, s in (("Input", 2.0), ("Ours", 0.3))}, target


def every_figure(values):
    systems, target = values
    hu = {name: np.full((32, 32), -400.0 * i) for i, name in enumerate("abc")}
    frequency = np.linspace(0.2, 7, 20)
    return {
        "reproducible": plots.plot_reproducible_features(systems, target),
        "panel": plots.plot_panel(hu, (4, 6, 8, 8), scores={"a": "CCC .90"}, columns=2),
        "one": plots.plot_panel({"only": hu["a"]}, (4, 6, 8, 8)),
        "bland": plots.plot_bland_altman(systems["Input"][:, 0], target[:, 0], label=NAMES[0], unit="HU"),
        "boxes": plots.plot_class_boxes(systems, target, NAMES),
        "nps": plots.plot_noise_power({"a": (frequency, np.exp(-frequency)), "b": (frequency, frequency)}),
        "mtf": plots.plot_mtf({"a": (frequency, np.exp(-frequency))}),
    }


def test_every_figure_is_written_under_its_name_only(values, tmp_path):
    figures = every_figure(values)
    for name, figure in figures.items():
        assert plots.save_figure(figure, tmp_path / f"{name}.png").stat().st_size > 0
    assert sorted(p.stem for p in tmp_path.iterdir()) == sorted(figures)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_repeats_byte_for_byte(values, tmp_path, suffix):
    first, second = (
        plots.save_figure(plots.plot_class_boxes(*values, NAMES), tmp_path / f"{i}{suffix}").read_bytes() for i in "ab"
    )
    assert first == second


def test_other_formats_are_refused(values, tmp_path):
    with pytest.raises(ValueError, match="must end in .png, .pdf or .svg"):
        plots.save_figure(plots.plot_class_boxes(*values, NAMES), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_the_curve_counts_features_and_marks_published_gains_from_our_input(values):
    systems, target = values
    axes = plots.plot_reproducible_features(systems, target).axes[0]
    lines = {line.get_label(): line.get_data() for line in axes.lines}
    for name in systems:
        x, y = lines[name]
        assert y[-1] == pytest.approx(4 * reproducible_fraction(systems[name], target, x[-1]))
    x, y = lines["published gains over the input (other data)"]
    assert set(x) == {REPRODUCIBLE}
    assert y[-1] == pytest.approx(1.64 * 4 * reproducible_fraction(systems["Input"], target))


def test_bland_altman_shows_bias_and_limits(values):
    x, y = values[0]["Input"][:, 0], values[1][:, 0]
    axes = plots.plot_bland_altman(np.append(x, np.nan), np.append(y, 1.0), label="f").axes[0]
    levels = sorted(line.get_ydata()[0] for line in axes.lines[2:])  # after the line at 0 and the points
    expected = (x - y).mean() + 1.96 * (x - y).std(ddof=1) * np.array([-1, 0, 1])
    np.testing.assert_allclose(levels, expected)
    with pytest.raises(ValueError, match="at least 2 defined pairs, got 1"):
        plots.plot_bland_altman([1.0, np.nan], [1.0, 2.0], label="f")


def test_limits_of_agreement_have_intervals_that_shrink(values):
    difference = np.random.default_rng(0).normal(2, 3, 400)
    (bias, error, _), (low, of_limit, _), (high, _, _) = plots.limits_of_agreement(difference)
    assert error == pytest.approx(1.966 * difference.std(ddof=1) / 20, rel=1e-3)
    assert low < bias < high and of_limit == pytest.approx(error * np.sqrt(1 + 1.96**2 / 2), rel=0.01)
    assert plots.limits_of_agreement(difference[:100])[0][1] > 1.5 * error


def test_bland_altman_of_ratios_and_with_given_axes(values):
    x, y = np.array([2.0, 20, 200]), np.array([1.0, 10, 100])
    axes = plots.plot_bland_altman(x, y, label="f", names=("soft", "sharp"), logarithmic=True).axes[0]
    assert axes.lines[2].get_ydata()[0] == pytest.approx(2) and axes.get_ylabel() == "soft / sharp"
    with pytest.raises(ValueError, match="must be above 0"):
        plots.plot_bland_altman(x, y - 1, label="f", logarithmic=True)
    axes = plots.plot_bland_altman(x, y, label="f", limits=((0, 500), (-10, 200))).axes[0]
    assert axes.get_xlim() == (0, 500) and axes.get_ylim() == (-10, 200)


def test_panel_uses_the_papers_window_and_magnifies_the_box(values):
    hu = np.arange(32.0 * 32).reshape(32, 32)
    axes = plots.plot_panel({"only": hu}, (4, 6, 8, 10)).axes[0]
    assert axes.images[0].get_clim() == (-800, 600)
    inset = axes.child_axes[0].images[0].get_array()
    np.testing.assert_array_equal(inset, hu[4:12, 6:16])


def test_many_lines_differ_in_colour_or_style():
    assert len({(line["color"], line["linestyle"]) for line in map(plots.line_of, range(28))}) == 28
