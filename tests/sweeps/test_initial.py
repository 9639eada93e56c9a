import numpy as np
import pytest

from sweeps.networks.initial import initial
from sweeps.networks.layered import Activation, Affine, Convolution, Dense, Layered
from tests.sweeps.networks_of import networks_of

NETWORK = Layered((3, 4, 4), (Convolution(8, 3), Affine(), Activation(), Dense(16), Activation(), Dense(10)))


def drawn(how, n=400, scale=1.0, bias_variance=0.0):
    packed = initial(networks_of(n), NETWORK, how, np.full(n, scale), np.full(n, bias_variance))
    return packed, NETWORK.unpack(packed)


@pytest.mark.parametrize(
    ("how", "variances"),
    [
        ("he", (2 / 27, 2 / 128, 2 / 16)),
        ("xavier", (2 / (27 + 72), 2 / (128 + 16), 2 / (16 + 10))),
        ("orthogonal", (2 / 27, 2 / 128, 2 / 16)),
    ],
)
def test_variances_of_weights(how, variances):
    _, ((first, _), _, _, (second, _), _, (third, _)) = drawn(how)
    for weights, variance in zip((first, second, third), variances, strict=True):
        square = (weights**2).mean((1, 2))
        assert abs(square.mean() - variance) < 4 * square.std(ddof=1) / 20 + 1e-6 * variance
        assert abs(weights.mean()) < 4 * np.sqrt(variance / weights.size)


def test_orthogonal_weights_are_isometries_where_square():
    square = Layered((8, 1, 1), (Dense(8), Activation()))
    (weights, _), _ = square.unpack(initial(networks_of(3), square, "orthogonal", np.ones(3), np.zeros(3)))
    np.testing.assert_allclose(weights @ weights.swapaxes(1, 2), np.tile(2 * np.eye(8), (3, 1, 1)), atol=2e-6)


def test_biases_scales_and_normalisations():
    plain, (_, affine, *_) = drawn("he")
    _, parts = drawn("he", scale=3.0, bias_variance=0.25)
    np.testing.assert_array_equal(affine[0], 1)
    np.testing.assert_array_equal(affine[1], 0)
    assert not any(layer[1].any() for layer in NETWORK.unpack(plain) if layer)
    np.testing.assert_allclose(parts[0][0], 3 * NETWORK.unpack(plain)[0][0], rtol=1e-15)
    biases = np.concatenate([parts[i][1].ravel() for i in (0, 3, 5)])
    assert abs((biases**2).mean() - 0.25) < 4 * 0.25 * np.sqrt(2 / len(biases))


@pytest.mark.parametrize("how", ["he", "xavier", "orthogonal"])
def test_a_network_does_not_depend_on_its_company(how):
    whole = initial(networks_of(5), NETWORK, how, np.ones(5), np.full(5, 0.1))
    for i in range(5):
        alone = initial(networks_of(1, first=i), NETWORK, how, np.ones(1), np.full(1, 0.1))
        assert alone.tobytes() == whole[i : i + 1].tobytes()


def test_layers_are_packed_in_order():
    packed = np.arange(2.0 * NETWORK.size).reshape(2, -1)
    parts = NETWORK.unpack(packed)
    assert [tuple(block.shape[1:] for block in layer) for layer in parts] == list(NETWORK.blocks)
    assert NETWORK.pack(*[[block[1] for block in layer] for layer in parts]).tobytes() == packed[1].tobytes()
    assert NETWORK.hidden == (8 * 16, 16)
    assert NETWORK.size == 27 * 8 + 8 + 16 + 128 * 16 + 16 + 16 * 10 + 10
    with pytest.raises(ValueError, match="shapes"):
        NETWORK.pack(*[[block[0].T for block in layer] for layer in parts])
