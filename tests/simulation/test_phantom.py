import pytest
import torch

from diffusionct_pipeline.simulation import ChestPhantom
from diffusionct_pipeline.simulation.vessels import grow_tree


def test_the_seed_decides_everything(phantom):
    again = ChestPhantom(seed=1, size=256, spacing_mm=1.4)
    other = ChestPhantom(seed=2, size=256, spacing_mm=1.4)
    hu = phantom.slice_hu(10.0)
    assert torch.equal(hu, again.slice_hu(10.0))
    assert (hu - other.slice_hu(10.0)).abs().mean() > 10


def test_the_default_grid_is_what_training_expects():
    phantom = ChestPhantom(seed=0)
    hu = phantom.slice_hu(0.0)
    assert (hu.shape, hu.dtype, phantom.spacing_mm) == ((1024, 1024), torch.float32, 0.35)
    assert hu.isfinite().all()


@pytest.mark.parametrize("z_mm", [-158.0, -100.0, -20.0, 40.0, 100.0, 158.0])
@pytest.mark.parametrize("style", ["human", "lungman"])
def test_every_height_holds_plausible_hu(style, z_mm):
    hu = ChestPhantom(seed=3, style=style, size=128, spacing_mm=2.8).slice_hu(z_mm)
    assert hu.isfinite().all() and hu.min() >= -1000 and hu.max() <= 1000
    assert (hu[0] == -1000).all()  # air above the patient
    assert ((hu > -150) & (hu < 150)).float().mean() > 0.15  # soft tissue
    assert (hu > 400).any()  # bone


def test_lungs_are_parenchyma_in_humans_and_air_in_plastic():
    for style, expected in (("human", -865), ("lungman", -985)):
        hu = ChestPhantom(seed=3, style=style, tumours=0, size=256, spacing_mm=1.4).slice_hu(30.0)
        lung = hu[64:192, 50:206]
        lung = lung[(lung < -750) & (lung > -999)]
        assert lung.median().item() == pytest.approx(expected, abs=25)
        assert (lung.std() < 60) if style == "lungman" else (lung.std() > 10)


def test_each_tumour_lies_under_its_label(phantom):
    assert [t.label for t in phantom.tumours] == [1, 2, 3]
    for tumour in phantom.tumours:
        z = tumour.centre_mm[2]
        mask, hu = phantom.tumour_mask(z), phantom.slice_hu(z)
        inside = mask == tumour.label
        area = inside.sum().item() * phantom.spacing_mm**2
        assert area == pytest.approx(3.14159 * tumour.radius_mm**2, rel=0.35)  # lobulated, but that large
        assert hu[inside].median().item() == pytest.approx(tumour.hu, abs=60)
        ring = torch.nn.functional.max_pool2d(inside[None].float(), 15, 1, 7)[0] > 0
        assert hu[ring & ~inside].median() < tumour.hu - 150  # lung around it


def test_the_mask_follows_the_reconstruction_grid(phantom):
    tumour = phantom.tumours[0]
    x, y, z = tumour.centre_mm
    coarse = phantom.tumour_mask(z) == 1
    fine = phantom.tumour_mask(z, spacing_mm=0.5, size=128, centre_mm=(x, y)) == 1
    assert fine.sum().item() * 0.25 == pytest.approx(coarse.sum().item() * phantom.spacing_mm**2, rel=0.05)
    assert fine[64, 64]


def test_a_slab_is_the_mean_of_its_slices(phantom):
    torch.testing.assert_close(
        phantom.slab_hu(12.0, 1.0), (phantom.slice_hu(11.75) + phantom.slice_hu(12.25)) / 2, rtol=0, atol=1e-3
    )


def test_phantoms_without_tumours_have_an_empty_mask():
    assert not ChestPhantom(seed=0, tumours=0, size=64, spacing_mm=5.6).tumour_mask(0.0).any()


def test_bad_arguments_are_named(phantom):
    with pytest.raises(ValueError, match="`style` must be .*human.*, got 'dog'"):
        ChestPhantom(0, style="dog")
    with pytest.raises(ValueError, match="`z_mm` must be .*, got 500"):
        phantom.slice_hu(500)
    with pytest.raises(ValueError, match="`tumours` must be .*, got 500"):
        ChestPhantom(0, tumours=500)


def test_a_tree_reaches_every_target_and_thins_out():
    targets = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 50
    tree = grow_tree(torch.zeros(3), targets, 0.3, 2.7, 9.0, torch.Generator().manual_seed(1))

    def gap(points, others):
        return (points[:, None] - others[None]).norm(dim=2).min(1).values.max()

    assert gap(targets, tree[:, 3:6]) < 1e-3
    assert tree[0, 6] == tree[:, 6].max() and tree[:, 7].min() == pytest.approx(0.3)
    start = torch.cat([torch.zeros(1, 3), tree[:, 3:6]])
    assert gap(tree[:, :3], start) < 1e-3  # every branch hangs on another one
