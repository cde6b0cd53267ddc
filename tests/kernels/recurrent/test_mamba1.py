"""The selective scan where decay ends."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.recurrent.ops.mamba import Mamba1


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


def test_decay_reaches_zero_and_keeps_nan_to_its_channel(team):
    scan = Mamba1(team, 5, 32, 16)
    scan.a[:] = -1e30
    scan.inputs[0][1][:] = 50.0  # dt
    scan.inputs[0][0][1, 7] = np.nan
    out = scan.run([(0, 0, 5)])
    assert np.isnan(out[1:, 7]).all()
    rest = np.delete(np.arange(32), 7)
    expected, _ = scan.expected(0, 0, 5, None)
    np.testing.assert_allclose(out[:, rest], expected[:, rest], rtol=1e-4, atol=1e-4)
