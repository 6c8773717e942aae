"""Large images in tiles: where they lie, that no seam shows, and the whole way."""

from __future__ import annotations

import numpy as np
import pytest

from tlkit.evaluate.tiles import places, tiled_map, weights

SIZE = 32


@pytest.mark.parametrize("length", [10, 40, 41, 70, 71, 100, 333, 1000])
@pytest.mark.parametrize("tile", [40, 64])
def test_tiles_cover_a_side_and_overlap_by_a_quarter_or_more(length, tile):
    found = places(length, tile)
    if length <= tile:
        assert found == [0]
        return
    assert (found[0], found[-1]) == (0, length - tile)
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (tile - steps >= tile // 4).all()
    assert len(found) == 2 or len(places(length - steps.max(), tile)) < len(found)


def test_weights_rise_from_the_edges_and_are_nowhere_nothing():
    found = weights(40, 10)
    assert found.min() > 0
    assert found[:10].tolist() == sorted(found[:10].tolist())
    np.testing.assert_array_equal(found, found[::-1])
    assert (found[10:30] == 1).all()


def answered(of):
    """Return what answers tiles: two classes, the second as probable as `of` a tile says."""

    def answer(cut):
        shares = [of(own).astype(np.float32) for own in cut]
        return [np.stack([1 - share, share], axis=-1) for share in shares]

    return answer


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(100, 130), (40, 40), (41, 300), (30, 90), (300, 33)])
def test_a_map_that_says_the_same_everywhere_has_no_seam(shape):
    image = noise(*shape)
    for share, expected in ((0.4, 0), (0.6, 1)):
        found = tiled_map(image, 40, answered(lambda own, s=share: np.full(own.shape[:2], s)))
        assert found.dtype == np.uint8
        assert found.shape == shape
        assert (found == expected).all()


@pytest.mark.parametrize("shape", [(100, 130), (41, 300), (30, 90)])
def test_what_is_told_pixel_by_pixel_is_as_without_tiles(shape):
    image = noise(*shape)
    found = tiled_map(image, 40, answered(lambda own: own[..., 0] / 255))
    np.testing.assert_array_equal(found, image[..., 0] > 127)


def test_where_tiles_disagree_each_counts_most_in_its_middle():
    """A tile knows the left half of itself alone: what is near its right edge others tell."""
    image = np.full((40, 70, 3), 200, np.uint8)

    def halves(own):
        share = np.full(own.shape[:2], 0.9)
        share[:, -4:] = 0.0
        return share

    found = tiled_map(image, 40, answered(halves))
    assert (found[:, :66] == 1).all()
    assert (found[:, 66:] == 0).all()
